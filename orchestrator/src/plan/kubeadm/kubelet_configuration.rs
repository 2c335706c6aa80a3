//! The waves that take what kubelets are told to a cluster that runs: into the cluster, then to one member after the other.

use std::num::NonZeroUsize;

use gantry_model::StepAction;

use super::super::progress::state_step;
use super::super::{PlanImage, PlannedStep, Wave};
use super::{anchor, config, is_member, wave};
use crate::clusterfile::{Clusterfile, Host, Role};
use crate::inventory::ClusterInventory;

const TITLE: &str = "kubelet configuration";

/// These waves; none where neither the image nor the operator says anything to kubelets. Kubelets start anew where what they are told
/// changes, so members that run take it one at a time, workers at most `max_unavailable`; hosts that are just joining all at once.
///
/// # Errors
/// When the image's own configuration cannot be used.
pub(in super::super) fn waves(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    max_unavailable: NonZeroUsize,
) -> anyhow::Result<Vec<Wave>> {
    let first = anchor(clusterfile, inventory);
    let Some(config) = config::for_kubelets(clusterfile, image, first)? else {
        return Ok(Vec::new());
    };
    let cluster = &clusterfile.name;
    let publish = StepAction::PublishKubeletConfiguration {
        cluster: cluster.clone(),
        config,
    };
    let (step, mark, reason) = state_step(publish, &[], inventory.report(first.address));
    let publish = PlannedStep::new(first.address, step, mark, reason);
    let after = [publish.id];
    let configure = |host: &Host| {
        let action = StepAction::ConfigureKubelet {
            cluster: cluster.clone(),
        };
        let (step, mark, reason) = state_step(action, &after, inventory.report(host.address));
        PlannedStep::new(host.address, step, mark, reason)
    };
    let mut at_once = vec![publish];
    let (mut masters, mut workers) = (Vec::new(), Vec::new());
    let mut joining = Vec::new();
    for host in &clusterfile.hosts {
        let step = configure(host);
        let runs = is_member(cluster, inventory.report(host.address));
        match host.role {
            _ if !step.is_to_do() => at_once.push(step),
            _ if !runs => joining.push(step),
            Role::Master => masters.push(vec![step]),
            Role::Node => workers.push(step),
        }
    }
    let mut waves = vec![at_once];
    waves.extend(masters);
    waves.extend(workers.chunks(max_unavailable.get()).map(<[_]>::to_vec));
    waves.push(joining);
    waves.retain(|steps| !steps.is_empty());
    Ok(waves.into_iter().map(|steps| wave(TITLE, steps)).collect())
}
