//! The step that gives nodes their labels and taints.

use std::collections::BTreeMap;

use gantry_model::{ExitCode, NodeGroup, NodeMarks, StepAction, StepId};

use super::super::hostname::node_of;
use super::super::progress::state_step;
use super::super::{Mark, PlanImage, PlannedStep, Wave};
use super::wave;
use crate::clusterfile::Clusterfile;
use crate::exit::failure_hint;
use crate::inventory::ClusterInventory;

const TITLE: &str = "labels and taints";

/// The wave that marks nodes, on the first master; none when none is to have marks and none ever had. `restored` is the
/// step that changed etcd last, if one did.
///
/// # Errors
/// When nodes are to have marks and the image cannot make any.
pub(in crate::plan) fn marks(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    restored: Option<StepId>,
) -> anyhow::Result<Option<Wave>> {
    let first = clusterfile.first_master();
    let report = inventory.report(first.address);
    let mut groups: BTreeMap<&NodeMarks, Vec<String>> = BTreeMap::new();
    // A node that was deleted and came back has none of its marks, and after a restore all have those of then: this is
    // another step.
    let mut after = Vec::from_iter(restored);
    for host in clusterfile.hosts.iter().filter(|host| !host.marks.is_empty()) {
        let of_host = inventory.report(host.address);
        if of_host.is_none() {
            continue;
        }
        let node = node_of(host, of_host);
        let deleted =
            report.and_then(|report| report.latest(&clusterfile.name, &format!("delete node {node}")));
        after.extend(deleted.map(|record| record.id));
        groups.entry(&host.marks).or_default().push(node);
    }
    let marked_before = report.is_some_and(|report| report.latest(&clusterfile.name, TITLE).is_some());
    if groups.is_empty() && !marked_before {
        return Ok(None);
    }
    let able = image
        .kubernetes
        .as_ref()
        .is_some_and(|kubernetes| kubernetes.kubectl);
    if !able {
        return Err(failure_hint(
            ExitCode::Input,
            format!(
                "hosts are to have labels or taints, and image {} has no bin/kubeadm and bin/kubectl to set them",
                image.reference
            ),
            "leave `labels`, `taints` and roles beside master and node out, or use an image that brings Kubernetes",
        ));
    }
    let groups = groups
        .into_iter()
        .map(|(marks, nodes)| NodeGroup {
            nodes,
            marks: marks.clone(),
        })
        .collect();
    let action = StepAction::MarkNodes {
        cluster: clusterfile.name.clone(),
        groups,
    };
    let (step, mark, mut reason) = state_step(action.clone(), &after, report);
    if let (Mark::Change, Some(restored)) = (mark, restored) {
        let without: Vec<StepId> = after.iter().copied().filter(|id| *id != restored).collect();
        let same_before = state_step(action, &without, report).1 == Mark::Done;
        if same_before {
            "etcd was restored since".clone_into(&mut reason);
        }
    }
    Ok(Some(wave(
        TITLE,
        vec![PlannedStep::new(first.address, step, mark, reason)],
    )))
}
