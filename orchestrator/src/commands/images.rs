//! `gantry images`.

use gantry_model::ExitCode;

use crate::context::Context;

/// Flags of `gantry images`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `gantry images`.
///
/// # Errors
/// When it fails.
pub fn run(_args: Args, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("gantry images is being written")
}
