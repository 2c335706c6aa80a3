//! How thoroughly to measure.

/// Measured rounds when nobody says otherwise: single rounds vary by a third on a shared machine.
const ROUNDS: usize = 5;

/// How much smaller `--quick` makes all data.
const QUICK_DIVISOR: u64 = 16;

/// Rounds and sizes of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Measured rounds; one more runs before them, unmeasured.
    pub(crate) rounds: usize,
    quick: bool,
}

impl Settings {
    pub(crate) fn new(quick: bool, rounds: Option<usize>) -> Self {
        Self {
            rounds: rounds.unwrap_or(if quick { 1 } else { ROUNDS }).max(1),
            quick,
        }
    }

    /// A size in bytes, as it is in this run.
    pub(crate) fn scaled(&self, bytes: u64) -> u64 {
        if self.quick { bytes / QUICK_DIVISOR } else { bytes }
    }

    /// Whether goals mean something at these sizes.
    pub(crate) fn goals_count(&self) -> bool {
        !self.quick
    }
}
