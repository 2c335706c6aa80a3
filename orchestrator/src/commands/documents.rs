//! What `gantry` says about itself: the Clusterfile's schema, completions, man pages.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::builder::Resettable;
use clap::{Command, CommandFactory as _, Id, ValueHint};
use clap_complete::Shell;
use gantry_model::ExitCode;

use crate::cli::Cli;
use crate::clusterfile::schema::schema;
use crate::exit::OrExit as _;
use crate::output::{print, print_json};

/// Flags of `gantry completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Flags of `gantry man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Folder to write the pages to
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: PathBuf,
}

/// Flags of `gantry version`.
#[derive(Debug, clap::Args)]
pub struct VersionArgs {
    /// The number alone
    #[arg(short, long)]
    short: bool,
}

/// Prints the version.
///
/// # Errors
/// When standard output cannot be written.
pub fn print_version(args: &VersionArgs) -> anyhow::Result<ExitCode> {
    let command = Cli::command();
    let number = command.get_version().unwrap_or_default();
    match args.short {
        true => print(&format!("{number}\n"))?,
        false => print(&format!("{} {number}\n", command.get_name()))?,
    }
    Ok(ExitCode::Done)
}

/// Prints the JSON Schema of a Clusterfile.
///
/// # Errors
/// When standard output cannot be written.
pub fn print_schema() -> anyhow::Result<ExitCode> {
    print_json(&schema())?;
    Ok(ExitCode::Done)
}

/// Prints a completion script.
///
/// # Errors
/// When standard output cannot be written.
pub fn print_completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(&Cli::command()), "gantry", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::Done)
}

/// `command` without what its help does not show either: completions know no hidden commands and flags, but write them down.
fn shown(command: &Command) -> Command {
    let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
    let flags = flags.map(|flag| {
        let others = command.get_arg_conflicts_with(flag).into_iter();
        let others = others.filter(|other| !other.is_hide_set());
        let others: Vec<Id> = others.map(|other| other.get_id().clone()).collect();
        // What is left out can neither be asked for nor stand in the way.
        flag.clone()
            .conflicts_with(Resettable::Reset)
            .requires(Resettable::Reset)
            .required_unless_present(Resettable::Reset)
            .conflicts_with_all(others)
    });
    let commands = command.get_subcommands().filter(|one| !one.is_hide_set());
    let mut shown = Command::new(command.get_name().to_owned())
        .disable_help_subcommand(command.is_disable_help_subcommand_set())
        .visible_aliases(command.get_visible_aliases().map(str::to_owned))
        .args(flags)
        .subcommands(commands.map(shown));
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(version) = command.get_version() {
        shown = shown.version(version.to_owned());
    }
    shown
}

/// Writes a man page for each command.
///
/// # Errors
/// When a page cannot be written.
pub fn write_man_pages(args: &ManArgs) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.dir))
        .with_context(|| format!("cannot write man pages to {}", args.dir.display()))
        .or_exit(ExitCode::Failed)?;
    Ok(ExitCode::Done)
}
