//! The planner: a pure function from what is wanted and what is there to a [`Plan`]. No clock, no network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroUsize;

use gantry_model::{CommandMoment, ExitCode, HostsEntry, ScriptSpec, SnapshotName, Step, StepAction, StepId};
use serde::{Deserialize, Serialize};

use super::environment::environment;
use super::preflight::ports_of;
use super::progress::{NOT_DONE, state_step, why_to_do};
use super::registry::{self, Server};
use super::restore::{Restore, is_restored, latest_restore};
use super::scripts::{self, Call, SCRIPT_TIME_LIMIT_S};
use super::way::Way;
use super::{
    Leaving, Mark, PLAN_VERSION, Place, Plan, PlanImage, PlanLayer, PlannedHost, PlannedImage, PlannedStep,
    Purpose, STAGE, Wave,
};
use super::{
    cluster_ca, commands, configs, hostname, kubeadm, leave, renew, scale_up, script_effects, shell_commands,
};
use crate::clusterfile::{Clusterfile, Host, Role};
use crate::exit::failure_hint;
use crate::inventory::{ClusterInventory, HostReport};
use crate::output::bytes;

/// The name every host finds the API server by.
pub const API_SERVER: &str = "apiserver.cluster.local";
/// The port every host finds the API server by.
pub const API_SERVER_PORT: u16 = 6443;

/// The plan that makes the hosts of `clusterfile` what it says, and takes `leaving` out of its cluster: hosts that were
/// in it and are no longer in the file. At most `max_unavailable` workers are upgraded at a time.
///
/// # Errors
/// When the image has no scripts that set up a host, a template of it has a mistake, or a Config does not fit it.
pub fn plan(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    leaving: &[Leaving],
    max_unavailable: NonZeroUsize,
) -> anyhow::Result<Plan> {
    make(clusterfile, image, inventory, leaving, max_unavailable, None)
}

/// The same for a cluster that goes back to an older version of Kubernetes, and its etcd with it where `back` says so.
///
/// # Errors
/// As [`plan`], or when the version cannot be gone back to, or there is no such snapshot.
pub fn roll_back(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    leaving: &[Leaving],
    max_unavailable: NonZeroUsize,
    back: &Back,
) -> anyhow::Result<Plan> {
    make(
        clusterfile,
        image,
        inventory,
        leaving,
        max_unavailable,
        Some(back),
    )
}

/// How a cluster goes back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Back {
    /// Before what the snapshot was kept that etcd goes back to, too.
    pub kept: Option<String>,
}

fn make(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    leaving: &[Leaving],
    max_unavailable: NonZeroUsize,
    back: Option<&Back>,
) -> anyhow::Result<Plan> {
    let mistakes = image.template_mistakes_for(clusterfile);
    if !mistakes.is_empty() {
        return Err(failure_hint(
            ExitCode::Input,
            format!(
                "templates of image {} have mistakes:\n  {}",
                image.reference,
                mistakes.join("\n  ")
            ),
            "put them right and build the image again; nothing was changed",
        ));
    }
    let of_file = clusterfile;
    let clusterfile = &image.with_plugins(clusterfile).or_mistakes()?;
    let init = scripts::init(clusterfile, image)?;
    let registry = registry::server(clusterfile, image)?;
    let registry_host = clusterfile.first_master().address;
    let mut waves = vec![wave(STAGE), wave("rootfs"), wave("init"), wave("registry")];
    let mut bases: BTreeMap<IpAddr, Vec<StepId>> = BTreeMap::new();
    let mut ways: BTreeMap<IpAddr, Way> = BTreeMap::new();
    let files = configs::of_hosts(clusterfile, image)?;
    let on_first = clusterfile
        .hosts
        .iter()
        .position(|host| host.address == registry_host);
    let first_files = on_first.and_then(|at| files.get(at)).cloned().unwrap_or_default();
    let mut upgrade = kubeadm::Upgrade::of(clusterfile, image, inventory, back.is_some())?;
    for (host, files) in clusterfile.hosts.iter().zip(files) {
        let report = inventory.report(host.address);
        let [stage, rootfs, scripts, last] = &mut waves[..] else {
            unreachable!("these are the waves above");
        };
        stage.steps.push(stage_step(host, image, report));

        let assemble = assemble_step(clusterfile, host, image, report);
        let mut after = vec![assemble.id];
        let (fresh, rootfs_id) = (assemble.is_to_do(), assemble.id);
        rootfs.steps.push(assemble);
        if !image.templates.is_empty() {
            let templates = templates_step(clusterfile, host, image, &after, report);
            after.push(templates.id);
            rootfs.steps.push(templates);
        }
        let configs = configs::step(clusterfile, host, files, &after, report);
        // What commands build on: values of templates are in their environment.
        let base: Vec<StepId> = std::iter::once(rootfs_id)
            .chain(configs.as_ref().map(|step| step.id))
            .collect();
        after.extend(configs.as_ref().map(|step| step.id));
        rootfs.steps.extend(configs);
        rootfs
            .steps
            .extend(hostname::step(clusterfile, image, host, report)?);
        let api_server = kubeadm::api_server(clusterfile, image, inventory, host);
        rootfs
            .steps
            .push(hosts_entries_step(clusterfile, image, host, api_server, report));
        rootfs
            .steps
            .extend(kubeadm::balancer_step(clusterfile, image, host, report));

        let commands = |when| shell_commands::steps(clusterfile, image, host, when, &base, report);
        let mut before_init = commands(CommandMoment::BeforeInit);
        let way = Way::of(report, &clusterfile.name, &image.digest);
        if way == Way::Upgrade {
            before_init.extend(commands(CommandMoment::BeforeUpgrade));
        }
        ways.insert(host.address, way);
        let mut own_scripts = Vec::new();
        bases.insert(host.address, base);
        for call in &init {
            let step = script_step(clusterfile, image, host, call, &after, report, fresh);
            after.push(step.id);
            let check = script_effects::step(clusterfile, image, host, call, &step, report);
            own_scripts.push(step);
            own_scripts.extend(check);
        }
        scripts
            .steps
            .extend(upgrade.give(host, rootfs_id, before_init, own_scripts));
        last.steps
            .extend(registry::step(clusterfile, &registry, host, report));
        if let Server::Script(call) = &registry
            && host.address == registry_host
        {
            let step = script_step(clusterfile, image, host, call, &after, report, fresh);
            let check = script_effects::step(clusterfile, image, host, call, &step, report);
            last.steps.push(step);
            last.steps.extend(check);
        }
    }
    let base = |host| bases.get(&host).cloned().unwrap_or_default();
    let shell = |when| shell_commands::wave(clusterfile, image, inventory, when, base);
    let members = kubeadm::waves(clusterfile, image, inventory)?;
    let added = scale_up::added(&clusterfile.name, inventory, &members.join);
    // Once for those that are added together.
    let scaled = |when| {
        let wave = shell_commands::wave(clusterfile, image, inventory, when, |_| added.clone());
        (!added.is_empty()).then_some(wave)
    };
    let before_scale_up = scaled(CommandMoment::BeforeScaleUp);
    waves.insert(2, shell(CommandMoment::BeforeInstall));
    let mut before_init = shell(CommandMoment::BeforeInit);
    before_init.steps.retain(|step| !upgrade.takes(step.host));
    waves.insert(3, before_init);
    let came = |when, way: Way| {
        let mut wave = shell(when);
        wave.steps.retain(|step| ways.get(&step.host) == Some(&way));
        wave
    };
    let mut before_upgrade = came(CommandMoment::BeforeUpgrade, Way::Upgrade);
    before_upgrade.steps.retain(|step| !upgrade.takes(step.host));
    waves.insert(4, before_upgrade);
    waves.splice(3..3, before_scale_up);
    // Before anything goes back: newer API servers read what older ones wrote, not the other way round.
    if let Some(before) = back.and_then(|back| back.kept.as_ref()) {
        if !is_restored(&clusterfile.name, inventory, before) {
            let hosts = addresses(clusterfile);
            let snapshot = SnapshotName::Before(before.clone());
            let masters = clusterfile.hosts.iter().filter(|host| host.role == Role::Master);
            let masters: Vec<IpAddr> = masters.map(|host| host.address).collect();
            let restore = Restore::new(&clusterfile.name, &hosts, &masters, inventory, snapshot)?;
            waves.splice(1..1, restore.waves(inventory));
        }
    } else if let Some(snapshot) = upgrade.snapshot() {
        waves.insert(1, snapshot);
    }
    let leave = leave::leave(of_file, image, inventory, leaving);
    waves.push(leave.give_up);
    // Whoever joins, joins with the new version. Members whose scripts run again are taken one after the other, too.
    waves.extend(upgrade.waves(max_unavailable));
    waves.extend(members.join);
    waves.extend(kubeadm::kubelet_configuration(
        clusterfile,
        image,
        inventory,
        max_unavailable,
    )?);
    waves.push(shell(CommandMoment::AfterJoin));
    // Commands may start pods that are for some nodes only.
    let restored = latest_restore(&clusterfile.name, inventory, &waves);
    waves.extend(kubeadm::marks(clusterfile, image, inventory, restored)?);
    waves.extend(scaled(CommandMoment::AfterScaleUp));
    waves.push(came(CommandMoment::AfterUpgrade, Way::Upgrade));
    waves.push(came(CommandMoment::AfterRollback, Way::Back));
    waves.extend(kubeadm::cluster_check(clusterfile, image, inventory, base)?);
    waves.push(shell(CommandMoment::BeforeCommands));
    let own = shell(CommandMoment::Commands);
    if own.steps.is_empty() {
        let base = commands::Base {
            steps: base(registry_host),
            files: first_files,
        };
        waves.push(commands::wave(clusterfile, image, inventory, &base));
    }
    waves.push(own);
    waves.push(shell(CommandMoment::AfterCommands));
    waves.extend(leave.waves);
    let masters = clusterfile.hosts.iter().filter(|host| host.role == Role::Master);
    let masters: Vec<IpAddr> = masters.map(|host| host.address).collect();
    waves.extend(renew::waves(&clusterfile.name, &masters, inventory, true));
    // A node that leaves need not be ready.
    waves.extend(members.ready);
    let mut hosts = planned_hosts(clusterfile, inventory);
    for (planned, host) in hosts.iter_mut().zip(&clusterfile.hosts) {
        // The balancer's.
        if image.kubernetes.is_some() && host.role == Role::Node {
            planned.ports.push(API_SERVER_PORT);
        }
        if registry == Server::Agents && host.address != registry_host {
            planned.ports.push(clusterfile.registry.port);
        }
    }
    hosts.extend(leave.hosts);
    let plan = Plan {
        version: PLAN_VERSION,
        purpose: Purpose::Apply,
        cluster: clusterfile.name.clone(),
        image: Some(PlannedImage {
            reference: image.reference.clone(),
            digest: image.digest,
            evidence: image.evidence.clone(),
        }),
        kubernetes: kubeadm::needs(clusterfile, image)?,
        hosts,
        waves: waves.into_iter().filter(|wave| !wave.steps.is_empty()).collect(),
    };
    cluster_ca::refuse_meanwhile(&plan, inventory)?;
    Ok(plan)
}

/// The hosts of a plan, each with the latest rootfs step that its journal has.
pub(super) fn planned_hosts(clusterfile: &Clusterfile, inventory: &ClusterInventory) -> Vec<PlannedHost> {
    let seen = |address| {
        let report = inventory.report(address)?;
        Some(report.latest(&clusterfile.name, "rootfs")?.id)
    };
    let registry_host = clusterfile.first_master().address;
    let host = |host: &Host| {
        let registry = (host.address == registry_host).then_some(clusterfile.registry.port);
        PlannedHost {
            address: host.address,
            seen: seen(host.address),
            ports: ports_of(host.role, registry),
            etcd: host.role == Role::Master,
            node: hostname::node_of(host, inventory.report(host.address)),
            kubernetes: inventory
                .report(host.address)
                .and_then(|report| kubeadm::level(&clusterfile.name, report)?.kubernetes.clone()),
            place: Place::Stays,
        }
    };
    clusterfile.hosts.iter().map(host).collect()
}

fn wave(title: &str) -> Wave {
    Wave {
        title: title.into(),
        keep_going: false,
        steps: Vec::new(),
    }
}

fn stage_step(host: &Host, image: &PlanImage, report: Option<&HostReport>) -> PlannedStep {
    let layers = image
        .layers
        .iter()
        .map(|layer| layer.descriptor.clone())
        .collect();
    let step = Step {
        action: StepAction::Stage {
            image: image.digest,
            layers,
        },
        after: Vec::new(),
    };
    let present: BTreeSet<_> = report
        .map(|report| report.inventory.layers.iter().collect())
        .unwrap_or_default();
    let missing: Vec<_> = image
        .layers
        .iter()
        .filter(|layer| !present.contains(&layer.descriptor.digest))
        .collect();
    if missing.is_empty() {
        return PlannedStep::new(host.address, step, Mark::Done, "done");
    }
    let here = |layer: &PlanLayer| {
        let mut partial = report.iter().flat_map(|report| &report.inventory.partial_layers);
        let found = partial.find(|(digest, _)| *digest == layer.descriptor.digest);
        found.map(|(_, bytes)| *bytes)
    };
    // Touched since they were verified: nothing of them travels, unless they are damaged.
    let (whole, missing): (Vec<_>, Vec<_>) = missing
        .into_iter()
        .partition(|layer| here(layer).is_some_and(|bytes| bytes >= layer.unpacked));
    let (all, mut reason) = (image.layers.len(), Vec::new());
    if !missing.is_empty() {
        let size = bytes(missing.iter().map(|layer| layer.descriptor.size).sum());
        reason.push(format!("{} of {all} layers missing, {size}", missing.len()));
    }
    if missing.iter().any(|layer| here(layer).is_some()) {
        reason.push("goes on where it stopped".into());
    }
    if !whole.is_empty() {
        let size = bytes(whole.iter().map(|layer| layer.unpacked).sum());
        reason.push(format!(
            "{} of {all} layers to verify on disk, {size}",
            whole.len()
        ));
    }
    let reason = reason.join(", ");
    PlannedStep::new(host.address, step, Mark::Add, reason)
}

fn assemble_step(
    clusterfile: &Clusterfile,
    host: &Host,
    image: &PlanImage,
    report: Option<&HostReport>,
) -> PlannedStep {
    let action = StepAction::AssembleRootfs {
        cluster: clusterfile.name.clone(),
        image: image.digest,
        layers: image.layer_digests(),
    };
    let (step, mark, reason) = state_step(action, &[], report);
    let current = report.and_then(|report| report.current(&clusterfile.name));
    let (mark, reason) = match (mark, current) {
        (Mark::Change, Some(current)) if current.image != image.digest => (
            mark,
            format!("generation {} is of image {}", current.id, current.image.short()),
        ),
        (Mark::Done, Some(current)) => (mark, format!("done, generation {}", current.id)),
        (mark, _) => (mark, reason),
    };
    PlannedStep::new(host.address, step, mark, reason)
}

/// The block of `/etc/hosts` in which the API server's name leads to `api_server`.
pub(super) fn hosts_entries_step(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
    api_server: IpAddr,
    report: Option<&HostReport>,
) -> PlannedStep {
    let entry = |address: IpAddr, name: &str| HostsEntry {
        address,
        names: vec![name.into()],
    };
    let mut entries = vec![
        entry(
            registry::address(clusterfile, image),
            &clusterfile.registry.domain,
        ),
        entry(api_server, API_SERVER),
    ];
    entries.extend(host.hostname.as_ref().map(|name| entry(host.address, name)));
    entries.extend(clusterfile.host_aliases.iter().cloned());
    let action = StepAction::WriteHostsEntries {
        cluster: clusterfile.name.clone(),
        entries,
    };
    let (step, mark, reason) = state_step(action, &[], report);
    PlannedStep::new(host.address, step, mark, reason)
}

fn templates_step(
    clusterfile: &Clusterfile,
    host: &Host,
    image: &PlanImage,
    after: &[StepId],
    report: Option<&HostReport>,
) -> PlannedStep {
    let action = StepAction::RenderTemplates {
        cluster: clusterfile.name.clone(),
        values: environment(clusterfile, image, host),
    };
    let (step, mark, reason) = state_step(action, after, report);
    PlannedStep::new(host.address, step, mark, reason)
}

fn script_step(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
    call: &Call,
    after: &[StepId],
    report: Option<&HostReport>,
    fresh: bool,
) -> PlannedStep {
    let step = Step {
        action: StepAction::RunScript(script(clusterfile, image, host, call)),
        after: after.into(),
    };
    let reason = match report {
        Some(report) => why_to_do(step.id(), report),
        None => Some(NOT_DONE.into()),
    };
    let ran_before = report
        .and_then(|report| report.latest(&clusterfile.name, call.script))
        .is_some();
    match reason {
        None => PlannedStep::new(host.address, step, Mark::Done, "done"),
        Some(reason) if ran_before && reason == NOT_DONE => {
            let why = if fresh {
                "again: the rootfs changes"
            } else {
                "again: its inputs changed"
            };
            PlannedStep::new(host.address, step, Mark::Change, why)
        }
        Some(reason) => PlannedStep::new(host.address, step, Mark::Add, reason),
    }
}

/// How `call` runs on `host`.
pub(super) fn script(clusterfile: &Clusterfile, image: &PlanImage, host: &Host, call: &Call) -> ScriptSpec {
    ScriptSpec {
        cluster: clusterfile.name.clone(),
        path: call.path(),
        args: call.args.clone(),
        env: environment(clusterfile, image, host),
        time_limit_s: SCRIPT_TIME_LIMIT_S,
    }
}

/// Addresses the plan needs a session with.
#[must_use]
pub fn addresses(clusterfile: &Clusterfile) -> Vec<IpAddr> {
    clusterfile.hosts.iter().map(|host| host.address).collect()
}
