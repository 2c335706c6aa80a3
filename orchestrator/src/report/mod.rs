//! What people and programs see while a plan is executed, and at its end.
//!
//! - [`terminal`]: lines that move, one per host, for a terminal
//! - [`plain`]: one line per thing that happened, for everything else
//! - [`json`]: one JSON object per thing that happened, for programs, on standard output
//! - [`transfers`]: blobs on their way to or from a registry
//! - [`archive_progress`]: an archive that is written or read
//! - [`summary`]: what became of the hosts, failures grouped by cause

pub mod archive_progress;
pub mod json;
pub mod plain;
mod printable;
pub mod summary;
pub mod terminal;
pub mod transfers;

use std::io::IsTerminal as _;

use tokio::sync::mpsc;

use crate::execute::RunEvent;
use crate::plan::Plan;

pub use printable::{printable, printable_name};

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressMode {
    /// Lines that move on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// One line per event on standard error
    Plain,
    /// One JSON object per event on standard output
    Json,
}

/// Something that shows events.
pub trait Report: Send {
    /// Shows one event.
    ///
    /// # Errors
    /// When it cannot be written.
    fn event(&mut self, event: &RunEvent) -> anyhow::Result<()>;

    /// Clears what moved.
    fn end(&mut self) {}
}

/// The report that `mode` asks for. `verbose`: the output of scripts too.
#[must_use]
pub fn report(mode: ProgressMode, plan: &Plan, verbose: bool) -> Box<dyn Report> {
    let moving =
        std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    match mode {
        ProgressMode::Json => Box::new(json::Json),
        ProgressMode::Auto if moving => Box::new(terminal::Terminal::new(plan, verbose)),
        ProgressMode::Auto | ProgressMode::Plain => Box::new(plain::Plain::new(verbose)),
    }
}

/// Shows every event until the run ends. A report that cannot be written any more does not stop the run.
pub async fn show(mut report: Box<dyn Report>, mut events: mpsc::Receiver<RunEvent>) {
    let mut broken = false;
    while let Some(event) = events.recv().await {
        broken = broken || report.event(&event).is_err();
    }
    report.end();
}
