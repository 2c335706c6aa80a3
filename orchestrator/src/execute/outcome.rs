//! This module owns [`RunOutcome`]: what became of each host, and the exit code that follows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use gantry_model::{Digest, ExitCode, StepAction, StepId, StepOutcome};
use gantry_store::{Damage, Store};
use tokio::sync::mpsc;

use super::event::{EventKind, RunEvent, say};
use crate::plan::Plan;
use crate::session::SessionError;

/// Lines of a failed script's output that are kept.
pub(super) const KEPT_LINES: usize = 12;

/// What became of each host.
#[derive(Debug, Clone, Default)]
pub struct RunOutcome {
    /// Every host of the plan.
    pub hosts: BTreeMap<IpAddr, HostOutcome>,
    /// The wave after which no other was started, because of a failure.
    pub stopped_after: Option<String>,
    /// What is damaged of the layers that were to be staged, in the store they came from.
    pub damage: Vec<Damage>,
}

/// What became of one host.
#[derive(Debug, Clone, Default)]
pub struct HostOutcome {
    /// Steps that ran to their end now.
    pub done: usize,
    /// Steps the agent had as done.
    pub already_done: usize,
    /// Compressed layer bytes that travelled.
    pub received: u64,
    /// Why it is not further.
    pub failure: Option<Failure>,
}

/// Why a host is not further.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The step that failed.
    pub step: StepId,
    /// Its title.
    pub title: String,
    /// Why: how it ended on the host, or what kept us from it.
    pub cause: Cause,
    /// The last lines it wrote.
    pub last_lines: Vec<Vec<u8>>,
}

/// Why a step failed.
#[derive(Debug, Clone)]
pub enum Cause {
    /// It ended badly on the host.
    Outcome(StepOutcome),
    /// The agent could not be brought to it.
    Session(SessionError),
}

impl Failure {
    /// The cause, one line.
    #[must_use]
    pub fn reason(&self) -> String {
        match &self.cause {
            Cause::Outcome(outcome) => outcome.to_string(),
            Cause::Session(error) => error.to_string(),
        }
    }

    /// The cause for a reader who sees the host's address beside it.
    #[must_use]
    pub fn reason_at(&self, host: IpAddr) -> String {
        match &self.cause {
            Cause::Outcome(outcome) => outcome.to_string(),
            Cause::Session(error) => error.without_address(host),
        }
    }

    /// Whether the host has an output of this step to look at.
    #[must_use]
    pub const fn has_log(&self) -> bool {
        matches!(
            &self.cause,
            Cause::Outcome(StepOutcome::Script(_) | StepOutcome::Unknown)
        )
    }
}

impl RunOutcome {
    pub(super) fn new(plan: &Plan) -> Self {
        let hosts = plan
            .hosts
            .iter()
            .map(|host| (host.address, HostOutcome::default()))
            .collect();
        Self {
            hosts,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, host: IpAddr, result: HostOutcome) {
        let total = self.hosts.entry(host).or_default();
        total.done += result.done;
        total.already_done += result.already_done;
        total.received += result.received;
        if total.failure.is_none() {
            total.failure = result.failure;
        }
    }

    /// Hosts that failed, and why.
    pub fn failures(&self) -> impl Iterator<Item = (IpAddr, &Failure)> {
        self.hosts
            .iter()
            .filter_map(|(host, outcome)| Some((*host, outcome.failure.as_ref()?)))
    }

    /// Looks in `store` for damage to layers that hosts did not take: they only see that what came was not what the image says.
    /// Reads the whole blobs of those layers, and says so to `events`, once for each. May be dropped at any point.
    pub async fn find_damage(&mut self, plan: &Plan, store: &Store, events: &mpsc::Sender<RunEvent>) {
        let failed: BTreeSet<StepId> = self
            .failures()
            .filter(|(_, failure)| matches!(failure.cause, Cause::Outcome(StepOutcome::Failed(_))))
            .map(|(_, failure)| failure.step)
            .collect();
        let mut layers: BTreeMap<Digest, u64> = BTreeMap::new();
        for step in plan.steps().filter(|step| failed.contains(&step.id)) {
            if let StepAction::Stage { layers: staged, .. } = &step.step.action {
                layers.extend(staged.iter().map(|layer| (layer.digest, layer.size)));
            }
        }
        let of = layers.len();
        for (number, (layer, bytes)) in (1..).zip(layers) {
            let reading = EventKind::ReadingLayer {
                layer,
                number,
                of,
                bytes,
            };
            say(events, RunEvent::of_all(reading)).await;
            let store = store.clone();
            // On a thread of its own: whoever interrupts this command does not wait for the disk.
            let read = tokio::task::spawn_blocking(move || store.blob_damage(&layer)).await;
            match read {
                Ok(damage) => self.damage.extend(damage),
                Err(error) => tracing::error!("{error}"),
            }
        }
    }

    /// The exit code: damage, here or on a host, or else what all failures have in common, or whether some or all hosts failed.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if !self.damage.is_empty() {
            return ExitCode::Verification;
        }
        let failures: Vec<_> = self.failures().map(|(_, failure)| failure).collect();
        if failures
            .iter()
            .any(|failure| matches!(failure.cause, Cause::Outcome(StepOutcome::Damaged(_))))
        {
            return ExitCode::Verification;
        }
        let code = |failure: &Failure| match &failure.cause {
            Cause::Session(error) => error.exit_code(),
            Cause::Outcome(_) => ExitCode::Failed,
        };
        match failures.len() {
            0 => ExitCode::Done,
            failed if failed < self.hosts.len() => ExitCode::SomeHostsFailed,
            _ => {
                let first = code(failures[0]);
                let same = failures.iter().all(|failure| code(failure) == first);
                if same { first } else { ExitCode::Failed }
            }
        }
    }
}
