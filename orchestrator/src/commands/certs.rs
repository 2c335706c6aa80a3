//! `gantry certs`: every certificate of a cluster and of Gantry itself, when it ends, and new ones.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::{CertificateKeeper, ClusterName, ExitCode};
use gantry_system::clock::now_s;
use serde::Serialize;

use super::agents::renewals;
use super::apply::ExecuteArgs;
use super::confirm::confirm;
use super::connect::{self, ConnectArgs};
use super::enroll::seconds;
use super::which::{Which, WhichArgs};
use crate::context::Context;
use crate::exit::{Failure, OrExit as _};
use crate::inventory::ClusterInventory;
use crate::inventory::gather::gather;
use crate::output::{OutputFormat, Table, date, print, print_json};
use crate::plan::renew::RENEW_BEFORE_END_S;
use crate::plan::{check, render, renew as renew_plan};
use crate::state::{State, known_clusters};

/// Certificates that end sooner are shown in red: they should have been renewed.
const SECONDS_OF_A_DAY: i64 = 24 * 3600;
/// What stands for this machine.
const HERE: &str = "(here)";

/// Flags of `gantry certs`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    list: ListArgs,
}

const EXAMPLES: &str = "\
Examples:
  gantry certs                     every certificate of the cluster and of Gantry, the first to end at the top
  gantry certs -o json             the same for a program that watches it
  gantry certs renew               new ones, one control plane after the other
  gantry certs renew --due -y      only those that end within 30 days

`gantry apply` renews what ends within 30 days, too; and so does gantry-renew.timer, daily, for the
clusters that root has applied, where Gantry was installed as a package.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List certificates (the same as without a word)
    List(ListArgs),
    /// Make new certificates: of the control planes, by kubeadm, one host after the other; of the agents; of this orchestrator
    Renew(RenewArgs),
}

#[derive(Debug, clap::Args)]
struct ClusterArgs {
    /// Clusterfile of the cluster [default: the only cluster that was applied from here]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,

    /// Name of the cluster, when it was applied from here
    #[arg(short, long, value_name = "NAME", conflicts_with = "file")]
    cluster: Option<ClusterName>,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    cluster: ClusterArgs,

    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,

    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, clap::Args)]
struct RenewArgs {
    #[command(flatten)]
    cluster: ClusterArgs,

    /// Of every cluster that was applied from here, one after the other
    #[arg(long, conflicts_with_all = ["file", "cluster"])]
    all: bool,

    /// Only those that end within 30 days
    #[arg(long)]
    due: bool,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    execute: ExecuteArgs,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs `gantry certs`.
///
/// # Errors
/// When nobody can be asked, or certificates cannot be renewed.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    match args.command {
        None => list(args.list, context),
        Some(Command::List(args)) => list(args, context),
        Some(Command::Renew(args)) => renew(args, context),
    }
}

/// One line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    /// Where it lies; none: here.
    host: Option<IpAddr>,
    file: String,
    subject: String,
    not_after: i64,
    days_left: i64,
    keeper: CertificateKeeper,
}

fn list(args: ListArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let which = args.cluster.find(context)?;
    let dialer = connect::dialer(context, &args.connect)?;
    let inventory = connect::block_on(
        async {
            let inventory = gather(&dialer, &which.hosts, Some(&which.cluster)).await;
            dialer.close().await;
            Ok(inventory)
        },
        "nothing was changed",
    )?;
    let mut lines = of_hosts(&inventory);
    lines.extend(of_this_orchestrator(&State::new(context.root()))?);
    lines.sort_by(|a, b| (a.not_after, a.host, &a.file).cmp(&(b.not_after, b.host, &b.file)));
    match args.output {
        OutputFormat::Json => print_json(&lines)?,
        OutputFormat::Table => print(&table(&lines))?,
    }
    for (host, reason) in inventory.unreachable() {
        anstream::eprintln!("{host}: {reason}");
    }
    Ok(inventory.exit_code())
}

fn of_hosts(inventory: &ClusterInventory) -> Vec<Line> {
    let lines = inventory.reached().flat_map(|(host, report)| {
        report.inventory.certificates.iter().map(move |record| Line {
            host: Some(host),
            file: record.file.clone(),
            subject: record.subject.clone(),
            not_after: record.not_after,
            days_left: days_left(record.not_after),
            keeper: record.keeper,
        })
    });
    lines.collect()
}

/// The CA's, and those it gave to people and programs.
fn of_this_orchestrator(state: &State) -> anyhow::Result<Vec<Line>> {
    let Ok(authority) = state.authority() else {
        return Ok(Vec::new());
    };
    let own = state.identity_from(&authority)?;
    let line = |file: &str, subject: String, not_after: i64, keeper| Line {
        host: None,
        file: file.to_owned(),
        subject,
        not_after,
        days_left: days_left(not_after),
        keeper,
    };
    let ca = authority.ends().or_exit(ExitCode::Failed)?;
    let mut lines = vec![
        line(
            "Gantry's CA",
            "CA of this installation".into(),
            seconds(ca),
            CertificateKeeper::Nobody,
        ),
        line(
            "this orchestrator",
            own.name().to_owned(),
            seconds(own.not_after()),
            CertificateKeeper::Gantry,
        ),
    ];
    let given = authority
        .issued()
        .or_exit(ExitCode::Failed)?
        .into_iter()
        .filter(|record| {
            record.role != "agent" && record.name != own.name() && !own.is_revoked(&record.serial)
        });
    lines.extend(given.map(|record| {
        let ends = i64::try_from(record.not_after).unwrap_or(i64::MAX);
        line(
            &format!("{} {}", record.role, record.serial),
            record.name,
            ends,
            CertificateKeeper::Nobody,
        )
    }));
    Ok(lines)
}

fn days_left(not_after: i64) -> i64 {
    (not_after - now_s()).div_euclid(SECONDS_OF_A_DAY)
}

fn table(lines: &[Line]) -> String {
    let mut table = Table::new(["ENDS", "DAYS", "HOST", "CERTIFICATE", "OF", "RENEWED BY"]);
    for line in lines {
        let keeper = match line.keeper {
            CertificateKeeper::Kubeadm | CertificateKeeper::Gantry => "gantry",
            CertificateKeeper::Kubelet => "kubelet",
            CertificateKeeper::Nobody => "-",
        };
        let days = line.days_left.to_string();
        let soon = line.days_left * SECONDS_OF_A_DAY < RENEW_BEFORE_END_S;
        table.row([
            date(line.not_after),
            if soon { super::status::red(&days) } else { days },
            line.host.map_or_else(|| HERE.to_owned(), |host| host.to_string()),
            line.file.clone(),
            line.subject.clone(),
            keeper.to_owned(),
        ]);
    }
    table.render()
}

fn renew(args: RenewArgs, context: &Context) -> anyhow::Result<ExitCode> {
    if !args.all {
        let which = args.cluster.find(context)?;
        return renew_of(&args, which, context);
    }
    let mut first = ExitCode::Done;
    for name in known_clusters(&State::new(context.root()))? {
        let which = WhichArgs::new(Some(name.clone()), None).find(context);
        let renewed = match which {
            Ok(Some(which)) => renew_of(&args, which, context),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        // One that is busy or away holds up no other.
        let code = renewed.unwrap_or_else(|error| {
            anstream::eprintln!("Cluster {name} keeps its certificates: {error:#}");
            error
                .downcast_ref::<Failure>()
                .map_or(ExitCode::Failed, Failure::code)
        });
        if first == ExitCode::Done {
            first = code;
        }
    }
    Ok(first)
}

fn renew_of(args: &RenewArgs, which: Which, context: &Context) -> anyhow::Result<ExitCode> {
    let state = State::new(context.root());
    let dialer = connect::dialer(context, &args.connect)?;
    let _lock = state.cluster(&which.cluster).lock("certs renew")?;
    let detached = "what runs on the hosts goes on; run the same command again to follow it to its end";
    connect::block_on(
        async {
            let inventory = gather(&dialer, &which.hosts, Some(&which.cluster)).await;
            // A control plane that is away keeps certificates that end: that is to be known.
            for (host, reason) in inventory.unreachable() {
                anstream::eprintln!("{host} keeps its certificates: {reason}");
            }
            let plan = renew_plan::plan(&which.cluster, &which.hosts, &inventory, args.due);
            check::check(&plan)?;
            let mut code = inventory.exit_code();
            if plan.to_do() == 0 {
                anstream::eprintln!(
                    "{}: no certificate of the cluster is to be renewed.",
                    which.cluster
                );
                args.execute.nothing()?;
            } else {
                anstream::eprintln!("{}", render::render(&plan));
                if !confirm("Renew them? Each control plane starts anew.", args.yes).await? {
                    anstream::eprintln!("Nothing was done.");
                    return Ok(ExitCode::Interrupted);
                }
                let outcome = args.execute.run(&plan, &dialer).await?;
                if outcome.exit_code() != ExitCode::Done {
                    code = outcome.exit_code();
                }
            }
            let agents = renewals::renew(&state, &dialer, &inventory, args.due).await?;
            for (host, not_after) in &agents.renewed {
                anstream::eprintln!(
                    "{host}: its agent has a new certificate until {}.",
                    date(*not_after)
                );
            }
            for (host, reason) in &agents.missed {
                anstream::eprintln!("{host}: its agent keeps its certificate: {reason}");
            }
            if context.identity().is_none() && !args.due {
                state.renew_own_identity()?;
            }
            dialer.close().await;
            Ok(if agents.missed.is_empty() {
                code
            } else {
                ExitCode::SomeHostsFailed
            })
        },
        detached,
    )
}

impl ClusterArgs {
    fn find(&self, context: &Context) -> anyhow::Result<Which> {
        WhichArgs::new(self.cluster.clone(), self.file.clone()).need(context, "-f")
    }
}
