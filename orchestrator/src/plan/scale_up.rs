//! Which hosts are added to a cluster that was complete: what plugins at `pre-scaleup` and `post-scaleup` wait for.
//!
//! A plan ends when every node is ready, and the first control plane remembers that. Who joins after it is added; so a plan
//! that was cut off knows yet whom it added, and the first plan of a cluster adds nobody. Nodes are waited for while a CA is
//! replaced, too, which ends no such plan.

use std::collections::BTreeSet;

use gantry_model::{ClusterName, KubeadmAct, StepAction, StepId, StepOutcome, StepRecord};

use super::{PlannedStep, Wave, cluster_ca, kubeadm};
use crate::inventory::{ClusterInventory, HostReport};

/// The steps by which hosts were added since the cluster was complete, or will be; `join` are the waves in which hosts become
/// members.
pub(super) fn added(cluster: &ClusterName, inventory: &ClusterInventory, join: &[Wave]) -> Vec<StepId> {
    let ready = |(_, report): (_, &HostReport)| {
        let records = complete(cluster, report);
        records.map(|record| report.by_our_clock(record.started_at)).max()
    };
    let Some(complete) = inventory.reached().filter_map(ready).max() else {
        return Vec::new();
    };
    let added = |step: &PlannedStep| {
        let StepAction::Kubeadm(spec) = &step.step.action else {
            return None;
        };
        if !matches!(spec.act, KubeadmAct::Join { .. }) {
            return None;
        }
        // A host that does not answer may be a member already, and joins in no plan that goes on without it.
        let report = inventory.report(step.host)?;
        if step.is_to_do() {
            return Some(step.id);
        }
        // By the step that it ran: what it would be given now may differ.
        let record = kubeadm::latest(cluster, report)?;
        (report.by_our_clock(record.started_at) > complete).then_some(record.id)
    };
    let steps = join.iter().flat_map(|wave| &wave.steps);
    let ids: BTreeSet<StepId> = steps.filter_map(added).collect();
    ids.into_iter().collect()
}

/// The ends of plans at which every node of the cluster was ready, as the journal of a host has them.
pub(super) fn complete<'a>(
    cluster: &'a ClusterName,
    report: &'a HostReport,
) -> impl Iterator<Item = &'a StepRecord> {
    let every_node = |record: &&StepRecord| {
        record.title == kubeadm::NODES_READY && record.outcome.as_ref().is_some_and(StepOutcome::succeeded)
    };
    report
        .records(cluster)
        .filter(every_node)
        .filter(move |record| !cluster_ca::waited_meanwhile(cluster, report, record))
}
