//! This module owns [`Executor`]: the handle others hold on the executor's task.

use gantry_model::{ClusterName, ImageEvidence, JoinPass, Step, StepId, StepOutcome, StepRecord};
use gantry_protocol::{Refusal, RefusalKind};
use gantry_transport::Connection;
use tokio::sync::{mpsc, oneshot};

use super::recover;
use super::step_watch::StepWatch;
use super::task::Task;
use crate::host::Host;
use crate::journal::{Expected, Journal};

/// Requests that may wait for the task: as many as connections may have streams that ask at once.
const QUEUE: usize = 64;

/// What became of a request to run a step.
#[derive(Debug)]
pub enum Answer {
    /// It runs.
    Running(StepWatch),
    /// There was nothing to do: this is the outcome it had, or has.
    AlreadyDone(StepOutcome),
    /// It is over already, without ever having been seen running.
    Over(StepOutcome),
}

/// What the task is asked.
pub(super) enum Command {
    Run {
        step: Box<Step>,
        pass: Option<JoinPass>,
        peer: Option<Connection>,
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    },
    Find {
        id: StepId,
        reply: oneshot::Sender<(Option<StepRecord>, Option<StepWatch>)>,
    },
    Cancel {
        id: StepId,
        reply: oneshot::Sender<Result<StepWatch, Refusal>>,
    },
    Records {
        reply: oneshot::Sender<Vec<StepRecord>>,
    },
    Expected {
        cluster: ClusterName,
        reply: oneshot::Sender<Expected>,
    },
    VerifyImage {
        image: Box<ImageEvidence>,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    Ping {
        reply: oneshot::Sender<()>,
    },
    Drain {
        reply: oneshot::Sender<()>,
    },
}

/// The handle on the task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Executor {
    commands: mpsc::Sender<Command>,
}

impl Executor {
    /// Starts the task: scripts that outlived the last agent are watched again, other unfinished steps become
    /// unknown.
    #[must_use]
    pub fn start(host: Host, journal: Journal) -> Self {
        let (commands, queue) = mpsc::channel(QUEUE);
        let mut task = Task::new(host, journal, queue);
        recover::recover(&mut task);
        tokio::spawn(task.run());
        Self { commands }
    }

    /// Runs `step`, or attaches to it, or says that it is done. `pass` is what lets this host join a cluster, `peer` is
    /// who has the layers.
    ///
    /// # Errors
    /// Why nothing was done.
    pub async fn run(
        &self,
        step: Step,
        pass: Option<JoinPass>,
        peer: Option<Connection>,
    ) -> Result<Answer, Refusal> {
        self.ask(|reply| Command::Run {
            step: Box::new(step),
            pass,
            peer,
            reply,
        })
        .await?
    }

    /// What the journal has about a step, and the step itself if it runs.
    ///
    /// # Errors
    /// When the agent is stopping.
    pub async fn find(&self, id: StepId) -> Result<(Option<StepRecord>, Option<StepWatch>), Refusal> {
        self.ask(|reply| Command::Find { id, reply }).await
    }

    /// Begins to end a running step.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn cancel(&self, id: StepId) -> Result<StepWatch, Refusal> {
        self.ask(|reply| Command::Cancel { id, reply }).await?
    }

    /// The journal's records that an inventory carries, oldest first.
    ///
    /// # Errors
    /// When the agent is stopping.
    pub async fn records(&self) -> Result<Vec<StepRecord>, Refusal> {
        self.ask(|reply| Command::Records { reply }).await
    }

    /// What finished steps of `cluster` say should be on this host.
    ///
    /// # Errors
    /// When the agent is stopping.
    pub async fn expected(&self, cluster: ClusterName) -> Result<Expected, Refusal> {
        self.ask(|reply| Command::Expected { cluster, reply }).await
    }

    /// Decides about an image by this host's policy, and remembers what speaks for it.
    ///
    /// # Errors
    /// Why the host does not accept it.
    pub async fn verify_image(&self, image: ImageEvidence) -> Result<(), Refusal> {
        self.ask(|reply| Command::VerifyImage {
            image: Box::new(image),
            reply,
        })
        .await?
    }

    /// Whether the task still takes requests.
    pub async fn is_alive(&self) -> bool {
        self.ask(|reply| Command::Ping { reply }).await.is_ok()
    }

    /// Takes no more steps and waits until none needs this program: a stage stops at what it has, a script goes on
    /// without us.
    pub async fn drain(&self) {
        // An error means that the task ended: nothing runs.
        let _ = self.ask(|reply| Command::Drain { reply }).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Refusal> {
        let stopped = || Refusal {
            kind: RefusalKind::Draining,
            message: "the agent is stopping; try again".into(),
        };
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }
}
