//! `gantry reset`: takes a cluster down, removes what Gantry brought and nothing else, and says what is left.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::{ClusterName, Digest, ExitCode};
use gantry_store::Store;

use super::apply::{ApplyArgs, ExecuteArgs};
use super::confirm::confirm;
use super::connect::{self, ConnectArgs};
use super::membership;
use super::prepare::read_image;
use crate::clusterfile::{Clusterfile, Source};
use crate::context::Context;
use crate::exit::{OrExit as _, failure, failure_hint};
use crate::inventory::ClusterInventory;
use crate::inventory::gather::gather;
use crate::output::Table;
use crate::plan::{Place, PlanImage, PlannedHost, check, preflight, render, reset};
use crate::state::State;

/// Flags of `gantry reset`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Clusterfile of the cluster; - is standard input
    #[arg(short, long, value_name = "FILE", default_value = "Clusterfile", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// Do not run the image's clean.sh, nor commands of the Clusterfile
    #[arg(long)]
    no_clean: bool,

    #[command(flatten)]
    execute: ExecuteArgs,

    #[command(flatten)]
    connect: ConnectArgs,
}

impl Args {
    /// What `gantry delete --all` means.
    pub(super) fn whole(file: PathBuf, apply: ApplyArgs) -> Self {
        Self {
            file,
            yes: apply.yes,
            no_clean: false,
            execute: apply.execute,
            connect: apply.connect,
        }
    }
}

/// Takes the cluster down on every host that can be reached, also those that are no longer in the file. While another one is silent,
/// it is remembered.
///
/// # Errors
/// When nothing could be begun; failures of hosts are reported and give the exit code.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let source = Source::read(&args.file, "-f")?;
    let clusterfile = source.clusterfile()?;
    if !args.no_clean {
        source.refuse_masked_plugins(&reset::MOMENTS).or_exit_hint(
            ExitCode::Input,
            "`gantry reset --no-clean` runs neither plugins nor the image's clean.sh",
        )?;
    }
    let state = State::new(context.root());
    let store = connect::store(context)?;
    let dialer = connect::dialer(context, &args.connect)?;
    let cluster = state.cluster(&clusterfile.name);
    let _lock = cluster.lock("reset")?;
    let revoked = state.agents().revoked()?;
    let others = others(&clusterfile, cluster.applied_hosts()?, &revoked);
    let (hosts, given_up) = asked(&clusterfile, &others, &revoked);

    let detached = "what runs on the hosts goes on; run the same command again to follow it to its end";
    connect::block_on(
        async {
            let name = &clusterfile.name;
            let inventory = membership::gather_with_given_up(&dialer, &hosts, &given_up, name).await;
            let lost = lost(&inventory, &given_up);
            for (host, reason) in &lost {
                anstream::eprintln!("{host} is left as it is: {reason}");
            }
            let reached: Vec<IpAddr> = inventory.reached().map(|(host, _)| host).collect();
            // Where all are lost for good, there is the memory of them to be forgotten.
            if reached.is_empty() && !lost.is_empty() {
                let code = match inventory.exit_code() {
                    // Those that were given up were not waited for.
                    ExitCode::Done => ExitCode::Unreachable,
                    code => code,
                };
                return Err(failure(code, "no host can be reached; nothing was changed"));
            }
            let plan = reset::plan(&clusterfile, &others, &inventory, |digest| {
                if args.no_clean {
                    None
                } else {
                    image_of(&store, &clusterfile, digest)
                }
            });
            check::check(&plan)?;
            if !args.no_clean {
                refuse_unknown_images(&store, &clusterfile, &inventory)?;
            }
            let findings = preflight::allow_exec(&plan, &inventory);
            if !findings.is_empty() {
                anstream::eprintln!("Before anything was changed:\n{}", preflight::render(&findings));
                return Err(failure_hint(
                    ExitCode::Preflight,
                    format!(
                        "{} of {} hosts do not allow it; nothing was changed",
                        findings.len(),
                        plan.hosts.len()
                    ),
                    "put it right, or leave clean.sh and these commands out with `gantry reset --no-clean`",
                ));
            }
            let outcome = if plan.to_do() == 0 {
                anstream::eprintln!("{}: nothing to do.", plan.cluster);
                args.execute.nothing()?
            } else {
                anstream::eprintln!("{}", render::render(&plan));
                if !confirm("Take the cluster down?", args.yes).await? {
                    anstream::eprintln!("Nothing was done.");
                    return Ok(ExitCode::Interrupted);
                }
                args.execute.run(&plan, &dialer).await?
            };
            let after = gather(&dialer, &reached, Some(name)).await;
            dialer.close().await;
            args.execute.data(&what_is_left(&after))?;
            match outcome.exit_code() {
                ExitCode::Done if lost.is_empty() => {
                    cluster.forget()?;
                    Ok(ExitCode::Done)
                }
                ExitCode::Done => {
                    let lost: Vec<String> = lost.iter().map(|(host, _)| host.to_string()).collect();
                    anstream::eprintln!("{}", remembered(name, &lost));
                    Ok(ExitCode::SomeHostsFailed)
                }
                code => Ok(code),
            }
        },
        detached,
    )
}

/// Those of the hosts as they were `applied` last that are no longer in the file, without those that are lost for good.
fn others(clusterfile: &Clusterfile, mut applied: Vec<PlannedHost>, revoked: &[IpAddr]) -> Vec<PlannedHost> {
    applied.retain(|one| {
        let in_file = clusterfile.hosts.iter().any(|host| host.address == one.address);
        !in_file && !revoked.contains(&one.address)
    });
    applied
}

/// Addresses of the hosts that are asked, and of those that were given up and may be back.
fn asked(
    clusterfile: &Clusterfile,
    others: &[PlannedHost],
    revoked: &[IpAddr],
) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let of_file = clusterfile.hosts.iter().map(|host| host.address);
    let mut hosts: Vec<IpAddr> = of_file.filter(|host| !revoked.contains(host)).collect();
    let mut given_up = Vec::new();
    for one in others {
        if one.place == Place::GivenUp {
            given_up.push(one.address);
        } else {
            hosts.push(one.address);
        }
    }
    (hosts, given_up)
}

/// The hosts that keep what they have, and why.
fn lost(inventory: &ClusterInventory, given_up: &[IpAddr]) -> Vec<(IpAddr, String)> {
    let mut lost: Vec<(IpAddr, String)> = inventory
        .unreachable()
        .map(|(host, reason)| (host, reason.to_owned()))
        .collect();
    let silent = given_up
        .iter()
        .filter(|host| !inventory.hosts.contains_key(*host));
    lost.extend(silent.map(|host| (*host, "it was given up, and does not answer yet".to_owned())));
    lost
}

/// What is said where hosts keep what they have: the cluster is not forgotten yet.
fn remembered(name: &ClusterName, lost: &[String]) -> String {
    let (have, they) = if lost.len() == 1 {
        ("has", "it answers")
    } else {
        ("have", "they answer")
    };
    format!(
        "Cluster {name} is remembered until {} {have} been cleaned.\nhint: the same command again, when {they}; of a host that never \
         will, `gantry agents revoke HOST` lets it be forgotten",
        lost.join(", ")
    )
}

/// The image with this digest: from the store, where the Clusterfile's name may lead elsewhere by now.
fn image_of(store: &Store, clusterfile: &Clusterfile, digest: &Digest) -> Option<PlanImage> {
    let image = store.image_by_digest(digest).ok()?;
    read_image(store, &image, &clusterfile.image, &BTreeSet::new()).ok()
}

/// Without the image nobody knows whether there is a `clean.sh`; leaving it out silently would leave a runtime.
fn refuse_unknown_images(
    store: &Store,
    clusterfile: &Clusterfile,
    inventory: &ClusterInventory,
) -> anyhow::Result<()> {
    for (host, report) in inventory.reached() {
        let Some(current) = report.current(&clusterfile.name) else {
            continue;
        };
        if store.image_by_digest(&current.image).is_err() {
            return Err(failure_hint(
                ExitCode::Input,
                format!(
                    "host {host} runs image {}, which is not in the store, so its clean.sh is unknown",
                    current.image.short()
                ),
                "`gantry load -i FILE` brings the image back; or leave clean.sh out with `gantry reset --no-clean`",
            ));
        }
    }
    Ok(())
}

fn what_is_left(inventory: &ClusterInventory) -> String {
    let mut table = Table::new(["LEFT ON HOST", "CLUSTERS", "LAYERS", "INTERRUPTED", "RUNTIMES"]);
    let list = |mut words: Vec<String>| {
        words.sort();
        words.dedup();
        if words.is_empty() {
            "-".to_owned()
        } else {
            words.join(",")
        }
    };
    for (host, report) in inventory.reached() {
        let inventory = &report.inventory;
        let clusters = inventory
            .generations
            .iter()
            .map(|generation| generation.cluster.to_string())
            .collect();
        table.row([
            host.to_string(),
            list(clusters),
            inventory.layers.len().to_string(),
            inventory.partial_layers.len().to_string(),
            list(inventory.facts.runtimes.clone()),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_not_in_the_file_are_asked_unless_they_are_lost_for_good() {
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let applied = |last: u8, place| PlannedHost {
            address: address(last),
            seen: None,
            ports: Vec::new(),
            etcd: false,
            node: String::new(),
            kubernetes: None,
            place,
        };
        let text = "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  image: demo:v1\n  \
                    hosts:\n    - { ips: [ 10.0.0.2, 10.0.0.3 ], roles: [ master ] }\n";
        let clusterfile = Clusterfile::parse("Clusterfile", text).unwrap().0;
        let remembered = vec![
            applied(2, Place::Stays),
            applied(4, Place::Stays),
            applied(5, Place::GivenUp),
            applied(6, Place::GivenUp),
            applied(7, Place::Skipped),
        ];
        let revoked = [address(3), address(6)];
        let others = others(&clusterfile, remembered, &revoked);
        let (hosts, given_up) = asked(&clusterfile, &others, &revoked);
        assert_eq!(hosts, [2, 4, 7].map(address));
        assert_eq!(given_up, [address(5)]);
        let silent = lost(&ClusterInventory::default(), &given_up);
        assert_eq!(silent.len(), 1);
        assert_eq!(silent[0].0, address(5));
    }
}
