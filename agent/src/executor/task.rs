//! The executor's task: takes commands and ends of steps, one at a time.

use std::collections::HashMap;
use std::sync::Arc;

use gantry_model::{JoinPass, Step, StepAction, StepId, StepOutcome};
use gantry_protocol::{Refusal, RefusalKind};
use gantry_system::clock;
use gantry_transport::Connection;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::handle::{Answer, Command};
use super::programs::Attempt;
use super::step_watch::{StepChannels, StepWatch, channels};
use super::{look, perform, programs};
use crate::host::Host;
use crate::image_trust::{ImageTrust, TrustError};
use crate::journal::{Journal, StepKind};

/// The one owner of the journal and of what runs.
pub(super) struct Task {
    pub(super) host: Host,
    pub(super) journal: Journal,
    /// Which images this host accepts.
    trust: ImageTrust,
    commands: mpsc::Receiver<Command>,
    /// At most one step that was asked for; after a restart also scripts that outlived the last agent.
    running: HashMap<Id, Running>,
    steps: JoinSet<StepOutcome>,
    /// Nothing starts any more.
    stopping: bool,
    /// Who waits for nothing to run.
    waiting: Vec<oneshot::Sender<()>>,
}

struct Running {
    kind: StepKind,
    title: String,
    cancel: CancellationToken,
    abort: AbortHandle,
    outcome: tokio::sync::watch::Sender<Option<StepOutcome>>,
    watch: StepWatch,
    /// Whom a stage fetches from: whoever asked for it last.
    peers: tokio::sync::watch::Sender<Option<Connection>>,
}

impl Task {
    pub(super) fn new(host: Host, journal: Journal, commands: mpsc::Receiver<Command>) -> Self {
        Self {
            trust: ImageTrust::new(host.policy_file.clone(), Arc::clone(&host.image_keys)),
            host,
            journal,
            commands,
            running: HashMap::new(),
            steps: JoinSet::new(),
            stopping: false,
            waiting: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            if self.running.is_empty() {
                for reply in self.waiting.drain(..) {
                    // Whoever asked may have gone.
                    let _ = reply.send(());
                }
            }
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return,
                },
                Some(ended) = self.steps.join_next_with_id() => self.step_ended(ended),
            }
        }
    }

    /// Whoever asked may have gone away by the time the answer is there: that is no error.
    fn take(&mut self, command: Command) {
        match command {
            Command::Run {
                step,
                pass,
                peer,
                reply,
            } => drop(reply.send(blocking(|| self.run_step(*step, pass, peer)))),
            Command::Find { id, reply } => {
                let watch = self.running.values().find(|running| running.watch.id == id);
                let _ = reply.send((
                    self.journal.record(id),
                    watch.map(|running| running.watch.clone()),
                ));
            }
            Command::Cancel { id, reply } => drop(reply.send(self.cancel(id))),
            Command::Records { reply } => drop(reply.send(self.journal.records())),
            Command::Expected { cluster, reply } => drop(reply.send(self.journal.expected(&cluster))),
            Command::VerifyImage { image, reply } => {
                let verified = blocking(|| self.trust.show(*image)).map_err(untrusted);
                if let Err(refusal) = &verified {
                    tracing::warn!("{refusal}");
                }
                let _ = reply.send(verified);
            }
            Command::Ping { reply } => drop(reply.send(())),
            Command::Drain { reply } => {
                self.stopping = true;
                self.waiting.push(reply);
                for running in self.running.values() {
                    match running.kind {
                        StepKind::Stage => running.cancel.cancel(),
                        // Only our watching ends; the unit goes on and is found again.
                        kind if kind.runs_a_program() => running.abort.abort(),
                        _ => {}
                    }
                }
            }
        }
    }

    fn run_step(
        &mut self,
        step: Step,
        pass: Option<JoinPass>,
        peer: Option<Connection>,
    ) -> Result<Answer, Refusal> {
        let id = step.id();
        if let Some(running) = self.running.values().find(|running| running.watch.id == id) {
            if peer.is_some() {
                running.peers.send_replace(peer);
            }
            return Ok(Answer::Running(running.watch.clone()));
        }
        let refuse = |kind, message| Err(Refusal { kind, message });
        if self.stopping {
            return refuse(RefusalKind::Draining, "the agent is stopping; try again".into());
        }
        if let Some(running) = self.running.values().next() {
            let message = format!(
                "{} ({}) is running on this host",
                running.title,
                running.watch.id.short()
            );
            return refuse(RefusalKind::Busy, message);
        }
        if let Err(reason) = look::check(&step) {
            return refuse(RefusalKind::Invalid, reason);
        }
        if let Err(reason) = look::allowed(&self.host, &step) {
            return refuse(RefusalKind::Forbidden, reason);
        }
        // Also where everything is here: what the policy says now is what counts.
        if let Err(error) = self.trust.check(&step, &self.host.store) {
            tracing::warn!(step = %id.short(), "{error}");
            return Err(untrusted(error));
        }
        match look::already_done(&self.host, &self.journal, &step) {
            Ok(None) => {}
            Ok(Some(outcome)) => return self.note_done(&step, outcome),
            Err(reason) => return Ok(Answer::Over(StepOutcome::Failed(reason))),
        }
        if let StepAction::ForgetCluster { cluster } = &step.action {
            return self.forget(id, cluster);
        }
        let attempt = Attempt {
            pass,
            again: look::is_begun(&self.journal, &step) || look::is_relaunched(&self.journal, &step),
        };
        let kind = StepKind::of(&step);
        if kind.runs_a_program() {
            // Whatever it changes, what was before is known.
            self.host.kernel_settings.keep().map_err(internal)?;
            self.host.pod_logs.keep().map_err(internal)?;
        }
        self.journal.start(&step, clock::now_s()).map_err(internal)?;
        let (title, name) = (step.action.title(), id.short());
        tracing::info!(step = %name, cluster = step.action.cluster().map(tracing::field::display), "{title} starts");
        let cancel = CancellationToken::new();
        let (StepChannels { progress, outcome }, watch) = channels(id);
        let (peers, asked) = tokio::sync::watch::channel(peer);
        let work = perform::perform(self.host.clone(), step, attempt, asked, progress, cancel.clone());
        let abort = self.steps.spawn(work);
        self.running.insert(
            abort.id(),
            Running {
                kind,
                title,
                cancel,
                abort,
                outcome,
                watch: watch.clone(),
                peers,
            },
        );
        Ok(Answer::Running(watch))
    }

    /// A step whose effect is on the host already and that the journal does not have as done: what the journal says
    /// is what the inventory shows.
    fn note_done(&mut self, step: &Step, outcome: StepOutcome) -> Result<Answer, Refusal> {
        if self.journal.done(step.id()).is_none() && !matches!(step.action, StepAction::Stage { .. }) {
            let now = clock::now_s();
            self.journal.start(step, now).map_err(internal)?;
            self.journal.finish(step.id(), &outcome, now).map_err(internal)?;
        }
        Ok(Answer::AlreadyDone(outcome))
    }

    /// Not a line of its own in the journal: it would be the one step that is never forgotten.
    fn forget(&mut self, id: StepId, cluster: &gantry_model::ClusterName) -> Result<Answer, Refusal> {
        let forgotten = self.journal.forget(cluster).map_err(internal)?;
        tracing::info!(step = %id.short(), %cluster, "forgot {} steps", forgotten.len());
        for step in forgotten {
            self.host.scripts.remove_output(step);
        }
        Ok(Answer::Over(StepOutcome::Done { generation: None }))
    }

    /// Watches a script that outlived the last agent.
    pub(super) fn attach(&mut self, id: StepId, kind: StepKind, title: String) {
        let cancel = CancellationToken::new();
        let (StepChannels { outcome, .. }, watch) = channels(id);
        let work = programs::watch_program(self.host.clone(), id, cancel.clone());
        let abort = self.steps.spawn(work);
        let running = Running {
            kind,
            title,
            cancel,
            abort,
            outcome,
            watch,
            peers: tokio::sync::watch::Sender::new(None),
        };
        self.running.insert(running.abort.id(), running);
    }

    fn cancel(&self, id: StepId) -> Result<StepWatch, Refusal> {
        match self.running.values().find(|running| running.watch.id == id) {
            Some(running) => {
                tracing::info!(step = %id.short(), "{} is cancelled", running.title);
                running.cancel.cancel();
                Ok(running.watch.clone())
            }
            None => {
                let message = format!("step {} does not run on this host", id.short());
                Err(Refusal {
                    kind: RefusalKind::NotFound,
                    message,
                })
            }
        }
    }

    fn step_ended(&mut self, ended: Result<(Id, StepOutcome), JoinError>) {
        let (task, outcome) = match ended {
            Ok((task, outcome)) => (task, Some(outcome)),
            // Let go of while draining: its end is somebody else's to record.
            Err(error) if error.is_cancelled() => (error.id(), None),
            Err(error) => (
                error.id(),
                Some(StepOutcome::Unknown).inspect(|_| tracing::error!("{error}")),
            ),
        };
        let Some(running) = self.running.remove(&task) else {
            return;
        };
        let Some(outcome) = outcome else { return };
        let (id, title) = (running.watch.id, &running.title);
        let told = match blocking(|| self.journal.finish(id, &outcome, clock::now_s())) {
            Ok(()) => outcome,
            Err(error) => StepOutcome::Failed(format!("it ended ({outcome}), but {error}; run it again")),
        };
        if told.succeeded() {
            tracing::info!(step = %id.short(), "{title} ended: {told}");
        } else {
            tracing::warn!(step = %id.short(), "{title} ended: {told}");
        }
        running.outcome.send_replace(Some(told));
        if running.kind.runs_a_program() {
            // systemd may take its time; the next step need not wait for it.
            let scripts = self.host.scripts.clone();
            tokio::spawn(async move { scripts.release(id).await });
        }
    }
}

/// Runs what may wait for the disk. Other tasks of this worker thread move elsewhere meanwhile.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

fn untrusted(error: TrustError) -> Refusal {
    Refusal {
        kind: RefusalKind::Untrusted,
        message: error.to_string(),
    }
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal {
        kind: RefusalKind::Internal,
        message: error.to_string(),
    }
}
