//! Faults at every step of a cluster's life, and whether the same command, run again, gets to the same end.
//!
//! ```text
//! scenario   an image and the acts of a cluster's life with it: create, join, upgrade, …, reset
//! history    what a host's journal says: the steps an act is made of, and whether a finished one ran again
//! fault      what goes wrong: orchestrator, agent or program killed, power cut, network cut
//! case       one act, one step of it on one host, one fault; and what has to hold afterwards
//! life       all acts on the same hosts, one fault at every step, or some at some
//! matrix     all cases, found by looking at acts that nothing disturbs; a sample of them by seed
//! ```
//!
//! No step is named here: a new one is covered from the day it is in a plan. A power cut is one as a machine in a
//! control group can have it: every process ends at once, and what was written but not synced is kept.

mod case;
mod fault;
mod history;
mod life;
mod matrix;
mod scenario;

pub use case::Case;
pub use fault::{Fault, Faults};
pub use life::{Life, Struck};
pub use matrix::{cases, sample, seed};
pub use scenario::{Act, Scenario};
