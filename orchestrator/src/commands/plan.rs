//! `gantry plan`: what `apply` would do, without doing it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueHint;
use gantry_model::ExitCode;
use gantry_system::files::write_atomically;

use super::connect::{self, ConnectArgs};
use super::prepare::{PlanningArgs, Prepared, Wanted, prepare};
use crate::context::Context;
use crate::exit::OrExit as _;
use crate::output::print;
use crate::plan::render;
use crate::state::State;

/// With `--detailed-exitcode`: there is something to do. The number is `terraform plan`'s.
const SOMETHING_TO_DO: ExitCode = ExitCode::Input;

/// Flags of `gantry plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Clusterfile; - is standard input
    #[arg(short, long, value_name = "FILE", default_value = "Clusterfile", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// Write the plan to FILE as JSON, for `gantry apply -f FILE`
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Exit with 0 when there is nothing to do and with 2 when there is, as `terraform plan` does;
    /// wrong usage ends with 2 as well, but prints an error
    #[arg(long)]
    detailed_exitcode: bool,

    #[command(flatten)]
    planning: PlanningArgs,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Prints the plan, and what speaks against executing it.
///
/// # Errors
/// When there is no plan, or preflight refuses it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let wanted = Wanted::read(&args.file)?;
    let image = wanted.image(&connect::store(context)?)?;
    let dialer = connect::dialer(context, &args.connect)?;
    let prepared = connect::block_on(
        async {
            let prepared = prepare(
                &wanted,
                &image,
                &State::new(context.root()),
                &dialer,
                &args.planning,
            )
            .await;
            dialer.close().await;
            prepared
        },
        "nothing was changed",
    )?;
    let Prepared { plan, .. } = &prepared;
    print(&render::render(plan))?;
    if let Some(file) = &args.output {
        let mut text = serde_json::to_vec_pretty(plan)?;
        text.push(b'\n');
        // Environment of scripts may hold passwords.
        write_atomically(file, &text, 0o600)
            .with_context(|| format!("cannot write {}", file.display()))
            .or_exit(ExitCode::Failed)?;
        anstream::eprintln!(
            "Saved. `gantry apply -f {}` executes exactly this.",
            file.display()
        );
    }
    prepared.refuse_on_findings()?;
    let to_do = plan.to_do() > 0;
    Ok(if to_do && args.detailed_exitcode {
        SOMETHING_TO_DO
    } else {
        ExitCode::Done
    })
}
