//! The waves by which a cluster's control planes get new certificates, one control plane after the other.

use std::net::IpAddr;

use gantry_model::{CertificateKeeper, CertificateRecord, ClusterName, Step, StepAction};

use super::{Mark, PLAN_VERSION, Place, Plan, PlannedHost, PlannedStep, Purpose, Wave, kubeadm};
use crate::inventory::{ClusterInventory, HostReport};

/// Certificates are made anew when they have less than this left, in seconds: 30 days of the 365 that they are good for.
pub const RENEW_BEFORE_END_S: i64 = 30 * 24 * 3600;

/// A certificate of the control plane on a host that ends first; none where there is none that kubeadm renews.
#[must_use]
pub fn first_to_end(report: &HostReport) -> Option<&CertificateRecord> {
    let records = report.inventory.certificates.iter();
    let of_kubeadm = records.filter(|record| record.keeper == CertificateKeeper::Kubeadm);
    of_kubeadm.min_by_key(|record| record.not_after)
}

/// A wave for each of `hosts` whose control plane gets new certificates: with `only_due` those that have one which ends
/// soon, by their own clocks.
pub(super) fn waves(
    cluster: &ClusterName,
    hosts: &[IpAddr],
    inventory: &ClusterInventory,
    only_due: bool,
) -> Vec<Wave> {
    let wave = |&host: &IpAddr| {
        let report = inventory.report(host)?;
        // A host that is not a member yet, or no control plane, has none of this cluster.
        if !kubeadm::is_member(cluster, Some(report)) {
            return None;
        }
        let first = first_to_end(report)?;
        let left = first.not_after - report.inventory.clock_ms / 1000;
        if only_due && left >= RENEW_BEFORE_END_S {
            return None;
        }
        let action = StepAction::RenewCertificates {
            cluster: cluster.clone(),
            ending: first.not_after,
        };
        let step = Step {
            action,
            after: Vec::new(),
        };
        let days = left.div_euclid(24 * 3600);
        let reason = if left < 0 {
            format!("{} has ended", first.file)
        } else {
            format!("{} ends in {days} days", first.file)
        };
        Some(Wave {
            title: "certificates".into(),
            keep_going: false,
            steps: vec![PlannedStep::new(host, step, Mark::Change, reason)],
        })
    };
    hosts.iter().filter_map(wave).collect()
}

/// The plan that gives the control planes among `hosts` new certificates, and does nothing else.
#[must_use]
pub fn plan(cluster: &ClusterName, hosts: &[IpAddr], inventory: &ClusterInventory, only_due: bool) -> Plan {
    let waves = waves(cluster, hosts, inventory, only_due);
    let planned = |wave: &Wave| {
        let address = wave.steps.first()?.host;
        let report = inventory.report(address)?;
        Some(PlannedHost {
            address,
            seen: report.latest(cluster, "rootfs").map(|record| record.id),
            ports: Vec::new(),
            etcd: true,
            node: kubeadm::node_name(&report.inventory.facts.hostname),
            kubernetes: None,
            place: Place::Stays,
        })
    };
    Plan {
        version: PLAN_VERSION,
        purpose: Purpose::Renew,
        cluster: cluster.clone(),
        image: None,
        kubernetes: None,
        hosts: waves.iter().filter_map(planned).collect(),
        waves,
    }
}
