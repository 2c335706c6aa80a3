//! Labels and taints of nodes, set by a control plane.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gantry_model::{ClusterName, NodeGroup, NodeMarks};
use gantry_protocol::limits::MAX_MARKED_NODES;
use tokio::time::Instant;

use super::check_node;
use super::node_api::{NodeApi, NodeError};
use super::node_patch::{is_marked, patch};
use crate::host::Host;

/// How long it is tried again: API servers are away for moments while control planes join, nodes change under us, and a
/// node may be a little late.
const TRY_LIMIT: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether `groups` are within bounds.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn check_groups(groups: &[NodeGroup]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for group in groups {
        group.marks.check()?;
        for node in &group.nodes {
            check_node(node)?;
            if !seen.insert(node) {
                return Err(format!("node {node} is to be marked in two ways"));
            }
        }
    }
    if seen.len() > MAX_MARKED_NODES || groups.len() > MAX_MARKED_NODES {
        return Err(format!("at most {MAX_MARKED_NODES} nodes are marked"));
    }
    Ok(())
}

/// Gives the nodes of `groups` their marks, and takes from every node what it had from us and shall have no longer.
///
/// # Errors
/// When this host is no control plane of the cluster, its API server does not answer, or a node is missing.
pub(crate) async fn mark_nodes(
    host: &Host,
    cluster: &ClusterName,
    groups: &[NodeGroup],
) -> Result<(), NodeError> {
    let nodes = NodeApi::of(host, cluster).await?;
    let wanted: BTreeMap<&str, &NodeMarks> = groups
        .iter()
        .flat_map(|group| group.nodes.iter().map(|node| (node.as_str(), &group.marks)))
        .collect();
    let until = Instant::now() + TRY_LIMIT;
    loop {
        match mark(&nodes, cluster, &wanted).await {
            Err(error) if Instant::now() < until => {
                tracing::info!(%cluster, "{error}; tried again");
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

async fn mark(
    api: &NodeApi,
    cluster: &ClusterName,
    wanted: &BTreeMap<&str, &NodeMarks>,
) -> Result<(), NodeError> {
    let none = NodeMarks::default();
    let mut missing: BTreeSet<&str> = wanted.keys().copied().collect();
    for node in api.nodes().await? {
        let Some(name) = node["metadata"]["name"].as_str() else {
            continue;
        };
        missing.remove(name);
        let marks = match wanted.get(name) {
            Some(marks) => marks,
            None if is_marked(&node) => &none,
            None => continue,
        };
        if let Some(patch) = patch(&node, marks) {
            api.patch(name, &patch).await?;
            tracing::info!(%cluster, node = name, "labels and taints set");
        }
    }
    match missing.first() {
        Some(node) => Err(NodeError::NoNode(cluster.clone(), (*node).to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_marked_in_one_way() {
        let group = |nodes: &[&str]| NodeGroup {
            nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
            marks: NodeMarks::default(),
        };
        check_groups(&[group(&["host1", "host2"]), group(&["host3"])]).unwrap();
        assert!(check_groups(&[group(&["host1"]), group(&["host1"])]).is_err());
        assert!(check_groups(&[group(&["--all"])]).is_err());
    }
}
