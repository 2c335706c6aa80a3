//! What a control plane says about its cluster, and which certificate ends first.

use std::net::IpAddr;

use gantry_model::{CertificateRecord, ClusterHealth, ClusterName};
use gantry_system::clock::now_s;

use super::red;
use crate::inventory::ClusterInventory;
use crate::output::{Table, date};
use crate::plan::renew::RENEW_BEFORE_END_S;
use crate::session::{AgentSession as _, SessionError, Sessions};

/// What the first control plane that answers says; none where no host of the cluster is a control plane.
pub(in crate::commands) async fn ask<S: Sessions>(
    sessions: &S,
    cluster: &ClusterName,
    inventory: &ClusterInventory,
) -> Option<ClusterHealth> {
    let has_control_plane = |certificates: &[CertificateRecord]| {
        certificates
            .iter()
            .any(|record| record.file.ends_with("/admin.conf"))
    };
    let control_planes = inventory
        .reached()
        .filter(|(_, report)| report.has(cluster) && has_control_plane(&report.inventory.certificates));
    let mut last = None;
    for (host, _) in control_planes {
        let asked: Result<ClusterHealth, SessionError> =
            async { sessions.session(host).await?.cluster_health(cluster).await }.await;
        match asked {
            // Another one may know more.
            Ok(health) if health.nodes.is_empty() => last = Some(health),
            Ok(health) => return Some(health),
            Err(error) => {
                let problems = vec![format!("{host}: {}", error.without_address(host))];
                last = last.or(Some(ClusterHealth {
                    problems,
                    ..ClusterHealth::default()
                }));
            }
        }
    }
    last
}

/// Nodes and members of etcd for people.
pub(super) fn render(health: &ClusterHealth) -> String {
    let mut text = String::new();
    if !health.nodes.is_empty() {
        let mut table = Table::new(["NODE", "ADDRESS", "VERSION", "STATE"]);
        for node in &health.nodes {
            let cordoned = if node.cordoned { ", cordoned" } else { "" };
            let state = match &node.problem {
                None => format!("ready{cordoned}"),
                Some(problem) => red(&format!("not ready{cordoned}: {problem}")),
            };
            let address = node
                .address
                .map_or_else(|| "-".into(), |address| address.to_string());
            table.row([node.name.clone(), address, node.version.clone(), state]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    if !health.etcd.0.is_empty() {
        let mut table = Table::new(["ETCD MEMBER", "ADDRESS", "STATE"]);
        for member in &health.etcd.0 {
            let state = match &member.problem {
                None if member.learner => "learns".to_owned(),
                None => "serves".to_owned(),
                Some(problem) => red(problem),
            };
            table.row([member.name.clone(), member.address.to_string(), state]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    for problem in &health.problems {
        text.push_str(&format!("\n{}\n", red(problem)));
    }
    text
}

/// The certificate on any host that ends first, with its host.
pub(super) fn first_to_end(inventory: &ClusterInventory) -> Option<(IpAddr, &CertificateRecord)> {
    let records = inventory.reached().flat_map(|(host, report)| {
        let records = report.inventory.certificates.iter();
        records.map(move |record| (host, record))
    });
    records.min_by_key(|(_, record)| record.not_after)
}

/// A line about it.
pub(super) fn certificate_line((host, record): (IpAddr, &CertificateRecord)) -> String {
    let left = record.not_after - now_s();
    let text = format!(
        "First certificate to end: {} on {host}, {} ({} days)",
        record.file,
        date(record.not_after),
        left.div_euclid(24 * 3600)
    );
    if left < RENEW_BEFORE_END_S {
        format!(
            "\n{}\n",
            red(&format!("{text}; `gantry certs renew` makes new ones"))
        )
    } else {
        format!("\n{text}\n")
    }
}
