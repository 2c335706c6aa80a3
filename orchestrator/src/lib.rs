//! The Gantry orchestrator: what `gantry` does, as a library so that tests and packaging can use it.
//!
//! ```text
//! Clusterfile → inventory → plan → execute → session → report
//! ```

pub mod build;
pub mod cli;
pub mod clusterfile;
pub mod commands;
pub mod context;
pub mod execute;
pub mod exit;
pub mod inventory;
pub mod output;
pub mod plan;
pub mod report;
pub mod session;
pub mod state;
