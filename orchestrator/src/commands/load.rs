//! `gantry load`.

use gantry_model::ExitCode;

use crate::context::Context;

/// Flags of `gantry load`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `gantry load`.
///
/// # Errors
/// When it fails.
pub fn run(_args: Args, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("gantry load is being written")
}
