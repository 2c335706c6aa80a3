//! `gantry store`.

use gantry_model::ExitCode;

use crate::context::Context;

/// Flags of `gantry store`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `gantry store`.
///
/// # Errors
/// When it fails.
pub fn run(_args: Args, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("gantry store is being written")
}
