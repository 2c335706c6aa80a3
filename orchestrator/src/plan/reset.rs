//! The plan that takes a cluster down: `clean.sh`, then everything Gantry put on the hosts, and nothing else.

use std::borrow::Cow;

use gantry_model::{ClusterName, CommandMoment, Digest, Step, StepAction};

use super::hostname;
use super::kubeadm;
use super::leave::no_longer_in_the_file;
use super::planner::{planned_hosts, script};
use super::progress::occasion;
use super::registry;
use super::scripts;
use super::shell_commands;
use super::{Mark, PLAN_VERSION, Place, Plan, PlanImage, PlannedHost, PlannedStep, Purpose, Wave};
use crate::clusterfile::{Clusterfile, Host};
use crate::inventory::{ClusterInventory, HostReport};

/// The moments at which commands run while a cluster is taken down.
pub const MOMENTS: [CommandMoment; 2] = [CommandMoment::BeforeClean, CommandMoment::AfterClean];

/// The plan that takes `clusterfile`'s cluster down, also on `others`: hosts that it had and that are no longer in the file.
/// `image_of` gives the image of a generation, if it is known here: it says whether there is a `clean.sh`.
#[must_use]
pub fn plan(
    clusterfile: &Clusterfile,
    others: &[PlannedHost],
    inventory: &ClusterInventory,
    image_of: impl Fn(&Digest) -> Option<PlanImage>,
) -> Plan {
    let mut leave = wave("leave", true);
    let mut down = TakeDown::new(true);
    let mut hosts = planned_hosts(clusterfile, inventory);
    let mut all: Vec<Cow<'_, Host>> = clusterfile.hosts.iter().map(Cow::Borrowed).collect();
    for other in others {
        let report = inventory.report(other.address);
        let Some(report) = report.filter(|report| report.has(&clusterfile.name)) else {
            continue;
        };
        let seen = report.latest(&clusterfile.name, "rootfs");
        hosts.push(PlannedHost {
            seen: seen.map(|record| record.id),
            ports: Vec::new(),
            place: Place::Leaves,
            ..other.clone()
        });
        all.push(Cow::Owned(no_longer_in_the_file(clusterfile, other)));
    }
    for host in &all {
        let Some(report) = inventory
            .report(host.address)
            .filter(|report| report.has(&clusterfile.name))
        else {
            continue;
        };
        let image = report
            .current(&clusterfile.name)
            .and_then(|current| image_of(&current.image));
        leave
            .steps
            .extend(down.add(clusterfile, host, report, image.as_ref()).steps);
    }
    Plan {
        version: PLAN_VERSION,
        purpose: Purpose::Reset,
        cluster: clusterfile.name.clone(),
        image: None,
        kubernetes: None,
        hosts,
        waves: std::iter::once(leave)
            .chain(down.waves())
            .filter(|wave| !wave.steps.is_empty())
            .collect(),
    }
}

/// What takes everything of a cluster off its hosts, once they are no members of it any more.
pub(super) struct TakeDown {
    clean: Wave,
    remove: Wave,
    forget: Wave,
    keep_going: bool,
}

impl TakeDown {
    /// Nothing yet; with `keep_going` hosts go on after another one failed.
    pub(super) fn new(keep_going: bool) -> Self {
        Self {
            clean: wave("clean", keep_going),
            remove: wave("remove", keep_going),
            forget: wave("forget", keep_going),
            keep_going,
        }
    }

    /// Takes `host` down, whose current generation is of `image`, if that is known. The answer is the wave that comes
    /// before: by it the host leaves its Kubernetes cluster.
    pub(super) fn add(
        &mut self,
        clusterfile: &Clusterfile,
        host: &Host,
        report: &HostReport,
        image: Option<&PlanImage>,
    ) -> Wave {
        let cluster = &clusterfile.name;
        let after = occasion(report.latest(cluster, "rootfs"));
        let planned = |step, reason: &str| PlannedStep::new(host.address, step, Mark::Remove, reason);
        let step = |action| Step {
            action,
            after: after.clone(),
        };
        let mut leave = wave("leave", self.keep_going);
        let image = image.filter(|_| report.current(cluster).is_some());
        // Those of another image are proved by other files.
        let runs = |image: &&PlanImage| {
            report
                .current(cluster)
                .is_some_and(|own| own.image == image.digest)
        };
        let with_plugins = image
            .filter(runs)
            .map(|image| image.with_plugins(clusterfile).clusterfile);
        let commands = |when| {
            let clusterfile = with_plugins.as_ref().unwrap_or(clusterfile);
            let steps = image
                .map(|image| shell_commands::steps(clusterfile, image, host, when, &after, Some(report)));
            let remove = |step: PlannedStep| PlannedStep {
                mark: Mark::Remove,
                ..step
            };
            steps.into_iter().flatten().map(remove).collect::<Vec<_>>()
        };
        leave.steps.extend(commands(CommandMoment::BeforeClean));
        if let Some(step) = kubeadm::reset(clusterfile, report, &after) {
            leave
                .steps
                .push(planned(step, "takes the host out of its Kubernetes cluster"));
        }
        let call = image.and_then(|image| Some((image, scripts::clean(image)?)));
        if let Some((image, call)) = call {
            let script = script(clusterfile, image, host, &call);
            self.clean.steps.push(planned(
                step(StepAction::RunScript(script)),
                "undoes what the image's scripts did",
            ));
        }
        self.clean.steps.extend(commands(CommandMoment::AfterClean));
        let generations = report.inventory.generations.iter();
        let generations = generations.filter(|one| one.cluster == *cluster).count();
        if report.latest(cluster, "balancer").is_some() {
            let balancer = StepAction::RemoveBalancer {
                cluster: cluster.clone(),
            };
            self.remove.steps.push(planned(
                step(balancer),
                "the service that leads to the API servers",
            ));
        }
        if let Some(step) = registry::remove_step(clusterfile, report) {
            self.remove
                .steps
                .push(planned(step, "the service that serves container images"));
        }
        if let Some(step) = hostname::restore_step(clusterfile, report) {
            self.remove
                .steps
                .push(planned(step, "the name that the host had before"));
        }
        let hosts_entries = StepAction::RemoveHostsEntries {
            cluster: cluster.clone(),
        };
        let rootfs = StepAction::RemoveRootfs {
            cluster: cluster.clone(),
        };
        self.remove.steps.extend([
            planned(step(hosts_entries), "the cluster's block in /etc/hosts"),
            planned(
                step(rootfs),
                &format!("generations: {generations}{}", snapshots(cluster, report)),
            ),
            planned(
                step(StepAction::RemoveUnusedLayers),
                "layers that no other cluster uses",
            ),
        ]);
        let forgotten = StepAction::ForgetCluster {
            cluster: cluster.clone(),
        };
        self.forget
            .steps
            .push(planned(step(forgotten), "the journal's steps of this cluster"));
        leave
    }

    /// The waves, in order.
    pub(super) fn waves(self) -> [Wave; 3] {
        [self.clean, self.remove, self.forget]
    }
}

/// What a rootfs takes with it of a control plane that kept snapshots of etcd: no other host has them.
fn snapshots(cluster: &ClusterName, report: &HostReport) -> String {
    let kept = report.inventory.etcd_snapshots.iter();
    let kept: Vec<&str> = kept
        .filter(|kept| kept.cluster == *cluster)
        .map(|kept| kept.before.as_str())
        .collect();
    if kept.is_empty() {
        return String::new();
    }
    format!(
        "; etcd's snapshots from before {} go, too: --kept finds them no more, `gantry backup` first saves what etcd holds now",
        kept.join(", ")
    )
}

fn wave(title: &str, keep_going: bool) -> Wave {
    Wave {
        title: title.into(),
        keep_going,
        steps: Vec::new(),
    }
}
