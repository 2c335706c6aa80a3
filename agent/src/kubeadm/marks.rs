//! Labels and taints of nodes, set by a control plane through kubectl of the image. What the API server answers is read as
//! the JSON objects of its API.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::{ClusterName, NodeGroup, NodeMarks};
use gantry_protocol::limits::MAX_MARKED_NODES;
use gantry_system::processes::{self, ProcessError};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::Instant;

use super::node_patch::{is_marked, patch};
use super::{ADMIN, KUBECTL, check_node};
use crate::facts::PATH;
use crate::host::Host;
use crate::rootfs::RootfsError;
use crate::scripts::ProofError;

/// How many nodes are asked for at a time: an answer with more might be longer than what is kept of it.
const PAGE: usize = 16;
/// How long one call of kubectl may take.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// How long it is tried again: API servers are away for moments while control planes join, nodes change under us, and a
/// node may be a little late.
const TRY_LIMIT: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Why nodes are not marked as they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MarkError {
    /// This host has no access to the cluster.
    #[error("this host is no control plane of cluster {0}: there is no {ADMIN}")]
    NoControlPlane(ClusterName),
    /// The rootfs with kubectl is not there.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// kubectl is not the image's.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A temporary folder cannot be made.
    #[error("cannot make a temporary folder: {0}")]
    Folder(io::Error),
    /// kubectl failed.
    #[error("kubectl cannot {0}: {1}")]
    Kubectl(String, ProcessError),
    /// The answer is no list of nodes.
    #[error("the API server's list of nodes cannot be read: {0}")]
    Answer(String),
    /// A node is not there.
    #[error("cluster {0} has no node {1}")]
    NoNode(ClusterName, String),
}

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
) -> Result<(), MarkError> {
    let rootfs = host.rootfs.path(cluster)?;
    if !Path::new(ADMIN).is_file() {
        return Err(MarkError::NoControlPlane(cluster.clone()));
    }
    let layers = host
        .rootfs
        .current_generation(cluster)?
        .map(|generation| generation.layers)
        .unwrap_or_default();
    host.scripts.prove(&host.store, &layers, &rootfs, KUBECTL)?;
    let folder = tempfile::tempdir().map_err(MarkError::Folder)?;
    let kubectl = Kubectl {
        program: rootfs.join(KUBECTL),
        cache: folder.path().to_owned(),
    };
    let wanted: BTreeMap<&str, &NodeMarks> = groups
        .iter()
        .flat_map(|group| group.nodes.iter().map(|node| (node.as_str(), &group.marks)))
        .collect();
    let until = Instant::now() + TRY_LIMIT;
    loop {
        match mark(&kubectl, cluster, &wanted).await {
            Err(error) if Instant::now() < until => {
                tracing::info!(%cluster, "{error}; tried again");
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

async fn mark(
    kubectl: &Kubectl,
    cluster: &ClusterName,
    wanted: &BTreeMap<&str, &NodeMarks>,
) -> Result<(), MarkError> {
    let none = NodeMarks::default();
    let mut missing: BTreeSet<&str> = wanted.keys().copied().collect();
    for node in kubectl.nodes().await? {
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
            kubectl.patch(name, &patch).await?;
            tracing::info!(%cluster, node = name, "labels and taints set");
        }
    }
    match missing.first() {
        Some(node) => Err(MarkError::NoNode(cluster.clone(), (*node).to_owned())),
        None => Ok(()),
    }
}

/// kubectl of the image, as the cluster's administrator.
struct Kubectl {
    program: PathBuf,
    /// What it keeps between two calls.
    cache: PathBuf,
}

impl Kubectl {
    /// Every node of the cluster, as the API has it.
    async fn nodes(&self) -> Result<Vec<Value>, MarkError> {
        let mut nodes = Vec::new();
        let mut next = String::new();
        loop {
            let path = format!("/api/v1/nodes?limit={PAGE}{next}");
            let text = self.call(&["get", "--raw", &path], "list nodes".into()).await?;
            let mut page: Value =
                serde_json::from_slice(&text).map_err(|error| MarkError::Answer(error.to_string()))?;
            let Value::Array(items) = page["items"].take() else {
                return Err(MarkError::Answer("it has no items".into()));
            };
            nodes.extend(items);
            match page["metadata"]["continue"].as_str() {
                Some(token) if !token.is_empty() && nodes.len() <= MAX_MARKED_NODES => {
                    next = format!("&continue={token}");
                }
                _ => return Ok(nodes),
            }
        }
    }

    async fn patch(&self, node: &str, patch: &Value) -> Result<(), MarkError> {
        let words = ["patch", "node", node, "--type=merge", "-p", &patch.to_string()];
        self.call(&words, format!("mark node {node}")).await.map(drop)
    }

    async fn call(&self, words: &[&str], what: String) -> Result<Vec<u8>, MarkError> {
        let mut command = Command::new(&self.program);
        command
            .args(["--kubeconfig", ADMIN, "--cache-dir"])
            .arg(&self.cache)
            .args(words)
            .env("PATH", PATH);
        match processes::run_successfully(&mut command, CALL_LIMIT).await {
            Ok(output) => Ok(output.stdout),
            Err(source) => Err(MarkError::Kubectl(what, source)),
        }
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
