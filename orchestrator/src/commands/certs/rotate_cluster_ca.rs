//! `gantry certs rotate-cluster-ca`: another CA of the Kubernetes cluster takes the place of the present one.

use std::net::IpAddr;
use std::num::NonZeroUsize;

use gantry_model::{ExitCode, Step};
use gantry_system::clock::now_s;

use super::ClusterArgs;
use crate::commands::apply::ExecuteArgs;
use crate::commands::confirm::confirm;
use crate::commands::connect::{self, ConnectArgs};
use crate::commands::known_steps::refuse_unknown;
use crate::commands::status::health;
use crate::commands::which::Which;
use crate::context::Context;
use crate::exit::{failure, failure_hint};
use crate::inventory::ClusterInventory;
use crate::inventory::gather::gather;
use crate::output::date;
use crate::plan::cluster_ca::{Replacement, Stage, changes_hosts, makes_ca};
use crate::plan::{Plan, check, render};
use crate::session::Dialer;
use crate::state::State;

/// A CA that took the place of another less than this ago, in seconds, is not replaced by a command that is run once more.
const RECENT_S: i64 = 24 * 3600;
/// Plans that a replacement consists of.
const STAGES: usize = 4;

/// Flags of `gantry certs rotate-cluster-ca`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,

    /// How many workers start kubelet anew at the same time; control planes are one after the other
    #[arg(long, value_name = "N", default_value = "1")]
    max_unavailable: NonZeroUsize,

    /// Replace a CA, too, that took the place of another within the last day
    #[arg(long, conflicts_with = "abort")]
    again: bool,

    /// Take the new CA out again, which is possible until it signs
    #[arg(long)]
    abort: bool,

    /// Pods that ask the API server were started anew since both CAs are trusted: with -y, too, the new one may sign
    #[arg(long, conflicts_with = "abort")]
    pods_restarted: bool,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    execute: ExecuteArgs,

    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
This replaces the CA of the Kubernetes cluster (/etc/kubernetes/pki/ca.crt), in four plans. Each is
shown and asked about.

  1. The first control plane makes another CA. Its key goes to the other control planes alone, as
     it does when they join. Nobody uses it yet.
  2. Every host trusts both, control planes one after the other, then workers: API server,
     controller manager, scheduler and kubelet start anew. Then cluster-info (kube-public) and the
     service accounts know both, and the pods of kube-system (kube-proxy, DNS, the pods' network)
     start anew, one of ten at a time; those that did since are left alone.
  3. The new CA signs: every certificate of the control planes and of kubelets is made anew.
  4. When every host has moved, the old CA is dropped. What it signed is refused from then on.

Applications go on. Those that ask the API server themselves (operators, ingress controllers, the
pods' network outside kube-system) read its CA when they start: start them anew between 2 and 3,
with `kubectl --namespace NAME rollout restart deployment,daemonset,statefulset`. So -y stops
before 3, with exit code 3, unless --pods-restarted says that this was done or is not needed.
Copies of a kubeconfig end with the old CA: `gantry kubeconfig` gives another one from 3 on, good
for after 4.

Every control plane has to answer. Workers that are off keep 3 from being done, and are named: both
are trusted until then, and everything works. Run it again when they are back, or take them out of
the Clusterfile and apply. Members that a file given with -f leaves out are asked as well, until an
apply has taken them out; where the cluster has nodes besides, they are named and nothing is done.
It goes on where it stopped, whatever was killed. Meanwhile no host joins, and no version changes.
Until 3, --abort takes the new CA out again; it is the way on, too, where the control plane that
made it was lost. Wherever either was cut off, one of them goes on, and the other says so: what has
begun to sign goes forward, what has begun to be taken out goes out.

The CAs of etcd and of aggregated API servers (front-proxy) stay as they are, and so do serving
certificates that kubelets have of the cluster (serverTLSBootstrap).

Examples:
  gantry certs rotate-cluster-ca                      begin, or go on
  gantry certs rotate-cluster-ca -y                   from a script, to where both are trusted: exit
                                                      code 4 while hosts are missing, else 3
  gantry certs rotate-cluster-ca -y --pods-restarted  to the end; nothing is done again within a day
  gantry certs rotate-cluster-ca --abort              back to the old CA alone
  gantry certs                                        when the CA ends, and what it signed";

/// What came of a plan.
enum Went {
    /// It was done.
    Well,
    /// It was not begun, or did not come to its end.
    Not(ExitCode),
}

/// Runs `gantry certs rotate-cluster-ca`.
///
/// # Errors
/// When a control plane does not answer, another command changes the hosts, or nobody can answer a question.
pub(super) fn rotate(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let mut which = args.cluster.find(context)?;
    let state = State::new(context.root());
    for host in which.add_applied(&state)? {
        anstream::eprintln!(
            "{host} is not in the Clusterfile, and was in cluster {} when it was applied last: it is asked, too.",
            which.cluster
        );
    }
    let dialer = connect::dialer(context, &args.connect)?;
    let _lock = state.cluster(&which.cluster).lock("certs rotate-cluster-ca")?;
    let detached = "what runs on the hosts goes on, and both CAs are trusted where they were; run the same command again";
    connect::block_on(
        async {
            let code = if args.abort {
                abort(&args, &which, &dialer).await
            } else {
                go_on(&args, &which, &dialer).await
            };
            dialer.close().await;
            code
        },
        detached,
    )
}

async fn go_on(args: &Args, which: &Which, dialer: &Dialer) -> anyhow::Result<ExitCode> {
    // Whether one took the place of another in this run: that one is not replaced again.
    let mut went_on = false;
    // More looks than there are plans: hosts may come back in between. The last finds nothing to do.
    for done in 0..=2 * STAGES {
        let inventory = gather(dialer, &which.hosts, Some(&which.cluster)).await;
        let replacement = replacement(args, which, &inventory)?;
        let missing = replacement.missing();
        // Whose name is not known may be one of those that do not answer; then nothing is signed yet either.
        if missing.is_empty() {
            let health = health::ask(dialer, &which.cluster, &inventory).await;
            replacement.refuse_unasked(&health.unwrap_or_default().nodes)?;
        }
        let (plan, question) = match replacement.stage()? {
            Stage::Make(plan) => (plan, "Make another CA for the cluster? Nothing uses it yet."),
            // Also where something was left of the replacement before.
            Stage::Replaced { at, again } if !went_on && (args.again || now_s() - at >= RECENT_S) => {
                replacement.check_clocks()?;
                (*again, "Make another CA for the cluster? Nothing uses it yet.")
            }
            Stage::Replaced { at, .. } => {
                let ends = replacement.newest().map_or(0, |ca| ca.not_after);
                anstream::eprintln!(
                    "{}: the CA that took the place of another on {} is the only one; it ends on {}.{}",
                    which.cluster,
                    date(at),
                    date(ends),
                    match (went_on, done) {
                        (true, _) => "",
                        (false, 0) => " Nothing to do; --again replaces it, too.",
                        (false, _) => " Nothing more to do; --again replaces it, too.",
                    }
                );
                if done == 0 {
                    args.execute.nothing()?;
                }
                return Ok(inventory.exit_code());
            }
            Stage::Trust(plan) => (
                plan,
                "Let every host trust both CAs? Control planes start anew, one after the other, then pods of kube-system.",
            ),
            Stage::Sign { has_begun: false, .. } if args.yes && !args.pods_restarted => {
                return Err(failure_hint(
                    ExitCode::Preflight,
                    "every host trusts both CAs; before the new one signs, pods outside kube-system that ask the API server are to be \
                     started anew",
                    "`kubectl --namespace NAME rollout restart deployment,daemonset,statefulset` does it; then \
                     `gantry certs rotate-cluster-ca -y --pods-restarted` goes on. Until then everything works",
                ));
            }
            Stage::Sign { plan, .. } => (
                plan,
                "Let the new CA sign? Pods outside kube-system that ask the API server, and did not start since both are trusted, \
                 are to be started anew before.",
            ),
            Stage::Drop(plan) => (
                plan,
                "Drop the old CA? Who has nothing but a certificate of it is refused then.",
            ),
            Stage::Wait => {
                tell_missing(missing);
                anstream::eprintln!(
                    "Every other host has done its part. It goes on when these are back: run this again then; until then everything \
                     works. A host that is gone for good: take it out of the Clusterfile, and `gantry apply --force`."
                );
                return Ok(ExitCode::SomeHostsFailed);
            }
        };
        if done == 0 {
            tell_missing(missing);
        }
        // An agent that is too old is found before there is anything to go back from.
        let later = if makes_ca(&plan) {
            replacement.to_come()
        } else {
            Vec::new()
        };
        match run(args, &plan, &later, question, dialer).await? {
            Went::Well => went_on |= changes_hosts(&plan),
            Went::Not(code) => return Ok(code),
        }
    }
    Err(failure(
        ExitCode::Failed,
        "the plans were done, and there is still something to do; `gantry status` shows the hosts, and the same command goes on",
    ))
}

fn replacement<'a>(
    args: &Args,
    which: &'a Which,
    inventory: &'a ClusterInventory,
) -> anyhow::Result<Replacement<'a>> {
    let Which {
        cluster,
        hosts,
        masters,
        ..
    } = which;
    Replacement::new(cluster, hosts, masters, inventory, args.max_unavailable)
}

/// Takes the new CA out again.
async fn abort(args: &Args, which: &Which, dialer: &Dialer) -> anyhow::Result<ExitCode> {
    let inventory = gather(dialer, &which.hosts, Some(&which.cluster)).await;
    let replacement = replacement(args, which, &inventory)?;
    tell_missing(replacement.missing());
    match replacement.withdrawal()? {
        Some(plan) => {
            let question =
                "Take the new CA out again? Control planes that trust it start anew, one after the other.";
            if let Went::Not(code) = run(args, &plan, &[], question, dialer).await? {
                return Ok(code);
            }
            anstream::eprintln!(
                "{}: the new CA is gone; the old one is the only one.",
                which.cluster
            );
        }
        None => {
            anstream::eprintln!("{}: no CA is being replaced. Nothing to do.", which.cluster);
            args.execute.nothing()?;
        }
    }
    if replacement.missing().is_empty() {
        return Ok(ExitCode::Done);
    }
    anstream::eprintln!(
        "The hosts that do not answer may trust both yet, which does no harm; run this again when they are back."
    );
    Ok(ExitCode::SomeHostsFailed)
}

/// Runs `plan`, after which plans have the steps `later`.
async fn run(
    args: &Args,
    plan: &Plan,
    later: &[(IpAddr, Step)],
    question: &'static str,
    dialer: &Dialer,
) -> anyhow::Result<Went> {
    check::check(plan)?;
    refuse_unknown(plan, later, dialer).await?;
    anstream::eprintln!("{}", render::render(plan));
    if !confirm(question, args.yes).await? {
        anstream::eprintln!("Nothing more was done.");
        return Ok(Went::Not(ExitCode::Interrupted));
    }
    match args.execute.run(plan, dialer).await?.exit_code() {
        ExitCode::Done => Ok(Went::Well),
        code => {
            anstream::eprintln!("It stopped here. The same command goes on.");
            Ok(Went::Not(code))
        }
    }
}

fn tell_missing(missing: &[(IpAddr, String)]) {
    for (host, reason) in missing {
        anstream::eprintln!("{host} is left as it is: {reason}");
    }
}
