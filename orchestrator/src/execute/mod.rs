//! Executes a [`Plan`]: wave after wave, hosts side by side, steps of one host in order.
//!
//! ```text
//! wave 1 ──▶ barrier ──▶ wave 2 ──▶ barrier ──▶ …        a wave starts when all hosts ended the one before
//!   host A: step, step      host A: step                  on a lost connection: dial again, attach to the step
//!   host B: step, step      host B: step
//! ```
//!
//! A host that fails holds up no other host of its wave. The next wave does not start then, unless the wave says
//! that hosts go on without it.

mod event;
mod outcome;
pub mod retry;
mod step_run;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroUsize;

use futures_util::StreamExt as _;
use gantry_model::StepAction;
use tokio::sync::mpsc;

use crate::plan::{Plan, PlannedStep, Wave};
use crate::session::Sessions;

pub(crate) use step_run::brings_image;

pub use event::{EventKind, RunEvent};
pub use outcome::{Failure, HostOutcome, RunOutcome};
use retry::Backoff;

/// Events that may wait for the report; a full queue slows the hosts' sessions down, not the hosts.
pub const MAX_WAITING_EVENTS: usize = 1024;

/// How a plan is executed.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Hosts that stage at the same time.
    pub staging: NonZeroUsize,
    /// Hosts that run other steps at the same time.
    pub running: NonZeroUsize,
    /// How long a lost agent is waited for.
    pub backoff: Backoff,
}

impl Default for Settings {
    fn default() -> Self {
        // The sender's network card is full with far fewer; more only makes each host wait longer.
        let staging = NonZeroUsize::new(20).unwrap_or(NonZeroUsize::MIN);
        let running = NonZeroUsize::new(200).unwrap_or(NonZeroUsize::MIN);
        Self {
            staging,
            running,
            backoff: Backoff::default(),
        }
    }
}

/// Executes `plan` and says what became of each host. What happens meanwhile goes to `events`; dropping the future
/// ends the sessions' streams and leaves what runs on the hosts alone.
pub async fn execute<S: Sessions>(
    plan: &Plan,
    sessions: &S,
    settings: &Settings,
    events: &mpsc::Sender<RunEvent>,
) -> RunOutcome {
    let mut outcome = RunOutcome::new(plan);
    let mut out: BTreeSet<IpAddr> = BTreeSet::new();
    let evidence = plan.image.as_ref().and_then(|image| image.evidence.as_deref());
    for wave in &plan.waves {
        let hosts = steps_by_host(wave, &out);
        if hosts.is_empty() {
            continue;
        }
        let title = wave.title.clone();
        event::say(
            events,
            RunEvent::of_all(EventKind::WaveStarted {
                title,
                hosts: hosts.len(),
            }),
        )
        .await;
        let limit = if is_staging(wave) {
            settings.staging
        } else {
            settings.running
        };
        let run = |(host, steps): (IpAddr, Vec<PlannedStep>)| async move {
            (
                host,
                step_run::run_host(host, &steps, evidence, sessions, settings.backoff, events).await,
            )
        };
        let mut results = futures_util::stream::iter(hosts)
            .map(run)
            .buffer_unordered(limit.get());
        while let Some((host, result)) = results.next().await {
            if result.failure.is_some() {
                out.insert(host);
            }
            outcome.add(host, result);
        }
        if !out.is_empty() && !wave.keep_going {
            outcome.stopped_after = Some(wave.title.clone());
            break;
        }
    }
    outcome
}

/// The steps of `wave` that have to run, by host, without the hosts that are out.
fn steps_by_host(wave: &Wave, out: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Vec<PlannedStep>> {
    let mut hosts: BTreeMap<IpAddr, Vec<PlannedStep>> = BTreeMap::new();
    for step in wave
        .steps
        .iter()
        .filter(|step| step.is_to_do() && !out.contains(&step.host))
    {
        hosts.entry(step.host).or_default().push(step.clone());
    }
    hosts
}

fn is_staging(wave: &Wave) -> bool {
    wave.steps
        .iter()
        .any(|step| matches!(step.step.action, StepAction::Stage { .. }))
}

#[cfg(test)]
mod tests;
