//! The waves by which hosts that are no longer in the Clusterfile leave their cluster: pods move elsewhere, kubeadm takes
//! the host out (and a control plane's etcd member with it, if etcd can do without), the cluster forgets the node, the host
//! becomes what it was. Of hosts that do not answer the cluster forgets what it can without them.

use std::net::IpAddr;

use gantry_model::{NodeMarks, Step, StepAction, StepId};

use super::progress::{occasion, why_to_do};
use super::reset::TakeDown;
use super::{Mark, Place, PlanImage, PlannedHost, PlannedStep, Wave, kubeadm};
use crate::clusterfile::{Clusterfile, Host, Role};
use crate::inventory::{ClusterInventory, HostReport};

/// How long pods may take to move elsewhere, in seconds. After it the host does not leave: a budget that forbids it, or a
/// pod that nobody would start again, is for people to decide about.
const DRAIN_LIMIT_S: u32 = 600;

/// A host that was in the cluster and is no longer in its Clusterfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// What was known of it when it was in the cluster.
    pub host: PlannedHost,
    /// Nobody waits for it to answer.
    pub given_up: bool,
}

/// Hosts that leave, and how.
pub(super) struct Leave {
    /// Those of which something is left.
    pub(super) hosts: Vec<PlannedHost>,
    /// What is done about hosts that do not answer. It comes before others join: etcd takes no new member beside a dead one.
    pub(super) give_up: Wave,
    /// What is done, in order.
    pub(super) waves: Vec<Wave>,
}

/// How `leaving` leave the cluster that `clusterfile` describes without them.
pub(super) fn leave(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    leaving: &[Leaving],
) -> Leave {
    let cluster = &clusterfile.name;
    let anchor = Anchor {
        address: kubeadm::anchor(clusterfile, inventory).address,
        inventory,
    };
    let mut give_up = wave("give up");
    let (mut drain, mut forget_nodes) = (wave("drain"), wave("forget nodes"));
    let mut leaves = Vec::new();
    let mut down = TakeDown::new(false);
    let mut hosts = Vec::new();
    let kubernetes = image.kubernetes.is_some();
    for Leaving { host, given_up } in leaving {
        let address = host.address;
        let Some(report) = inventory.report(address).filter(|report| report.has(cluster)) else {
            if *given_up {
                hosts.push(PlannedHost {
                    place: Place::GivenUp,
                    ports: Vec::new(),
                    ..host.clone()
                });
                if kubernetes {
                    give_up.steps.extend(anchor.forgets(clusterfile, host));
                }
            }
            continue;
        };
        let seen = report.latest(cluster, "rootfs");
        hosts.push(PlannedHost {
            seen: seen.map(|record| record.id),
            ports: Vec::new(),
            place: Place::Leaves,
            ..host.clone()
        });
        let node = kubeadm::node_name(&report.inventory.facts.hostname);
        let after = occasion(seen);
        let member = kubernetes && kubeadm::is_member(cluster, Some(report));
        if member && !given_up_before(host) {
            let action = StepAction::DrainNode {
                cluster: cluster.clone(),
                node: node.clone(),
                time_limit_s: DRAIN_LIMIT_S,
                leaves: true,
            };
            let reason = format!("pods of {address} move elsewhere");
            drain.steps.push(anchor.step(action, after.clone(), reason));
        }
        if kubernetes {
            let action = StepAction::DeleteNode {
                cluster: cluster.clone(),
                node,
            };
            let reason = format!("{address} is no longer in the Clusterfile");
            forget_nodes
                .steps
                .push(anchor.step(action, after.clone(), reason));
        }
        leaves.extend(one_leaves(clusterfile, image, &anchor, host, report, &mut down));
    }
    let waves = std::iter::once(drain)
        .chain(leaves)
        .chain([forget_nodes])
        .chain(down.waves())
        .filter(|wave| !wave.steps.is_empty())
        .collect();
    Leave {
        hosts,
        give_up,
        waves,
    }
}

/// One after the other: of control planes etcd loses one member at a time, and none that it cannot do without.
fn one_leaves(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    anchor: &Anchor<'_>,
    host: &PlannedHost,
    report: &HostReport,
    down: &mut TakeDown,
) -> Vec<Wave> {
    let (cluster, address) = (clusterfile.name.clone(), host.address);
    let mut leave = down.add(
        clusterfile,
        &no_longer_in_the_file(clusterfile, host),
        report,
        Some(image),
    );
    leave.title = "leave".into();
    if !host.etcd {
        return vec![leave];
    }
    let after = occasion(report.latest(&cluster, "rootfs"));
    let mut quorum = wave("etcd");
    if !leave.steps.is_empty() {
        let action = StepAction::CheckQuorum {
            cluster: cluster.clone(),
            address,
        };
        // Whatever it found the last time.
        let (step, reason) = (
            Step {
                action,
                after: after.clone(),
            },
            "or the host does not leave",
        );
        quorum
            .steps
            .push(PlannedStep::new(anchor.address, step, Mark::Change, reason));
    }
    let mut forget = wave("etcd");
    let remove = StepAction::RemoveEtcdMember { cluster, address };
    let reason = "should kubeadm not have done it";
    forget.steps.push(anchor.step(remove, after, reason.into()));
    vec![quorum, leave, forget]
}

/// What can be said of a host that is no longer in the file, where it is taken down.
pub(super) fn no_longer_in_the_file(clusterfile: &Clusterfile, host: &PlannedHost) -> Host {
    Host {
        address: host.address,
        role: if host.etcd { Role::Master } else { Role::Node },
        env: clusterfile.env.clone(),
        marks: NodeMarks::default(),
        hostname: None,
    }
}

/// It was given up in a plan before this one, and is back.
fn given_up_before(host: &PlannedHost) -> bool {
    host.place == Place::GivenUp
}

/// The control plane that does what has to be done about other hosts.
struct Anchor<'a> {
    address: IpAddr,
    inventory: &'a ClusterInventory,
}

impl Anchor<'_> {
    /// How the cluster forgets a host that does not answer.
    fn forgets(&self, clusterfile: &Clusterfile, host: &PlannedHost) -> Vec<PlannedStep> {
        let cluster = &clusterfile.name;
        let after: Vec<StepId> = host.seen.into_iter().collect();
        let mut steps = Vec::new();
        if host.etcd {
            let action = StepAction::RemoveEtcdMember {
                cluster: cluster.clone(),
                address: host.address,
            };
            steps.push(self.step(action, after.clone(), "given up: it does not answer".into()));
        }
        if !host.node.is_empty() {
            let action = StepAction::DeleteNode {
                cluster: cluster.clone(),
                node: host.node.clone(),
            };
            steps.push(self.step(
                action,
                after,
                format!("{} is given up: it does not answer", host.address),
            ));
        }
        steps
    }

    /// A step about another host. One that leaves, comes back and leaves again is another occasion.
    fn step(&self, action: StepAction, after: Vec<StepId>, reason: String) -> PlannedStep {
        let step = Step { action, after };
        let report = self.inventory.report(self.address);
        if report.is_some_and(|report| why_to_do(step.id(), report).is_none()) {
            PlannedStep::new(self.address, step, Mark::Done, "done")
        } else {
            PlannedStep::new(self.address, step, Mark::Remove, reason)
        }
    }
}

fn wave(title: &str) -> Wave {
    Wave {
        title: title.into(),
        keep_going: false,
        steps: Vec::new(),
    }
}
