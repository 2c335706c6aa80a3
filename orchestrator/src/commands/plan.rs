//! `gantry plan`: what `apply` would do, without doing it.

use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::ExitCode;

use super::connect::{self, ConnectArgs};
use super::output_file;
use super::prepare::{PlanningArgs, Prepared, Wanted, prepare};
use crate::context::Context;
use crate::output::{print, print_json};
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

    /// Write the plan to FILE as JSON, for `gantry apply -f FILE`; - is standard output
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
    let to_stdout = args
        .output
        .as_deref()
        .is_some_and(output_file::is_standard_output);
    if let Some(file) = args.output.as_deref().filter(|_| !to_stdout) {
        output_file::folder(file)?;
    }
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
    if to_stdout {
        anstream::eprint!("{}", render::render(plan));
        print_json(plan)?;
    } else {
        print(&render::render(plan))?;
    }
    if let Some(file) = args.output.filter(|_| !to_stdout) {
        let mut text = serde_json::to_vec_pretty(plan)?;
        text.push(b'\n');
        // Environment of scripts may hold passwords.
        output_file::write(&file, &text, 0o600)?;
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
