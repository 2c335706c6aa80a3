//! Which runs of kubeadm make the hosts a cluster, in which order.
//!
//! ```text
//! etc/kubeadm.yml of the image ─┐
//! documents of the Clusterfile ─┴─ config ─▶ one text per host ─▶ init: the first master
//!                                                               ─▶ join: masters, one at a time; then nodes, all at once
//! ```
//!
//! A cluster that runs is not made again: what the journal has as begun by `kubeadm init` or `kubeadm join` is done,
//! whatever has changed since in what they were given. What kubelets are told follows the file (`kubelet_configuration`); of the
//! rest an operator is warned (`unreached`).

mod config;
mod image;
mod image_swap;
mod kubelet_configuration;
mod marks;
mod needs;
mod node_name;
mod unreached;
mod upgrade;
mod version;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gantry_model::{
    ClusterName, ExitCode, KubeadmAct, KubeadmSpec, Step, StepAction, StepId, StepOutcome, StepRecord,
};

pub(super) use image::below as files_below;
pub(crate) use image::{CONFIG_PATHS, METADATA};
pub use image::{ImageKubernetes, KubeadmFile};
pub use image_swap::ImageSwap;
pub(super) use kubelet_configuration::waves as kubelet_configuration;
pub(super) use marks::marks;
pub use needs::KubernetesNeeds;
pub(super) use needs::needs;
pub(crate) use node_name::is_node_name;
pub(super) use node_name::node_name;
pub use unreached::{by_hand, unreached};
pub(super) use upgrade::Upgrade;
use version::Version;

use super::planner::{API_SERVER_PORT, hosts_entries_step};
use super::progress::{NOT_DONE, state_step, why_to_do};
use super::{Mark, PlanImage, PlannedStep, Wave, scale_up};
use crate::clusterfile::{Clusterfile, Host, Role};
use crate::exit::failure_hint;
use crate::inventory::{ClusterInventory, HostReport};

/// The program that makes clusters, below the rootfs.
pub(crate) const PROGRAM: &str = "bin/kubeadm";
/// Where workers find the API servers.
const BALANCER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), API_SERVER_PORT);
/// After this a run of kubeadm is ended, in seconds: its own limits add up to less.
const TIME_LIMIT_S: u32 = 1800;
/// How long nodes may take to become ready, in seconds.
const NODES_LIMIT_S: u32 = 600;
/// How long the cluster's own pods may take to become ready, in seconds: as long as sealer waits.
const SYSTEM_PODS_LIMIT_S: u32 = 900;
/// What the step is called by which a plan ends.
pub(super) const NODES_READY: &str = "nodes ready";
/// What kubeadm goes without when the image has no DNS server.
const DNS_PHASE: &str = "addon/coredns";
/// With an image list that names a DNS server, pulling it in advance fails.
const PULL_CHECK: &str = "ImagePull";
/// Where kubelets bear swap, kubeadm need not mind it.
const SWAP_CHECK: &str = "Swap";

/// The waves that make hosts a cluster.
#[derive(Default)]
pub(super) struct Members {
    /// Those by which hosts become members.
    pub(super) join: Vec<Wave>,
    /// The one that waits for them.
    pub(super) ready: Option<Wave>,
}

/// The waves that make the hosts a cluster; none for an image without kubeadm.
///
/// # Errors
/// When a configuration in the image cannot be used.
pub(super) fn waves(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
) -> anyhow::Result<Members> {
    let Some(kubernetes) = &image.kubernetes else {
        return Ok(Members::default());
    };
    if kubernetes.version.is_empty() {
        return Err(failure_hint(
            ExitCode::Input,
            format!(
                "image {} has {PROGRAM}, and its Metadata does not name a version of Kubernetes",
                image.reference
            ),
            "Metadata of a rootfs says {\"version\":\"v1.20.2\",\"arch\":\"amd64\"}",
        ));
    }
    let first = anchor(clusterfile, inventory);
    if !is_member(&clusterfile.name, inventory.report(first.address)) {
        refuse_a_second_cluster(clusterfile, inventory)?;
    }
    let init = step(clusterfile, image, first, KubeadmAct::Init, &[], inventory)?;
    let mut ids = vec![init.id];
    let mut waves = vec![wave("control plane", vec![init])];
    let others = |role| {
        let of_role = move |host: &&Host| host.role == role;
        clusterfile
            .hosts
            .iter()
            .filter(of_role)
            .filter(|host| host.address != first.address)
    };
    let join = |host: &Host, control_plane, after: &[StepId]| {
        let act = KubeadmAct::Join {
            from: first.address,
            control_plane,
        };
        step(clusterfile, image, host, act, after, inventory)
    };
    // etcd takes one new member at a time.
    for host in others(Role::Master) {
        let step = join(host, true, &ids[..1])?;
        ids.push(step.id);
        let mut steps = vec![step];
        // From now on its own API server answers it, whatever becomes of the others.
        let report = inventory.report(host.address);
        if !is_member(&clusterfile.name, report) {
            steps.push(hosts_entries_step(clusterfile, image, host, host.address, report));
        }
        waves.push(wave("control plane joins", steps));
    }
    let mut workers = Vec::new();
    for host in others(Role::Node) {
        workers.push(join(host, false, &ids[..1])?);
    }
    ids.extend(workers.iter().map(|step| step.id));
    waves.push(wave("workers", workers));
    let ready = kubernetes.kubectl.then(|| {
        let comes_again = !scale_up::added(&clusterfile.name, inventory, &waves).is_empty();
        let step = nodes_step(clusterfile, first, &ids, inventory, comes_again);
        wave("nodes", vec![step])
    });
    Ok(Members { join: waves, ready })
}

/// The control plane that is asked about the cluster and lets hosts into it: the first master that is in it already. While
/// there is none, the first of all, which begins it.
pub(super) fn anchor<'a>(clusterfile: &'a Clusterfile, inventory: &ClusterInventory) -> &'a Host {
    let mut masters = clusterfile.hosts.iter().filter(|host| host.role == Role::Master);
    masters
        .find(|host| is_member(&clusterfile.name, inventory.report(host.address)))
        .unwrap_or_else(|| clusterfile.first_master())
}

/// Without any control plane of the cluster that runs, `kubeadm init` would begin another one.
fn refuse_a_second_cluster(clusterfile: &Clusterfile, inventory: &ClusterInventory) -> anyhow::Result<()> {
    let Some((member, _)) = inventory
        .reached()
        .find(|(_, report)| is_member(&clusterfile.name, Some(report)))
    else {
        return Ok(());
    };
    Err(failure_hint(
        ExitCode::Input,
        format!(
            "{member} is a member of cluster {}, and none of the masters in the Clusterfile is: they would begin another \
             cluster of that name",
            clusterfile.name
        ),
        "keep one of its control planes in the Clusterfile until others have joined it",
    ))
}

/// Where the API server's name leads on a host: a control plane's own; the first master's before it is one; on workers
/// to the balancer.
pub(super) fn api_server(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    host: &Host,
) -> IpAddr {
    match host.role {
        _ if image.kubernetes.is_none() => clusterfile.first_master().address,
        Role::Node => BALANCER.ip(),
        Role::Master if is_member(&clusterfile.name, inventory.report(host.address)) => host.address,
        Role::Master => anchor(clusterfile, inventory).address,
    }
}

/// The step that makes a worker find any API server that answers.
pub(super) fn balancer_step(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
    report: Option<&HostReport>,
) -> Option<PlannedStep> {
    image.kubernetes.as_ref().filter(|_| host.role == Role::Node)?;
    let masters = clusterfile.hosts.iter().filter(|host| host.role == Role::Master);
    let action = StepAction::SetBalancer {
        cluster: clusterfile.name.clone(),
        listen: BALANCER,
        backends: masters
            .map(|host| SocketAddr::new(host.address, API_SERVER_PORT))
            .collect(),
    };
    let (step, mark, reason) = state_step(action, &[], report);
    Some(PlannedStep::new(host.address, step, mark, reason))
}

/// Whether the host is a member of the cluster.
pub(super) fn is_member(cluster: &ClusterName, report: Option<&HostReport>) -> bool {
    report
        .and_then(|report| latest(cluster, report))
        .is_some_and(|record| {
            record.title != KubeadmAct::Reset.title()
                && record.outcome.as_ref().is_some_and(StepOutcome::succeeded)
        })
}

/// The run of kubeadm by which a member of the cluster has its version.
pub(super) fn level<'a>(cluster: &ClusterName, report: &'a HostReport) -> Option<&'a StepRecord> {
    if !is_member(cluster, Some(report)) {
        return None;
    }
    let brought = |record: &&StepRecord| {
        record
            .kubernetes
            .as_ref()
            .is_some_and(|version| !version.is_empty())
            && record.outcome.as_ref().is_some_and(StepOutcome::succeeded)
    };
    report.records(cluster).rfind(brought)
}

/// Whether Kubernetes `new` leaves out a minor version after `old`: kubeadm does not take a host there.
pub(super) fn skips_a_minor(old: &str, new: &str) -> bool {
    let versions = Version::read(old).zip(Version::read(new));
    versions.is_some_and(|(old, new)| new.skips_a_minor_after(&old))
}

/// The step by which `host` leaves the cluster, if it ever began to join and has not left.
pub(super) fn reset(clusterfile: &Clusterfile, report: &HostReport, after: &[StepId]) -> Option<Step> {
    let left = |record: &&StepRecord| {
        record.title == KubeadmAct::Reset.title()
            && record.outcome.as_ref().is_some_and(StepOutcome::succeeded)
    };
    latest(&clusterfile.name, report).filter(|record| !left(record))?;
    let spec = KubeadmSpec {
        cluster: clusterfile.name.clone(),
        act: KubeadmAct::Reset,
        kubernetes: String::new(),
        config: String::new(),
        skipped_phases: Vec::new(),
        ignored_checks: Vec::new(),
        time_limit_s: TIME_LIMIT_S,
    };
    Some(Step {
        action: StepAction::Kubeadm(spec),
        after: after.to_vec(),
    })
}

fn step(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
    act: KubeadmAct,
    after: &[StepId],
    inventory: &ClusterInventory,
) -> anyhow::Result<PlannedStep> {
    let bears_swap = needs::bears_swap(&config::of_kubelet(clusterfile, image)?);
    let init = act == KubeadmAct::Init;
    let spec = KubeadmSpec {
        cluster: clusterfile.name.clone(),
        config: config::of(clusterfile, image, host, &act)?,
        act,
        kubernetes: kubernetes_of(image),
        skipped_phases: if init && is_without_dns(image) {
            vec![DNS_PHASE.into()]
        } else {
            vec![]
        },
        ignored_checks: ignored_checks(image, bears_swap),
        time_limit_s: TIME_LIMIT_S,
    };
    let step = Step {
        action: StepAction::Kubeadm(spec),
        after: after.to_vec(),
    };
    let (mark, reason) = state(clusterfile, host.address, &step, inventory);
    Ok(PlannedStep::new(host.address, step, mark, reason))
}

/// The version of Kubernetes that an image brings.
fn kubernetes_of(image: &PlanImage) -> String {
    let kubernetes = image.kubernetes.as_ref();
    kubernetes
        .map(|kubernetes| kubernetes.version.clone())
        .unwrap_or_default()
}

fn is_without_dns(image: &PlanImage) -> bool {
    image.kubernetes.as_ref().is_none_or(|kubernetes| !kubernetes.dns)
}

/// Checks of kubeadm's own whose failure is only a warning.
fn ignored_checks(image: &PlanImage, bears_swap: bool) -> Vec<String> {
    let checks = [(is_without_dns(image), PULL_CHECK), (bears_swap, SWAP_CHECK)];
    let ignored = checks.into_iter().filter(|(ignored, _)| *ignored);
    ignored.map(|(_, check)| check.to_owned()).collect()
}

/// What the journal says about a host's place in the cluster.
fn state(
    clusterfile: &Clusterfile,
    host: IpAddr,
    step: &Step,
    inventory: &ClusterInventory,
) -> (Mark, String) {
    let record = inventory
        .report(host)
        .and_then(|report| latest(&clusterfile.name, report));
    let Some(record) = record.filter(|record| record.title != KubeadmAct::Reset.title()) else {
        return (Mark::Add, NOT_DONE.into());
    };
    match &record.outcome {
        Some(outcome) if outcome.succeeded() && record.id == step.id() => (Mark::Done, "done".into()),
        Some(outcome) if outcome.succeeded() => (
            Mark::Done,
            "done; a changed configuration does not reach a cluster that runs".into(),
        ),
        Some(outcome) => (Mark::Change, format!("again: {outcome}")),
        None => (Mark::Change, "runs now: its end is waited for".into()),
    }
}

/// The latest run of kubeadm on a host.
pub(super) fn latest<'a>(cluster: &ClusterName, report: &'a HostReport) -> Option<&'a StepRecord> {
    let titles = ["kubeadm init", "kubeadm join", "kubeadm reset"];
    report
        .records(cluster)
        .rfind(|record| titles.contains(&record.title.as_str()))
}

/// The wave that waits for the cluster's own pods, where a plugin wants it; `after` are the steps that made the rootfs of the
/// control plane that is asked.
///
/// # Errors
/// When the image cannot ask.
pub(super) fn cluster_check(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    after: impl Fn(IpAddr) -> Vec<StepId>,
) -> anyhow::Result<Option<Wave>> {
    let Some(plugin) = &clusterfile.cluster_check else {
        return Ok(None);
    };
    if !image
        .kubernetes
        .as_ref()
        .is_some_and(|kubernetes| kubernetes.kubectl)
    {
        return Err(failure_hint(
            ExitCode::Input,
            format!(
                "plugin {plugin} of type CLUSTERCHECK asks the cluster, and image {} has no bin/kubeadm and bin/kubectl",
                image.reference
            ),
            "leave the plugin out, or take an image that brings Kubernetes",
        ));
    }
    let host = anchor(clusterfile, inventory).address;
    let step = Step {
        action: StepAction::WaitForSystemPods {
            cluster: clusterfile.name.clone(),
            time_limit_s: SYSTEM_PODS_LIMIT_S,
        },
        after: after(host),
    };
    let shown = format!("plugin {plugin}");
    let report = inventory.report(host);
    let planned = super::shell_commands::planned(host, step, report, shown);
    Ok(Some(wave("cluster check", vec![planned])))
}

/// The step that waits for the nodes after the steps `after`, by which they joined. A node that left and comes again
/// (`comes_again`) joins by the same step; the waiting that the journal has as done was for the node that it was before.
fn nodes_step(
    clusterfile: &Clusterfile,
    first: &Host,
    after: &[StepId],
    inventory: &ClusterInventory,
    comes_again: bool,
) -> PlannedStep {
    let cluster = &clusterfile.name;
    let action = StepAction::WaitForNodes {
        cluster: cluster.clone(),
        time_limit_s: NODES_LIMIT_S,
        except: Vec::new(),
    };
    let mut step = Step {
        action,
        after: after.to_vec(),
    };
    let Some(report) = inventory.report(first.address) else {
        return PlannedStep::new(first.address, step, Mark::Add, NOT_DONE);
    };
    if comes_again && why_to_do(step.id(), report).is_none() {
        let waited = scale_up::complete(cluster, report).last();
        step.after.extend(waited.map(|record| record.id));
    }
    match why_to_do(step.id(), report) {
        Some(reason) => PlannedStep::new(first.address, step, Mark::Add, reason),
        None => PlannedStep::new(first.address, step, Mark::Done, "done"),
    }
}

fn wave(title: &str, steps: Vec<PlannedStep>) -> Wave {
    Wave {
        title: title.into(),
        keep_going: false,
        steps,
    }
}
