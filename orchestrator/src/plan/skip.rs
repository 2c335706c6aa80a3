//! A plan that goes on without hosts that do not answer. They stay in the cluster as they are; the next apply that they answer
//! makes up for it. Workers only: other hosts build on control planes.

use std::net::IpAddr;

use gantry_model::StepAction;

use super::{Mark, Place, Plan, PlannedHost, PlannedStep, kubeadm};
use crate::inventory::ClusterInventory;

impl Plan {
    /// The plan without the workers that `inventory` could not reach. `applied` are the hosts as they were applied last: what
    /// the nodes of silent hosts are called, only they know.
    #[must_use]
    pub fn skipping(mut self, inventory: &ClusterInventory, applied: &[PlannedHost]) -> Self {
        let mut has_node = false;
        for host in &mut self.hosts {
            if host.etcd || host.place != Place::Stays || !inventory.is_silent(host.address) {
                continue;
            }
            host.place = Place::Skipped;
            let before = applied.iter().find(|before| before.address == host.address);
            has_node |= before.is_some();
            let Some(before) = before else { continue };
            host.kubernetes.clone_from(&before.kubernetes);
            if host.node.is_empty() {
                host.node.clone_from(&before.node);
            }
        }
        let skipped: Vec<PlannedHost> = self.skipped().cloned().collect();
        if skipped.is_empty() {
            return self;
        }
        let is_skipped = |host: IpAddr| skipped.iter().any(|one| one.address == host);
        for wave in &mut self.waves {
            wave.steps.retain(|step| !is_skipped(step.host));
            // Whose labels and taints are not named loses them, and what a silent host is called may not be known.
            wave.steps
                .retain(|step| !has_node || !matches!(step.step.action, StepAction::MarkNodes { .. }));
            for step in &mut wave.steps {
                do_not_wait_for(step, &skipped, inventory);
            }
        }
        self.waves.retain(|wave| !wave.steps.is_empty());
        self
    }

    /// Those of the hosts that the plan goes on without that cannot be taken to the Kubernetes `version` of its image when they are
    /// back, each with the version that it had when it answered last.
    #[must_use]
    pub fn left_behind(&self, version: &str) -> Vec<(IpAddr, &str)> {
        self.skipped()
            .filter_map(|host| Some((host.address, host.kubernetes.as_deref()?)))
            .filter(|(_, last)| kubeadm::skips_a_minor(last, version))
            .collect()
    }

    /// The hosts that the plan goes on without.
    pub fn skipped(&self) -> impl Iterator<Item = &PlannedHost> {
        self.hosts.iter().filter(|host| host.place == Place::Skipped)
    }
}

/// A node that is off never becomes ready.
fn do_not_wait_for(planned: &mut PlannedStep, skipped: &[PlannedHost], inventory: &ClusterInventory) {
    let mut step = planned.step.clone();
    let StepAction::WaitForNodes { except, .. } = &mut step.action else {
        return;
    };
    let nodes = skipped.iter().map(|host| host.node.clone());
    except.extend(nodes.filter(|node| !node.is_empty()));
    if except.is_empty() {
        return;
    }
    let why = inventory
        .report(planned.host)
        .map(|report| super::progress::why_to_do(step.id(), report));
    *planned = match why {
        Some(None) => PlannedStep::new(planned.host, step, Mark::Done, "done"),
        _ => PlannedStep::new(planned.host, step, Mark::Add, "of those that answer"),
    };
}
