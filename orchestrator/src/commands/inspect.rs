//! `gantry inspect`.

use gantry_model::ExitCode;

use crate::context::Context;

/// Flags of `gantry inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `gantry inspect`.
///
/// # Errors
/// When it fails.
pub fn run(_args: Args, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("gantry inspect is being written")
}
