//! `gantry tag`.

use gantry_model::ExitCode;

use crate::context::Context;

/// Flags of `gantry tag`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `gantry tag`.
///
/// # Errors
/// When it fails.
pub fn run(_args: Args, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("gantry tag is being written")
}
