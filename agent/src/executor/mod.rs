//! This module owns the [`Executor`]: one task that owns the journal and starts every change to this host.
//!
//! ```text
//! run(step) ─▶ known to run? ── yes ─▶ attach
//!                │ no
//!                ▼
//!              another one runs? ── yes ─▶ Busy
//!                │ no
//!                ▼
//!              its effect is here? ── yes ─▶ AlreadyDone          (look: by looking, scripts by the journal)
//!                │ no
//!                ▼
//!              journal: started (fsync) ─▶ perform ─▶ journal: finished (fsync) ─▶ watchers are told
//! ```

mod handle;
mod look;
mod perform;
mod programs;
mod recover;
mod step_watch;
mod task;

pub use handle::{Answer, Executor};
pub(crate) use perform::chain;
pub use step_watch::StepWatch;

#[cfg(test)]
mod tests;
