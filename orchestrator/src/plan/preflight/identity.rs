//! Whether every host is one of its own: by machine-id, and by the name that its node will have.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Check, Finding};
use crate::inventory::ClusterInventory;
use crate::plan::{Plan, kubeadm};

pub(super) fn identity(plan: &Plan, inventory: &ClusterInventory, findings: &mut Vec<Finding>) {
    let mut machines: BTreeMap<&str, IpAddr> = BTreeMap::new();
    let mut names: BTreeMap<String, IpAddr> = BTreeMap::new();
    for (host, report) in inventory.reached() {
        let facts = &report.inventory.facts;
        // The name that it has when the plan is done.
        let planned = plan.hosts.iter().find(|planned| planned.address == host);
        let node = planned
            .map(|planned| planned.node.clone())
            .filter(|node| !node.is_empty())
            .unwrap_or_else(|| kubeadm::node_name(&facts.hostname));
        let name = if node == kubeadm::node_name(&facts.hostname) {
            &facts.hostname
        } else {
            &node
        };
        let mut add = |message| {
            findings.push(Finding {
                check: Check::Identity,
                host,
                message,
            });
        };
        if let Some(other) = (!facts.machine_id.is_empty())
            .then(|| machines.insert(&facts.machine_id, host))
            .flatten()
        {
            add(format!(
                "it has the machine-id of {other}: two addresses of one host, or a cloned disk; \
                         for a clone run `systemd-machine-id-setup` after removing /etc/machine-id"
            ));
        } else if let Some(other) = names.insert(node.clone(), host) {
            add(format!(
                "it has the host name {name:?} of {other}; set another one with `hostnamectl`"
            ));
        }
        if plan.kubernetes.is_some() && !kubeadm::is_node_name(&node) {
            add(format!(
                "its host name {name:?} cannot be a node's: letters, digits, '-' and '.' only; set another one with \
                 `hostnamectl`"
            ));
        }
    }
}
