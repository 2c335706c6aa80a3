//! `gantry build`.

use gantry_model::ExitCode;

use crate::context::Context;

/// Flags of `gantry build`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `gantry build`.
///
/// # Errors
/// When it fails.
pub fn run(_args: Args, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("gantry build is being written")
}
