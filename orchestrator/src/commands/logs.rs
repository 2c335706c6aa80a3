//! `gantry logs`: what a step wrote, from its beginning.

use std::io::Write as _;
use std::net::IpAddr;

use gantry_model::{ExitCode, StepId, StepOutcome, StepRecord};
use gantry_protocol::StepEvent;
use tokio::sync::mpsc;

use super::connect::{self, ConnectArgs};
use super::which::WhichArgs;
use crate::context::Context;
use crate::exit::{OrExit as _, failure, failure_hint};
use crate::session::{AgentSession as _, SessionError, Sessions as _};

/// Lines on their way from the agent to the terminal.
const MAX_WAITING_LINES: usize = 256;

/// Flags of `gantry logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address of the host
    #[arg(value_name = "HOST")]
    host: IpAddr,

    /// Title of the step, e.g. init.sh, or the first digits of its id; without it the steps are listed
    #[arg(value_name = "STEP")]
    step: Option<String>,

    /// Go on until the step ends
    #[arg(short, long)]
    follow: bool,

    #[command(flatten)]
    which: WhichArgs,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Prints what the step wrote: its standard output to ours, its standard error to ours.
///
/// # Errors
/// When there is no such step, or the host cannot be reached.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let cluster = args.which.find(context)?.map(|which| which.cluster);
    let dialer = connect::dialer(context, &args.connect)?;
    let outcome = connect::block_on(
        async {
            let session = dialer.session(args.host).await.map_err(coded)?;
            let inventory = session.inventory().await.map_err(coded)?;
            let of_cluster = |record: &&StepRecord| {
                record.cluster.is_none() || cluster.is_none() || record.cluster == cluster
            };
            let records: Vec<&StepRecord> = inventory.steps.iter().filter(of_cluster).collect();
            let Some(step) = &args.step else {
                return list(&records).map(|()| None);
            };
            let step = find(args.host, step, &records)?;
            let (send, receive) = mpsc::channel(MAX_WAITING_LINES);
            let (ended, written) = tokio::join!(session.logs(step, args.follow, send), write(receive));
            written?;
            dialer.close().await;
            ended.map_err(coded)
        },
        "the step goes on; run the same command again to see more",
    )?;
    if let Some(outcome) = outcome.filter(|outcome| !outcome.succeeded()) {
        anstream::eprintln!("{}: {outcome}", args.step.unwrap_or_default());
    }
    Ok(ExitCode::Done)
}

fn coded(error: SessionError) -> anyhow::Error {
    let code = error.exit_code();
    let failed: Result<(), _> = Err(error).or_exit(code);
    failed.err().unwrap_or_else(|| failure(code, "the agent failed"))
}

/// The latest step with this title, or the one whose id starts so.
fn find(host: IpAddr, wanted: &str, records: &[&StepRecord]) -> anyhow::Result<StepId> {
    let by_title = records.iter().rev().find(|record| record.title == wanted);
    if let Some(record) = by_title {
        return Ok(record.id);
    }
    let wanted = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let by_id: Vec<_> = records
        .iter()
        .filter(|record| record.id.to_string().starts_with(wanted))
        .collect();
    match by_id.as_slice() {
        [record] => Ok(record.id),
        [] => {
            let mut titles: Vec<&str> = records.iter().map(|record| record.title.as_str()).collect();
            titles.sort_unstable();
            titles.dedup();
            let known = if titles.is_empty() {
                "it ran none".into()
            } else {
                format!("it ran {}", titles.join(", "))
            };
            Err(failure_hint(
                ExitCode::Input,
                format!("host {host} has no step {wanted:?}; {known}"),
                format!("`gantry logs {host}` lists its steps with their ids"),
            ))
        }
        several => Err(failure(
            ExitCode::Input,
            format!(
                "{} steps of host {host} have an id that starts with {wanted}; give more digits",
                several.len()
            ),
        )),
    }
}

fn list(records: &[&StepRecord]) -> anyhow::Result<()> {
    let mut table = crate::output::Table::new(["STEP", "ID", "STARTED", "OUTCOME"]);
    for record in records {
        let outcome = record
            .outcome
            .as_ref()
            .map_or_else(|| "runs".to_owned(), StepOutcome::to_string);
        table.row([
            record.title.clone(),
            record.id.short(),
            crate::output::date(record.started_at),
            outcome,
        ]);
    }
    crate::output::print(&table.render())
}

/// Bytes as the script wrote them when they go to a file; on a terminal nothing controls it.
async fn write(mut events: mpsc::Receiver<StepEvent>) -> anyhow::Result<()> {
    use std::io::IsTerminal as _;
    let (out_moves, err_moves) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
    let shown = |line: Vec<u8>, terminal: bool| {
        if terminal {
            crate::report::printable(&line).into_bytes()
        } else {
            line
        }
    };
    while let Some(event) = events.recv().await {
        let StepEvent::Output { stderr, line } = event else {
            continue;
        };
        if stderr {
            let mut line = shown(line, err_moves);
            line.push(b'\n');
            std::io::stderr().write_all(&line)?;
        } else {
            let mut line = shown(line, out_moves);
            line.push(b'\n');
            let mut out = std::io::stdout().lock();
            out.write_all(&line)?;
            out.flush()?;
        }
    }
    Ok(())
}
