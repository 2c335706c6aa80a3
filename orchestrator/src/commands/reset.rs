//! `gantry reset`: takes a cluster down, removes what Gantry brought and nothing else, and says what is left.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::{Digest, ExitCode};
use gantry_store::Store;

use super::apply::{ApplyArgs, ExecuteArgs};
use super::confirm::confirm;
use super::connect::{self, ConnectArgs};
use super::prepare::read_image;
use crate::clusterfile::{Clusterfile, Source};
use crate::context::Context;
use crate::exit::{OrExit as _, failure, failure_hint};
use crate::inventory::ClusterInventory;
use crate::inventory::gather::gather;
use crate::output::Table;
use crate::plan::{PlanImage, check, preflight, render, reset};
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

/// Takes the cluster down on every host that can be reached.
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
    let hosts: Vec<IpAddr> = clusterfile.hosts.iter().map(|host| host.address).collect();

    let detached = "what runs on the hosts goes on; run the same command again to follow it to its end";
    connect::block_on(
        async {
            let inventory = gather(&dialer, &hosts, Some(&clusterfile.name)).await;
            let lost: Vec<(IpAddr, String)> = inventory
                .unreachable()
                .map(|(host, reason)| (host, reason.to_owned()))
                .collect();
            for (host, reason) in &lost {
                anstream::eprintln!("{host} is left as it is: {reason}");
            }
            if lost.len() == hosts.len() {
                return Err(failure(
                    inventory.exit_code(),
                    "no host can be reached; nothing was changed",
                ));
            }
            let plan = reset::plan(&clusterfile, &inventory, |digest| {
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
                        hosts.len()
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
            let after = gather(&dialer, &hosts, Some(&clusterfile.name)).await;
            dialer.close().await;
            args.execute.data(&what_is_left(&after))?;
            match outcome.exit_code() {
                ExitCode::Done if lost.is_empty() => {
                    cluster.forget()?;
                    Ok(ExitCode::Done)
                }
                ExitCode::Done => Ok(ExitCode::SomeHostsFailed),
                code => Ok(code),
            }
        },
        detached,
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
