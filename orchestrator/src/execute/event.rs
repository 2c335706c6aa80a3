//! This module owns [`RunEvent`]: what happens while a plan is executed.

use std::net::IpAddr;
use std::time::Duration;

use gantry_model::{Digest, StepId, StepOutcome};
use gantry_protocol::TransferProgress;
use tokio::sync::mpsc;

use crate::plan::PlannedStep;

/// What happened, and to which step of which host; waves concern all hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEvent {
    /// The host, its step and the step's title; none for a wave.
    pub at: Option<(IpAddr, StepId, String)>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A wave starts.
    WaveStarted {
        /// Its title.
        title: String,
        /// How many hosts have something to do in it.
        hosts: usize,
    },
    /// The step runs now.
    Started,
    /// The agent has it as done; no other event follows.
    AlreadyDone,
    /// Layer bytes arrived.
    Progress(TransferProgress),
    /// The script wrote a line.
    Output {
        /// To standard error.
        stderr: bool,
        /// Bytes as they came, without the newline.
        line: Vec<u8>,
    },
    /// The agent cannot be talked to; it is tried again.
    Waiting {
        /// Why.
        reason: String,
        /// When.
        again_in: Duration,
    },
    /// The step ended.
    Finished(StepOutcome),
    /// The step could not be brought to its end from here.
    GaveUp(String),
    /// After hosts did not take what came: a layer in this machine's store is read whole and compared with its digest.
    ReadingLayer {
        /// The layer.
        layer: Digest,
        /// Which one it is, from 1.
        number: usize,
        /// Of how many.
        of: usize,
        /// Bytes that are read.
        bytes: u64,
    },
}

impl RunEvent {
    /// Something that concerns no one step.
    pub(super) const fn of_all(kind: EventKind) -> Self {
        Self { at: None, kind }
    }

    pub(super) fn of(step: &PlannedStep, kind: EventKind) -> Self {
        Self {
            at: Some((step.host, step.id, step.title.clone())),
            kind,
        }
    }
}

/// Sends an event; a report that is gone hears nothing.
pub(super) async fn say(events: &mpsc::Sender<RunEvent>, event: RunEvent) {
    let _ = events.send(event).await;
}
