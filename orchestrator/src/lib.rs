//! The Gantry orchestrator: what `gantry` does, as a library so that tests and packaging can use it.
//!
//! ```text
//! Clusterfile ─▶ inventory ─▶ plan ─▶ execute ─▶ session ─▶ report
//!  clusterfile/   inventory/   plan/   execute/   session/   report/
//! ```
//!
//! - [`cli`] is the command line, [`commands`] has one file per command: what happens, in order
//! - [`clusterfile`] reads what the operator wants, [`inventory`] asks agents what is there
//! - [`plan`] is the difference, as data; [`execute`] does it, [`report`] shows it
//! - [`session`] is the only way to a host, [`state`] what this machine keeps
//! - [`build`] makes images from Kubefiles, [`sbom`] says what is in them
//! - [`charts`] renders charts of helm
//! - [`completeness`] is whether an image has every container image that its files name
//! - [`confinement`] is what programs that others wrote get of this machine
//! - [`rehearsal`] is whether its scripts ask for what only a network has
//! - [`exit`] is the one place for exit codes and errors, [`output`] for what goes to standard output

pub mod build;
pub mod charts;
pub mod cli;
pub mod clusterfile;
pub mod commands;
pub mod completeness;
pub mod confinement;
pub mod context;
pub mod execute;
pub mod exit;
pub mod inventory;
pub mod log;
pub mod output;
pub mod plan;
pub mod rehearsal;
pub mod report;
pub mod sbom;
pub mod session;
pub mod state;
