//! `gantry stage`: bring an image's layers to the hosts ahead of the change, and change nothing that runs there.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::ExitCode;

use super::apply::{ExecuteArgs, exit_code};
use super::connect::{self, ConnectArgs};
use super::prepare::{PlanningArgs, Wanted, prepare};
use crate::context::Context;
use crate::plan::preflight::Check;
use crate::report::summary;
use crate::state::State;

/// Flags of `gantry stage`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gantry stage -f Clusterfile    the day before: every host holds and has verified all it will need
  gantry apply -f Clusterfile    in the change window: nothing travels any more")]
pub struct Args {
    /// Clusterfile, or a plan that `gantry plan -o FILE.json` saved; - is a Clusterfile on standard input
    #[arg(short, long, value_name = "FILE", default_value = "Clusterfile", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// Leave this preflight check out; may be given several times
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    skip_preflight: Vec<Check>,

    /// Go on without workers that do not answer. Exits with 4 when there are some
    #[arg(long)]
    skip_unreachable: bool,

    #[command(flatten)]
    execute: ExecuteArgs,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Executes the stage steps of the plan, without asking: they change nothing that runs.
///
/// # Errors
/// When anything before the execution refuses; failures of hosts are reported and give the exit code.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let wanted = Wanted::read(&args.file)?;
    let store = connect::store(context)?;
    let _nothing_vanishes = store.share().map_err(super::store_error)?;
    let image = wanted.image(&store)?;
    let dialer = connect::dialer(context, &args.connect)?;
    let cluster = State::new(context.root()).cluster(wanted.cluster());
    let _lock = cluster.lock("stage")?;
    let planning = PlanningArgs {
        force: false,
        skip_preflight: args.skip_preflight,
        skip_unreachable: args.skip_unreachable,
        max_unavailable: NonZeroUsize::MIN,
        back: None,
    };
    connect::block_on(
        async {
            let prepared = prepare(&wanted, &image, &State::new(context.root()), &dialer, &planning).await?;
            prepared.refuse_on_findings()?;
            let plan = prepared.plan.staging();
            let outcome = if plan.to_do() == 0 {
                let every = if plan.skipped().next().is_some() {
                    "every host that answers"
                } else {
                    "every host"
                };
                anstream::eprintln!(
                    "{}: {every} has all of {}.{}",
                    plan.cluster,
                    image.reference,
                    summary::skipped(&plan)
                );
                args.execute.nothing()?
            } else {
                args.execute.run(&plan, &dialer).await?
            };
            dialer.close().await;
            Ok(exit_code(&plan, &outcome))
        },
        "what arrived stays on the hosts; run the same command again to go on",
    )
}
