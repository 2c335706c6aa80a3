//! The plan that takes a cluster down: `clean.sh`, then everything Gantry put on the hosts, and nothing else.

use gantry_model::{Digest, Step, StepAction};

use super::kubeadm;
use super::planner::{planned_hosts, script};
use super::progress::occasion;
use super::scripts::{self, Call};
use super::{Mark, PLAN_VERSION, Plan, PlanImage, PlannedStep, Purpose, Wave};
use crate::clusterfile::Clusterfile;
use crate::inventory::{ClusterInventory, HostReport};

/// The plan that takes `clusterfile`'s cluster down. `image_of` gives the image of a generation, if it is known
/// here: it says whether there is a `clean.sh`.
#[must_use]
pub fn plan(
    clusterfile: &Clusterfile,
    inventory: &ClusterInventory,
    image_of: impl Fn(&Digest) -> Option<PlanImage>,
) -> Plan {
    let cluster = &clusterfile.name;
    let mut leave = wave("leave");
    let mut clean = wave("clean");
    let mut remove = wave("remove");
    let mut forget = wave("forget");
    for host in &clusterfile.hosts {
        let Some(report) = inventory
            .report(host.address)
            .filter(|report| report.has(cluster))
        else {
            continue;
        };
        let after = occasion(report.latest(cluster, "rootfs"));
        let add = |wave: &mut Wave, action, reason: String| {
            let step = Step {
                action,
                after: after.clone(),
            };
            wave.steps
                .push(PlannedStep::new(host.address, step, Mark::Remove, reason));
        };
        if let Some(step) = kubeadm::reset(clusterfile, report, &after) {
            let reason = "takes the host out of its Kubernetes cluster";
            leave
                .steps
                .push(PlannedStep::new(host.address, step, Mark::Remove, reason));
        }
        if let Some((image, call)) = clean_call(clusterfile, report, &image_of) {
            let script = script(clusterfile, &image, host, &call);
            add(
                &mut clean,
                StepAction::RunScript(script),
                "undoes what the image's scripts did".into(),
            );
        }
        let generations = report
            .inventory
            .generations
            .iter()
            .filter(|one| one.cluster == *cluster)
            .count();
        if report.latest(cluster, "balancer").is_some() {
            let balancer = StepAction::RemoveBalancer {
                cluster: cluster.clone(),
            };
            add(
                &mut remove,
                balancer,
                "the service that leads to the API servers".into(),
            );
        }
        let hosts_entries = StepAction::RemoveHostsEntries {
            cluster: cluster.clone(),
        };
        add(
            &mut remove,
            hosts_entries,
            "the cluster's block in /etc/hosts".into(),
        );
        let rootfs = StepAction::RemoveRootfs {
            cluster: cluster.clone(),
        };
        add(&mut remove, rootfs, format!("generations: {generations}"));
        add(
            &mut remove,
            StepAction::RemoveUnusedLayers,
            "layers that no other cluster uses".into(),
        );
        let forgotten = StepAction::ForgetCluster {
            cluster: cluster.clone(),
        };
        add(
            &mut forget,
            forgotten,
            "the journal's steps of this cluster".into(),
        );
    }
    Plan {
        version: PLAN_VERSION,
        purpose: Purpose::Reset,
        cluster: cluster.clone(),
        image: None,
        hosts: planned_hosts(clusterfile, inventory),
        waves: [leave, clean, remove, forget]
            .into_iter()
            .filter(|wave| !wave.steps.is_empty())
            .collect(),
    }
}

fn wave(title: &str) -> Wave {
    Wave {
        title: title.into(),
        keep_going: true,
        steps: Vec::new(),
    }
}

/// `clean.sh` of the generation that is current on the host.
fn clean_call(
    clusterfile: &Clusterfile,
    report: &HostReport,
    image_of: &impl Fn(&Digest) -> Option<PlanImage>,
) -> Option<(PlanImage, Call)> {
    let current = report.current(&clusterfile.name)?;
    let image = image_of(&current.image)?;
    let call = scripts::clean(&image)?;
    Some((image, call))
}
