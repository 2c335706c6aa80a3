//! Runs steps on one host: the state machine of a host during a wave.
//!
//! ```text
//!          ┌───────── Waiting (backoff) ◀── connection lost, agent restarts
//!          ▼                                       │
//! next ─▶ dial ─▶ run or attach ─▶ events ─────────┤
//!   ▲                                              ├─▶ Finished, succeeded ─▶ next
//!   └──────────────────────────────────────────────┤
//!                                                  └─▶ Finished, failed · refused · given up ─▶ the host is out
//! ```

use std::collections::VecDeque;
use std::net::IpAddr;

use gantry_model::{ImageEvidence, JoinPass, KubeadmAct, KubeadmSpec, StepAction, StepOutcome};
use gantry_protocol::StepEvent;
use tokio::sync::mpsc;

use super::MAX_WAITING_EVENTS;
use super::event::{EventKind, RunEvent, say};
use super::outcome::{Cause, Failure, HostOutcome, KEPT_LINES};
use super::retry::Backoff;
use crate::plan::PlannedStep;
use crate::session::{AgentSession as _, SessionError, Sessions};

/// Runs `steps` on `host`, in order, up to the first that fails.
pub(super) async fn run_host<S: Sessions>(
    host: IpAddr,
    steps: &[PlannedStep],
    evidence: Option<&ImageEvidence>,
    sessions: &S,
    backoff: Backoff,
    events: &mpsc::Sender<RunEvent>,
) -> HostOutcome {
    let mut outcome = HostOutcome::default();
    for step in steps {
        let mut run = StepRun {
            step,
            evidence,
            events,
            seen: Seen::default(),
        };
        let result = run.until_it_ends(host, sessions, backoff).await;
        outcome.received += run.seen.received_in_all();
        let cause = match result {
            Ok(ended) if ended.succeeded() => {
                outcome.done += usize::from(!run.seen.already_done);
                outcome.already_done += usize::from(run.seen.already_done);
                continue;
            }
            Ok(ended) => Cause::Outcome(ended),
            Err(error) => Cause::Session(error),
        };
        let last_lines = run.seen.last_lines.into();
        outcome.failure = Some(Failure {
            step: step.id,
            title: step.title.clone(),
            cause,
            last_lines,
        });
        break;
    }
    outcome
}

/// One step on its way.
struct StepRun<'a> {
    step: &'a PlannedStep,
    /// What speaks for the image of the plan.
    evidence: Option<&'a ImageEvidence>,
    events: &'a mpsc::Sender<RunEvent>,
    seen: Seen,
}

/// What was seen of a step so far.
#[derive(Default)]
struct Seen {
    already_done: bool,
    last_lines: VecDeque<Vec<u8>>,
    /// Bytes received in sessions before this one, and in this one.
    received_before: u64,
    received: u64,
}

impl Seen {
    const fn received_in_all(&self) -> u64 {
        self.received_before + self.received
    }

    fn note(&mut self, event: &StepEvent) {
        match event {
            StepEvent::AlreadyDone => self.already_done = true,
            StepEvent::Progress(progress) => self.received = progress.received,
            StepEvent::Output { line, .. } => {
                if self.last_lines.len() == KEPT_LINES {
                    self.last_lines.pop_front();
                }
                self.last_lines.push_back(line.clone());
            }
            StepEvent::Started | StepEvent::Finished(_) => {}
        }
    }

    /// A new session tells everything from the beginning.
    fn start_again(&mut self) {
        self.received_before += self.received;
        self.received = 0;
        self.last_lines.clear();
    }
}

impl StepRun<'_> {
    async fn until_it_ends<S: Sessions>(
        &mut self,
        host: IpAddr,
        sessions: &S,
        backoff: Backoff,
    ) -> Result<StepOutcome, SessionError> {
        let mut delays = backoff.delays();
        loop {
            let error = match self.once(host, sessions).await {
                Ok(outcome) => {
                    // What was done before did not end now.
                    if !self.seen.already_done {
                        self.say(EventKind::Finished(outcome.clone())).await;
                    }
                    return Ok(outcome);
                }
                Err(error) => error,
            };
            let delay = delays.next().filter(|_| error.heals());
            let Some(again_in) = delay else {
                self.say(EventKind::GaveUp(error.without_address(host))).await;
                return Err(error);
            };
            self.say(EventKind::Waiting {
                reason: error.without_address(host),
                again_in,
            })
            .await;
            tokio::time::sleep(again_in).await;
            self.seen.start_again();
        }
    }

    async fn once<S: Sessions>(&mut self, host: IpAddr, sessions: &S) -> Result<StepOutcome, SessionError> {
        let pass = self.pass(sessions).await?;
        let session = sessions.session(host).await?;
        if let Some(evidence) = self.evidence.filter(|_| brings_image(&self.step.step.action)) {
            session.verify_image(evidence).await?;
        }
        let (send, mut received) = mpsc::channel(MAX_WAITING_EVENTS);
        let mut run = std::pin::pin!(session.run(&self.step.step, pass, send));
        loop {
            tokio::select! {
                biased;
                Some(event) = received.recv() => self.forward(event).await,
                result = &mut run => {
                    while let Ok(event) = received.try_recv() {
                        self.forward(event).await;
                    }
                    return result;
                }
            }
        }
    }

    /// For a step by which its host joins a cluster, or gets the key of its CA: what a control plane makes to let it in. Every
    /// attempt has its own.
    async fn pass<S: Sessions>(&self, sessions: &S) -> Result<Option<JoinPass>, SessionError> {
        let (cluster, from, control_plane) = match &self.step.step.action {
            StepAction::Kubeadm(KubeadmSpec {
                cluster,
                act: KubeadmAct::Join { from, control_plane },
                ..
            }) => (cluster, *from, *control_plane),
            StepAction::SignByClusterCa {
                cluster,
                from: Some(from),
                ..
            } => (cluster, *from, true),
            _ => return Ok(None),
        };
        let session = sessions.session(from).await?;
        session.join_pass(cluster, control_plane).await.map(Some)
    }

    async fn forward(&mut self, event: StepEvent) {
        self.seen.note(&event);
        let kind = match event {
            StepEvent::AlreadyDone => EventKind::AlreadyDone,
            StepEvent::Started => EventKind::Started,
            StepEvent::Progress(progress) => EventKind::Progress(progress),
            StepEvent::Output { stderr, line } => EventKind::Output { stderr, line },
            StepEvent::Finished(_) => return,
        };
        self.say(kind).await;
    }

    async fn say(&self, kind: EventKind) {
        say(self.events, RunEvent::of(self.step, kind)).await;
    }
}

/// Whether a step brings an image to its host, or builds on one: agents do it only for an image that they accepted.
pub(crate) const fn brings_image(action: &StepAction) -> bool {
    matches!(
        action,
        StepAction::Stage { .. } | StepAction::AssembleRootfs { .. }
    )
}
