//! The commands, one file each: what happens, in order.

mod addresses;
pub mod agents;
pub mod apply;
pub mod backup;
pub mod build;
pub mod cat;
pub mod certs;
pub mod check;
mod confirm;
pub mod connect;
pub mod container_images;
pub mod diff;
pub mod documents;
pub mod enroll;
pub mod history;
mod image_lists;
mod image_lists_with_auth;
mod image_signing;
mod image_trust;
pub mod images;
pub mod inspect;
mod key_file;
pub mod keys;
pub mod known_steps;
pub mod kubeconfig;
pub mod load;
mod load_parts;
pub mod login;
pub mod logs;
pub mod ls;
pub mod manifest;
mod membership;
pub mod merge;
pub mod mount;
pub mod operator;
mod output_file;
mod part_size;
pub mod plan;
pub mod prepare;
pub mod provenance;
pub mod prune;
pub mod pull;
pub mod push;
pub mod registry;
pub mod reset;
pub mod restore;
pub mod rmi;
pub mod rollback;
mod rootfs;
pub mod run;
pub mod save;
pub mod sbom;
pub mod scale;
pub mod search;
pub mod sign;
pub mod stage;
pub mod status;
pub mod store;
pub mod tag;
pub mod token;
mod transports;
pub mod tree;
pub mod verify;
pub mod which;

use gantry_model::ExitCode;

use crate::cli::{Alpha, Cli, Command};
use crate::context::Context;
use crate::exit::OrExit as _;

/// Runs the command that `cli` asks for.
///
/// # Errors
/// When the command fails; see [`crate::exit`] for how an error becomes an exit code.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let context = &Context::new(&cli.global)?;
    match cli.command {
        Command::Build(args) => connect::interruptible(|| build::run(args, context), build::GIVEN_UP),
        Command::BuildRunChild(args) => crate::build::run::run_child(&args),
        Command::RehearsalChild(args) => crate::rehearsal::run_child(&args),
        Command::RenderChart => crate::charts::run_apart(),
        Command::Images(args) => images::run(args, context),
        Command::Inspect(args) => inspect::run(args, context),
        Command::History(args) => history::run(args, context),
        Command::Ls(args) => ls::run(args, context),
        Command::Tree(args) => tree::run(args, context),
        Command::Cat(args) => cat::run(args, context),
        Command::Mount(args) => mount::mount(args, context),
        Command::Umount(args) => mount::umount(args, context),
        Command::Sbom(args) => sbom::run(args, context),
        Command::Provenance(args) => provenance::run(args, context),
        Command::Check(args) => check::run(args, context),
        Command::Diff(args) => diff::run(args, context),
        Command::Tag(args) => tag::run(args, context),
        Command::Merge(args) => merge::run(args, context),
        Command::Manifest(args) => manifest::run(args, context),
        Command::Rmi(args) => rmi::run(args, context),
        Command::Prune(args) => prune::run(args, context),
        Command::Save(args) => save::run(args, context),
        Command::Load(args) => load::run(args, context),
        Command::Pull(args) => pull::run(args, context),
        Command::Push(args) => push::run(args, context),
        Command::Sign(args) => sign::run(args, context),
        Command::Verify(args) => verify::run(args, context),
        Command::Keys(args) => keys::run(args, context),
        Command::Search(args) => search::run(args, context),
        Command::Login(args) => login::login(args, context),
        Command::Logout(args) => login::logout(args, context),
        Command::Store(args) => store::run(args, context),
        Command::Plan(args) => plan::run(args, context),
        Command::Stage(args) => stage::run(args, context),
        Command::Apply(args) => apply::run(args, context),
        Command::Run(args) => run::run(*args, context),
        Command::Join(args) => scale::join(args, context),
        Command::Delete(args) => scale::delete(args, context),
        Command::Status(args) => status::run(args, context),
        Command::Certs(args) => certs::run(args, context),
        Command::Kubeconfig(args) => kubeconfig::run(args, context),
        Command::Backup(args) => backup::run(args, context),
        Command::Restore(args) => restore::run(args, context),
        Command::Rollback(args) => rollback::run(args, context),
        Command::Logs(args) => logs::run(args, context),
        Command::Reset(args) => reset::run(args, context),
        Command::Token(args) => token::run(args, context),
        Command::Enroll(args) => enroll::run(args, context),
        Command::Agents(args) => agents::run(args, context),
        Command::Operator(args) => operator::run(args, context),
        Command::Schema => documents::print_schema(),
        Command::Completions(args) => documents::print_completions(&args),
        Command::Man(args) => documents::write_man_pages(&args),
        Command::Version(args) => documents::print_version(&args),
        Command::Alpha(Alpha::Manifest(args)) => manifest::run(args, context),
        Command::Alpha(Alpha::Mount(args)) => mount::mount(args, context),
        Command::Alpha(Alpha::Umount(args)) => mount::umount(args, context),
        Command::Alpha(Alpha::Merge(args)) => merge::run(args, context),
        Command::Alpha(Alpha::Search(args)) => search::run(args, context),
    }
}

/// A store's error with its exit code.
fn store_error(error: gantry_store::StoreError) -> anyhow::Error {
    let code = error.exit_code();
    Err::<(), _>(error).or_exit(code).expect_err("it is an error")
}

/// A layer's error with its exit code.
fn layer_error(error: gantry_store::LayerError) -> anyhow::Error {
    let code = error.exit_code();
    Err::<(), _>(error).or_exit(code).expect_err("it is an error")
}
