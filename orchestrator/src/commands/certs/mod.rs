//! `gantry certs`: every certificate of a cluster and of Gantry itself, when it ends, and new ones.

mod list;
mod rotate_ca;
mod rotate_cluster_ca;
pub mod rotation;

use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::{ClusterName, ExitCode};

use super::agents::{renewals, trust};
use super::apply::ExecuteArgs;
use super::confirm::confirm;
use super::connect::{self, ConnectArgs};
use super::which::{Which, WhichArgs};
use crate::context::Context;
use crate::exit::Failure;
use crate::inventory::gather::gather;
use crate::output::{OutputFormat, date};
use crate::plan::{check, render, renew as renew_plan};
use crate::state::{State, known_clusters};

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
  gantry certs                     every certificate there is, the first to end at the top
  gantry certs -o json             the same for a program that watches it
  gantry certs renew               new ones, one control plane after the other
  gantry certs renew --due -y      only those that end within 30 days
  gantry certs rotate-ca           another CA of Gantry's own: the old one was seen, or ends
  gantry certs rotate-cluster-ca   another CA of the Kubernetes cluster

`gantry apply` renews what ends within 30 days, too; and so does gantry-renew.timer, daily, for the
clusters that root has applied, where Gantry was installed as a package.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List certificates (the same as without a word)
    List(ListArgs),
    /// Make new certificates: of the control planes, by kubeadm, one host after the other; of the agents; of this orchestrator
    Renew(RenewArgs),
    /// Replace Gantry's own CA, by overlap: no host is cut off, and one that is off is waited for
    #[command(name = "rotate-ca")]
    RotateCa(rotate_ca::Args),
    /// Replace the CA of the Kubernetes cluster, by overlap: hosts that are off are waited for
    #[command(name = "rotate-cluster-ca")]
    RotateClusterCa(rotate_cluster_ca::Args),
}

/// The flag that names the Clusterfile.
const FILE: &str = "-f";

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
        None => list::list(args.list, context),
        Some(Command::List(args)) => list::list(args, context),
        Some(Command::Renew(args)) => renew(args, context),
        Some(Command::RotateCa(args)) => rotate_ca::rotate(args, context),
        Some(Command::RotateClusterCa(args)) => rotate_cluster_ca::rotate(args, context),
    }
}

fn renew(args: RenewArgs, context: &Context) -> anyhow::Result<ExitCode> {
    if !args.all {
        let which = args.cluster.find(context)?;
        return renew_of(&args, which, context);
    }
    let mut first = ExitCode::Done;
    for name in known_clusters(&State::new(context.root()))? {
        let which = WhichArgs::new(Some(name.clone()), None, FILE).find(context);
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
                // What those have that do not answer is not known.
                if inventory.unreachable().next().is_none() {
                    anstream::eprintln!(
                        "{}: no certificate of the cluster is to be renewed.",
                        which.cluster
                    );
                }
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
            if context.identity().is_none() {
                // Who cannot be told is named below, if it is to have another certificate.
                drop(trust::deliver(&state, &dialer, Some(&which.hosts)).await?);
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
        WhichArgs::new(self.cluster.clone(), self.file.clone(), FILE).need(context)
    }
}
