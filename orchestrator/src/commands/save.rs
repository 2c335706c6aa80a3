//! `gantry save`.

use gantry_model::ExitCode;

use crate::context::Context;

/// Flags of `gantry save`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `gantry save`.
///
/// # Errors
/// When it fails.
pub fn run(_args: Args, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("gantry save is being written")
}
