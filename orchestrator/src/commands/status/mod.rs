//! `gantry status`: what the agents say, and what a control plane says about its cluster.

pub(super) mod health;

use std::net::IpAddr;

use gantry_model::{ExitCode, StepRecord};
use serde_json::json;

use super::connect::{self, ConnectArgs};
use super::which::{Which, WhichArgs};
use crate::context::Context;
use crate::exit::failure_hint;
use crate::inventory::gather::gather;
use crate::inventory::{ClusterInventory, HostReport, HostState};
use crate::output::{OutputFormat, Table, date, print, print_json};
use crate::state::{AgentRecord, State};

/// Flags of `gantry status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: WhichArgs,

    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Asks the agents of a cluster, or all enrolled ones, and prints what they say.
///
/// # Errors
/// When nobody can be asked. Hosts that do not answer are in the table; exit code 7.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let which = args.which.find(context)?;
    let agents = State::new(context.root()).agents().all()?;
    let hosts: Vec<IpAddr> = match &which {
        Some(which) => which.hosts.clone(),
        None => agents
            .iter()
            .filter(|(_, agent)| !agent.revoked)
            .map(|(host, _)| *host)
            .collect(),
    };
    if hosts.is_empty() {
        return Err(failure_hint(
            ExitCode::Input,
            "no cluster was applied and no host was enrolled from here",
            "`gantry token create`, then `gantry enroll HOST…`",
        ));
    }
    let dialer = connect::dialer(context, &args.connect)?;
    let (inventory, health) = connect::block_on(
        async {
            let cluster = which.as_ref().map(|which| &which.cluster);
            let inventory = gather(&dialer, &hosts, cluster).await;
            let health = match cluster {
                Some(cluster) => health::ask(&dialer, cluster, &inventory).await,
                None => None,
            };
            dialer.close().await;
            Ok((inventory, health))
        },
        "nothing was changed",
    )?;
    let record = |host: &IpAddr| agents.get(host);
    match args.output {
        OutputFormat::Table => {
            let mut text = table(which.as_ref(), &hosts, &inventory, record);
            if let Some(health) = &health {
                text.push_str(&health::render(health));
            }
            if let Some(first) = health::first_to_end(&inventory).filter(|_| which.is_some()) {
                text.push_str(&health::certificate_line(first));
            }
            print(&text)?;
        }
        OutputFormat::Json => {
            let mut document = document(which.as_ref(), &hosts, &inventory, record);
            document["health"] = json!(health);
            print_json(&document)?;
        }
    }
    for (host, reason) in inventory.unreachable() {
        anstream::eprintln!("{host}: {reason}");
    }
    Ok(inventory.exit_code())
}

fn table<'a>(
    which: Option<&Which>,
    hosts: &[IpAddr],
    inventory: &ClusterInventory,
    record: impl Fn(&IpAddr) -> Option<&'a AgentRecord>,
) -> String {
    let mut table = Table::new([
        "HOST",
        "STATE",
        "PATH",
        "AGENT",
        "GENERATION",
        "LAYERS",
        "LAST STEP",
        "CERTIFICATE ENDS",
    ]);
    for host in hosts {
        let ends = record(host).map_or_else(|| "?".into(), |agent| date(agent.not_after));
        let dash = || "-".to_owned();
        let row = match inventory.report(*host) {
            None => [
                host.to_string(),
                red(if inventory.is_refused(*host) {
                    "refused"
                } else {
                    "unreachable"
                }),
                dash(),
                dash(),
                dash(),
                dash(),
                dash(),
                ends,
            ],
            Some(report) => {
                let generation = which.and_then(|which| report.current(&which.cluster));
                let generation = generation.map_or_else(dash, |g| format!("{} ({})", g.id, g.image.short()));
                [
                    host.to_string(),
                    state(which, report),
                    report.path.clone(),
                    report.inventory.agent_version.clone(),
                    generation,
                    layers(which, report),
                    last_step(which, report).map_or_else(dash, step_text),
                    ends,
                ]
            }
        };
        table.row(row);
    }
    let cluster = which.map_or_else(
        || "All enrolled hosts".into(),
        |which| match &which.image {
            Some((image, _)) => format!("Cluster {}, image {image}", which.cluster),
            None => format!("Cluster {}", which.cluster),
        },
    );
    format!("{cluster}\n\n{}", table.render())
}

fn state(which: Option<&Which>, report: &HostReport) -> String {
    if !report.drift.is_empty() {
        return red(&format!("drifted: {}", report.drift.join("; ")));
    }
    let failed = |record: &StepRecord| {
        record
            .outcome
            .as_ref()
            .is_some_and(|outcome| !outcome.succeeded())
    };
    match last_step(which, report) {
        None => "enrolled".into(),
        Some(_) if which.is_none() && report.inventory.generations.is_empty() => "enrolled".into(),
        Some(record) if record.outcome.is_none() => "running".into(),
        Some(record) if failed(record) => red("failed"),
        Some(_) => "ok".into(),
    }
}

fn layers(which: Option<&Which>, report: &HostReport) -> String {
    let here = &report.inventory.layers;
    match which.and_then(|which| which.image.as_ref()) {
        Some((_, wanted)) => {
            let staged = wanted.iter().filter(|layer| here.contains(layer)).count();
            format!("{staged} of {}", wanted.len())
        }
        None => here.len().to_string(),
    }
}

fn last_step<'a>(which: Option<&Which>, report: &'a HostReport) -> Option<&'a StepRecord> {
    match which {
        Some(which) => report
            .records(&which.cluster)
            .max_by_key(|record| record.started_at),
        None => report
            .inventory
            .steps
            .iter()
            .max_by_key(|record| record.started_at),
    }
}

fn step_text(record: &StepRecord) -> String {
    match &record.outcome {
        None => format!("{}: runs", record.title),
        Some(outcome) if outcome.succeeded() => format!("{}: done", record.title),
        Some(outcome) => format!("{}: {outcome}", record.title),
    }
}

pub(super) fn red(text: &str) -> String {
    let style = anstyle::AnsiColor::Red.on_default();
    format!("{style}{text}{style:#}")
}

fn document<'a>(
    which: Option<&Which>,
    hosts: &[IpAddr],
    inventory: &ClusterInventory,
    record: impl Fn(&IpAddr) -> Option<&'a AgentRecord>,
) -> serde_json::Value {
    let host = |host: &IpAddr| {
        let agent = record(host);
        let mut value = match inventory.hosts.get(host) {
            Some(HostState::Reached(report)) => json!({
                "reachable": true,
                "path": report.path,
                "clockSkewMs": report.skew_ms,
                "drift": report.drift,
                "inventory": report.inventory,
            }),
            Some(HostState::Unreachable(reason) | HostState::Refused(reason)) => {
                json!({ "reachable": false, "reason": reason })
            }
            None => json!({ "reachable": false }),
        };
        value["host"] = json!(host);
        value["agent"] = json!(agent);
        value
    };
    json!({
        "cluster": which.map(|which| &which.cluster),
        "image": which.and_then(|which| which.image.as_ref()).map(|(image, _)| image),
        "hosts": hosts.iter().map(host).collect::<Vec<_>>(),
    })
}
