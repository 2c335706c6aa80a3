//! This module owns [`StepWatch`]: how others see a running step.

use gantry_model::{StepId, StepOutcome};
use gantry_protocol::TransferProgress;
use tokio::sync::watch;

/// A running step, seen from outside. Clones see the same step; a slow watcher misses values, never the last one.
#[derive(Debug, Clone)]
pub struct StepWatch {
    /// The step.
    pub id: StepId,
    /// How far a stage is.
    pub progress: watch::Receiver<TransferProgress>,
    /// How it ended; none while it runs. The channel closes without a value when the agent stops and the step
    /// goes on without it.
    pub outcome: watch::Receiver<Option<StepOutcome>>,
}

impl StepWatch {
    /// Waits for the end of the step. None: the agent stops, the step goes on.
    pub async fn ended(&mut self) -> Option<StepOutcome> {
        self.outcome.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// The other ends of a [`StepWatch`].
#[derive(Debug)]
pub(super) struct StepChannels {
    pub(super) progress: watch::Sender<TransferProgress>,
    pub(super) outcome: watch::Sender<Option<StepOutcome>>,
}

pub(super) fn channels(id: StepId) -> (StepChannels, StepWatch) {
    let (progress, see_progress) = watch::channel(TransferProgress::default());
    let (outcome, see_outcome) = watch::channel(None);
    (
        StepChannels { progress, outcome },
        StepWatch {
            id,
            progress: see_progress,
            outcome: see_outcome,
        },
    )
}
