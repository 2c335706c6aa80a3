//! The commands, one file each: what happens, in order.

pub mod build;
pub mod images;
pub mod inspect;
pub mod load;
pub mod rmi;
pub mod save;
pub mod store;
pub mod tag;

use gantry_model::ExitCode;

use crate::cli::{Cli, Command};
use crate::context::Context;
use crate::exit::OrExit as _;

/// Runs the command that `cli` asks for.
///
/// # Errors
/// When the command fails; see [`crate::exit`] for how an error becomes an exit code.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let context = &Context::new(&cli.global)?;
    match cli.command {
        Command::Build(args) => build::run(args, context),
        Command::BuildRunChild(args) => crate::build::run::run_child(&args),
        Command::Images(args) => images::run(args, context),
        Command::Inspect(args) => inspect::run(args, context),
        Command::Tag(args) => tag::run(args, context),
        Command::Rmi(args) => rmi::run(args, context),
        Command::Save(args) => save::run(args, context),
        Command::Load(args) => load::run(args, context),
        Command::Store(args) => store::run(args, context),
    }
}

/// A store's error with its exit code.
fn store_error(error: gantry_store::StoreError) -> anyhow::Error {
    let code = error.exit_code();
    Err::<(), _>(error).or_exit(code).expect_err("it is an error")
}
