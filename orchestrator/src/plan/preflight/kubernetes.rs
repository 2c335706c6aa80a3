//! What Kubernetes asks of its hosts, and kubeadm or kubelet would otherwise say half way: swap, control groups, tools,
//! room for etcd, addresses.

use gantry_model::{HostFacts, IpRange};

use super::{Check, Finding, still_needed};
use crate::inventory::HostReport;
use crate::output::bytes;
use crate::plan::{Plan, PlanImage, PlannedHost, kubeadm};

/// Controllers without which kubelet or a container runtime does not start (kubernetes/system-validators; `pids` by
/// kubelet itself since v1.20).
const CONTROLLERS: [&str; 7] = ["cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids"];
/// What etcd's data may grow to, in bytes: its own quota (etcd.io, "Space quota").
const ETCD_QUOTA: u64 = 2 << 30;

/// What speaks against making one host a member of the plan's cluster.
pub(super) fn host(
    plan: &Plan,
    image: &PlanImage,
    host: &PlannedHost,
    report: &HostReport,
    add: &mut impl FnMut(Check, String),
) {
    let Some(needs) = &plan.kubernetes else { return };
    if kubeadm::is_member(&plan.cluster, Some(report)) {
        return;
    }
    let facts = &report.inventory.facts;
    if facts.swap > 0 && !needs.bears_swap {
        let text = format!(
            "{} of swap are on, and kubelet does not start with it; `swapoff -a` and take it out of /etc/fstab, or \
             set failSwapOn: false in a KubeletConfiguration",
            bytes(facts.swap)
        );
        add(Check::Swap, text);
    }
    let missing: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|name| !facts.cgroups.iter().any(|one| one == name))
        .collect();
    if !missing.is_empty() {
        let text = format!(
            "its kernel has no control group controller {}; is it left out on the kernel's command line \
             (cgroup_enable=memory, cgroup_disable=…)?",
            missing.join(", ")
        );
        add(Check::Cgroups, text);
    }
    tools(&needs.tools, facts, add);
    if host.etcd && needs.etcd_in_default_folder {
        // Both come to one disk.
        let image = if facts.etcd_beside_store {
            still_needed(image, report)
        } else {
            0
        };
        if facts.etcd_disk.free < image + ETCD_QUOTA {
            let beside = if image > 0 {
                format!(" beside the image's {}", bytes(image))
            } else {
                String::new()
            };
            let text = format!(
                "etcd may need {} below /var/lib/etcd{beside}, {} are free",
                bytes(ETCD_QUOTA),
                bytes(facts.etcd_disk.free)
            );
            add(Check::EtcdDisk, text);
        }
    }
    // What a cluster that was here made of the host's networks is its own.
    if !report.has(&plan.cluster) {
        networks(&needs.pods, "pods", "PodCIDR", facts, add);
        networks(&needs.services, "services", "SvcCIDR", facts, add);
    }
}

/// What will keep one host from being a member when it has booted.
pub(super) fn after_boot(plan: &Plan, report: &HostReport) -> Option<String> {
    let needs = plan.kubernetes.as_ref()?;
    let swap = report.inventory.facts.swap;
    let warns = swap > 0 && needs.swap_off_until_boot && !kubeadm::is_member(&plan.cluster, Some(report));
    warns.then(|| {
        format!(
            "{} of swap are on; the image's scripts turn it off until the host boots, and kubelet will not start then: \
             take it out of /etc/fstab, or set failSwapOn: false in a KubeletConfiguration",
            bytes(swap)
        )
    })
}

/// What speaks against the cluster, wherever it is.
pub(super) fn cluster(plan: &Plan, findings: &mut Vec<Finding>) {
    let (Some(needs), Some(first)) = (&plan.kubernetes, plan.hosts.first()) else {
        return;
    };
    for pods in &needs.pods {
        for services in needs.services.iter().filter(|services| services.overlaps(pods)) {
            findings.push(Finding {
                check: Check::Networks,
                host: first.address,
                message: format!(
                    "the pods' addresses {pods} and the services' {services} overlap; choose others (PodCIDR, SvcCIDR)"
                ),
            });
        }
    }
}

/// What the image's own scripts need is another check's.
fn tools(needed: &[String], facts: &HostFacts, add: &mut impl FnMut(Check, String)) {
    let missing: Vec<&str> = facts
        .missing_tools
        .iter()
        .filter(|tool| needed.contains(tool) && !facts.missing_commands.contains(tool))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        let text = format!(
            "kubeadm needs {}, which the image does not bring; install it on the host",
            missing.join(", ")
        );
        add(Check::Tools, text);
    }
}

fn networks(
    ranges: &[IpRange],
    whose: &str,
    variable: &str,
    facts: &HostFacts,
    add: &mut impl FnMut(Check, String),
) {
    for range in ranges {
        let taken = facts
            .networks
            .iter()
            .find(|network| network.range.overlaps(range));
        if let Some(taken) = taken {
            let text = format!(
                "the {whose}' addresses {range} overlap {}, which it reaches by {}; choose others ({variable})",
                taken.range, taken.interface
            );
            add(Check::Networks, text);
        }
    }
}
