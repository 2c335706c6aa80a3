//! `gantry apply`: read → image → inventory → preflight → plan → execute → report.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueHint;
use gantry_model::{ExitCode, StepAction};
use tokio::sync::mpsc;

use super::agents::{renewals, trust};
use super::confirm::confirm;
use super::connect::{self, ConnectArgs};
use super::prepare::{PlanningArgs, Wanted, prepare};
use super::restore;
use super::scale;
use crate::clusterfile::{Clusterfile, Source};
use crate::context::Context;
use crate::execute::{self, MAX_WAITING_EVENTS, RunOutcome, Settings};
use crate::output::print;
use crate::plan::{Plan, PlannedStep, render};
use crate::report::{self, ProgressMode, summary};
use crate::session::Dialer;
use crate::state::{ClusterState, Rollback, State};

/// Flags of `gantry apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Clusterfile, or a plan that `gantry plan -o FILE.json` saved; - is a Clusterfile on standard input
    #[arg(short, long, value_name = "FILE", default_value = "Clusterfile", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    #[command(flatten)]
    apply: ApplyArgs,
}

/// How a Clusterfile is applied.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,

    #[command(flatten)]
    pub(super) planning: PlanningArgs,

    #[command(flatten)]
    pub(super) execute: ExecuteArgs,

    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

/// How a plan is executed and shown.
#[derive(Debug, Clone, clap::Args)]
pub struct ExecuteArgs {
    /// How many hosts stage at the same time
    #[arg(long, value_name = "N", default_value_t = Settings::default().staging)]
    parallel: NonZeroUsize,

    /// How progress is shown
    #[arg(long, value_name = "MODE", default_value = "auto")]
    progress: ProgressMode,

    /// Show what scripts write while they run
    #[arg(short, long)]
    verbose: bool,
}

/// Makes the hosts what the Clusterfile says.
///
/// # Errors
/// When anything before the execution refuses; failures of hosts are reported and give the exit code.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    apply(&Wanted::read(&args.file)?, None, &args.apply, context)
}

/// Applies an edited Clusterfile; it is written to `file` when everything that can be checked before was.
///
/// # Errors
/// As [`run`].
pub(super) fn apply_edited(
    source: Source,
    file: &Path,
    args: &ApplyArgs,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let clusterfile = Box::new(source.clusterfile()?);
    apply(
        &Wanted::Clusterfile(source, clusterfile),
        Some(file),
        args,
        context,
    )
}

/// Applies a Clusterfile that no file holds.
///
/// # Errors
/// As [`run`].
pub(super) fn apply_composed(
    source: Source,
    clusterfile: Clusterfile,
    args: &ApplyArgs,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let wanted = Wanted::Clusterfile(source, Box::new(clusterfile));
    apply(&wanted, None, args, context)
}

fn apply(
    wanted: &Wanted,
    edited: Option<&Path>,
    args: &ApplyArgs,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let store = connect::store(context)?;
    let _nothing_vanishes = store.share().map_err(super::store_error)?;
    let image = wanted.image(&store)?;
    let state = State::new(context.root());
    let dialer = connect::dialer(context, &args.connect)?;
    let cluster = state.cluster(wanted.cluster());
    let _lock = cluster.lock("apply")?;
    let mut planning = args.planning.clone();
    // A rollback that was cut off goes on, by whichever command.
    if let Some(rollback) = cluster
        .rollback()?
        .filter(|rollback| rollback.to.digest == image.digest)
    {
        planning.back.get_or_insert(rollback.back);
    }

    let detached = "what runs on the hosts goes on; run the same command again to follow it to its end";
    connect::block_on(
        async {
            let prepared = prepare(wanted, &image, &state, &dialer, &planning).await?;
            prepared.refuse_on_findings()?;
            let plan = prepared.plan;
            if context.identity().is_none() {
                // A host that is lost by now is met again, and named, when its steps run.
                drop(trust::deliver(&state, &dialer, Some(&wanted.hosts())).await?);
                renewals::renew_due(&state, &dialer, &prepared.inventory).await?;
            }
            let source = if let Wanted::Clusterfile(source, _) = wanted {
                Some(source)
            } else {
                None
            };
            let write_edited = || match (edited, source) {
                (Some(file), Some(source)) => scale::write(source, file),
                _ => Ok(()),
            };
            if plan.to_do() == 0 {
                write_edited()?;
                cluster.save(source, &plan.clone().without_left(&state.agents().revoked()?))?;
                end_rollback(&cluster, &plan)?;
                dialer.close().await;
                anstream::eprintln!("{}: nothing to do.", plan.cluster);
                anstream::eprint!("{}", summary::skipped(&plan));
                return Ok(exit_code(&plan, &args.execute.nothing()?));
            }
            anstream::eprintln!("{}", render::render(&plan));
            if !confirm("Go ahead?", args.yes).await? {
                anstream::eprintln!("Nothing was done.");
                return Ok(ExitCode::Interrupted);
            }
            write_edited()?;
            if let (Some(back), Some(to)) = (&planning.back, &plan.image) {
                let (to, back) = (to.clone(), back.clone());
                cluster.begin_rollback(&Rollback { to, back })?;
            }
            cluster.save(source, &plan)?;
            let outcome = args.execute.run(&plan, &dialer).await?;
            dialer.close().await;
            let stops = |step: &PlannedStep| matches!(step.step.action, StepAction::StopApiServer { .. });
            if outcome.exit_code() != ExitCode::Done && plan.steps().any(stops) {
                anstream::eprintln!("{}", restore::stopped(&plan.cluster));
            }
            if outcome.exit_code() == ExitCode::Done {
                // Hosts that have left are no longer asked about.
                let lost = state.agents().revoked()?;
                cluster.save(source, &plan.clone().without_left(&lost))?;
                end_rollback(&cluster, &plan)?;
            }
            Ok(exit_code(&plan, &outcome))
        },
        detached,
    )
}

/// The rollback is over when every host is back.
fn end_rollback(cluster: &ClusterState, plan: &Plan) -> anyhow::Result<()> {
    if plan.skipped().next().is_none() {
        cluster.end_rollback()?;
    }
    Ok(())
}

/// What the shell is told: hosts that were skipped are not done.
pub(super) fn exit_code(plan: &Plan, outcome: &RunOutcome) -> ExitCode {
    match outcome.exit_code() {
        ExitCode::Done if plan.skipped().next().is_some() => ExitCode::SomeHostsFailed,
        code => code,
    }
}

impl ExecuteArgs {
    /// Executes `plan`, shows how it goes and what became of it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(super) async fn run(&self, plan: &Plan, dialer: &Dialer) -> anyhow::Result<RunOutcome> {
        let started = Instant::now();
        let (events, received) = mpsc::channel(MAX_WAITING_EVENTS);
        let settings = Settings {
            staging: self.parallel,
            ..Settings::default()
        };
        let show = report::show(report::report(self.progress, plan, self.verbose), received);
        let execute = async {
            let mut outcome = execute::execute(plan, dialer, &settings, &events).await;
            outcome.find_damage(plan, dialer.store(), &events).await;
            drop(events);
            outcome
        };
        let (outcome, ()) = tokio::join!(execute, show);
        anstream::eprint!("{}", summary::summary(plan, &outcome, started.elapsed()));
        self.end(&outcome)?;
        Ok(outcome)
    }

    /// What became of a plan in which there was nothing to do.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(super) fn nothing(&self) -> anyhow::Result<RunOutcome> {
        let outcome = RunOutcome::default();
        self.end(&outcome)?;
        Ok(outcome)
    }

    /// Prints `text` for people where it does not mix with lines for programs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn data(&self, text: &str) -> anyhow::Result<()> {
        if self.progress == ProgressMode::Json {
            anstream::eprint!("{text}");
            return Ok(());
        }
        print(text)
    }

    /// The last line for programs.
    fn end(&self, outcome: &RunOutcome) -> anyhow::Result<()> {
        if self.progress == ProgressMode::Json {
            report::json::end(outcome)
        } else {
            Ok(())
        }
    }
}
