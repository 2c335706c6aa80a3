//! The waves by which hosts that are no longer in the Clusterfile leave their cluster: pods move elsewhere, kubeadm takes
//! the host out (and a control plane's etcd member with it), the cluster forgets the node, the host becomes what it was.

use std::net::IpAddr;

use gantry_model::{Step, StepAction};

use super::progress::{occasion, why_to_do};
use super::reset::TakeDown;
use super::{Mark, PlanImage, PlannedHost, PlannedStep, Wave, kubeadm};
use crate::clusterfile::{Clusterfile, Host, Role};
use crate::inventory::{ClusterInventory, HostReport};

/// How long pods may take to move elsewhere, in seconds. After it the host does not leave: a budget that forbids it, or a
/// pod that nobody would start again, is for people to decide about.
const DRAIN_LIMIT_S: u32 = 600;

/// Hosts that leave, and how.
pub(super) struct Leave {
    /// Those that still have something of the cluster.
    pub(super) hosts: Vec<PlannedHost>,
    /// What is done, in order.
    pub(super) waves: Vec<Wave>,
}

/// How `leaving` leave the cluster that `clusterfile` describes without them.
pub(super) fn leave(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    leaving: &[IpAddr],
) -> Leave {
    let first = clusterfile.first_master().address;
    let (mut drain, mut forget_nodes) = (wave("drain"), wave("forget nodes"));
    let mut leaves = Vec::new();
    let mut down = TakeDown::new(false);
    let mut hosts = Vec::new();
    for &address in leaving {
        let Some(report) = inventory
            .report(address)
            .filter(|report| report.has(&clusterfile.name))
        else {
            continue;
        };
        hosts.push(PlannedHost {
            address,
            seen: report.latest(&clusterfile.name, "rootfs").map(|record| record.id),
            ports: Vec::new(),
            etcd: false,
            leaves: true,
        });
        let node = kubeadm::node_name(&report.inventory.facts.hostname);
        if image.kubernetes.is_some() {
            let cluster = clusterfile.name.clone();
            let on_first_master =
                |action, reason| on_first_master(clusterfile, first, report, inventory, action, reason);
            if kubeadm::is_member(&clusterfile.name, Some(report)) {
                let action = StepAction::DrainNode {
                    cluster: cluster.clone(),
                    node: node.clone(),
                    time_limit_s: DRAIN_LIMIT_S,
                };
                let reason = format!("pods of {address} move elsewhere");
                drain.steps.push(on_first_master(action, reason));
            }
            let action = StepAction::DeleteNode { cluster, node };
            let reason = format!("{address} is no longer in the Clusterfile");
            forget_nodes.steps.push(on_first_master(action, reason));
        }
        let host = Host {
            address,
            role: Role::Node,
            env: clusterfile.env.clone(),
        };
        // One after the other: of control planes etcd loses one member at a time.
        let mut one = down.add(clusterfile, &host, report, Some(image));
        one.title = "leave".into();
        leaves.push(one);
    }
    let waves = std::iter::once(drain)
        .chain(leaves)
        .chain([forget_nodes])
        .chain(down.waves())
        .filter(|wave| !wave.steps.is_empty())
        .collect();
    Leave { hosts, waves }
}

/// A step about another host. A host that leaves, comes back and leaves again is another occasion.
fn on_first_master(
    clusterfile: &Clusterfile,
    first: IpAddr,
    leaving: &HostReport,
    inventory: &ClusterInventory,
    action: StepAction,
    reason: String,
) -> PlannedStep {
    let step = Step {
        action,
        after: occasion(leaving.latest(&clusterfile.name, "rootfs")),
    };
    let done = inventory
        .report(first)
        .is_some_and(|report| why_to_do(step.id(), report).is_none());
    if done {
        PlannedStep::new(first, step, Mark::Done, "done")
    } else {
        PlannedStep::new(first, step, Mark::Remove, reason)
    }
}

fn wave(title: &str) -> Wave {
    Wave {
        title: title.into(),
        keep_going: false,
        steps: Vec::new(),
    }
}
