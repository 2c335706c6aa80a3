//! `gantry rmi`.

use gantry_model::ExitCode;

use crate::context::Context;

/// Flags of `gantry rmi`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `gantry rmi`.
///
/// # Errors
/// When it fails.
pub fn run(_args: Args, _context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("gantry rmi is being written")
}
