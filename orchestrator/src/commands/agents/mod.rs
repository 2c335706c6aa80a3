//! `gantry agents`: the enrolled hosts.

pub mod renewals;
pub mod trust;

use std::collections::BTreeSet;
use std::net::IpAddr;

use gantry_model::ExitCode;
use gantry_system::clock::now_s;
use gantry_transport::Role;

use super::connect::ConnectArgs;
use crate::context::Context;
use crate::exit::{OrExit as _, failure_hint};
use crate::output::{OutputFormat, Table, date, print, print_json};
use crate::state::State;

/// Flags of `gantry agents`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List enrolled hosts (the same as without a word)
    List(ListArgs),
    /// Revoke hosts' certificates: agents, and this orchestrator, refuse them from now on
    Revoke(RevokeArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,
}

#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// Addresses of the hosts
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<IpAddr>,

    /// Take the hosts off the list, too
    #[arg(long)]
    forget: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs `gantry agents`.
///
/// # Errors
/// When the list cannot be read, or a host is not on it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    match args.command {
        None => list(&args.list, context),
        Some(Command::List(args)) => list(&args, context),
        Some(Command::Revoke(args)) => revoke(&args, context),
    }
}

fn list(args: &ListArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let agents = State::new(context.root()).agents().all()?;
    if args.output == OutputFormat::Json {
        print_json(&agents)?;
        return Ok(ExitCode::Done);
    }
    if agents.is_empty() {
        anstream::eprintln!("No hosts are enrolled. `gantry token create`, then `gantry enroll HOST…`.");
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new(["HOST", "NAME", "ENROLLED", "CERTIFICATE ENDS", "KEY", "STATE"]);
    for (address, agent) in agents {
        let key = agent.fingerprint.chars().take(16).collect();
        let state = if agent.revoked { "revoked" } else { "enrolled" };
        let (enrolled, ends) = (date(agent.enrolled_at), date(agent.not_after));
        table.row([address.to_string(), agent.name, enrolled, ends, key, state.into()]);
    }
    print(&table.render())?;
    Ok(ExitCode::Done)
}

fn revoke(args: &RevokeArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let state = State::new(context.root());
    // Where there is none, there is no folder for a lock either.
    state.authority()?;
    // Otherwise a CA that is being made would not know what the one before it takes back.
    let _alone = state.lock_rotation()?;
    let authority = state.authority()?;
    let agents = state.agents().all()?;
    let issued = authority.issued().or_exit(ExitCode::Failed)?;
    // A renewal leaves the certificate before it as it was; both are of the same key.
    let serials = |host: &IpAddr| {
        let name = agents
            .get(host)
            .map_or_else(|| host.to_string(), |agent| agent.name.clone());
        let of_host = issued
            .iter()
            .filter(|record| record.role == Role::Agent.as_str() && record.name == name);
        let holding = of_host.filter(|record| i64::try_from(record.not_after).is_ok_and(|end| end > now_s()));
        let recorded = agents.get(host).map(|agent| agent.serial.clone());
        let serials = holding.map(|record| record.serial.clone());
        serials.chain(recorded).collect::<BTreeSet<_>>()
    };
    let unknown: Vec<String> = args
        .hosts
        .iter()
        .filter(|host| serials(host).is_empty())
        .map(ToString::to_string)
        .collect();
    if !unknown.is_empty() {
        let message = format!(
            "not enrolled from here: {}; nothing was revoked",
            unknown.join(", ")
        );
        return Err(failure_hint(
            ExitCode::Input,
            message,
            "`gantry agents` lists the enrolled hosts",
        ));
    }
    for host in &args.hosts {
        let mut revoked = Vec::new();
        for serial in serials(host) {
            let before = authority.is_revoked(&serial).or_exit(ExitCode::Failed)?;
            // Also when it is known already: who was killed may have written that down and no list.
            authority.revoke(&serial).or_exit(ExitCode::Failed)?;
            if !before {
                revoked.push(serial);
            }
        }
        state.agents().update(|agents| {
            if args.forget {
                agents.remove(host);
            } else if let Some(agent) = agents.get_mut(host) {
                agent.revoked = true;
            }
        })?;
        match revoked.as_slice() {
            [] => anstream::eprintln!("{host} is revoked already."),
            [one] => anstream::eprintln!("Revoked {host} (certificate {one})."),
            several => anstream::eprintln!("Revoked {host} (certificates {}).", several.join(", ")),
        }
    }
    trust::deliver_to_all(context, &args.connect)
}

/// The address of `host`; names are resolved on this machine.
///
/// # Errors
/// When a name leads to no address.
pub(super) fn resolve(host: &str, port: u16) -> anyhow::Result<IpAddr> {
    use std::net::ToSocketAddrs as _;
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let resolved = (host, port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next());
    resolved.map(|address| address.ip()).ok_or_else(|| {
        failure_hint(
            ExitCode::Input,
            format!("host {host:?} is unknown"),
            "give its address: Clusterfiles name hosts by address",
        )
    })
}
