//! What this control plane says about its cluster: its nodes, by the image's kubectl, and its etcd.

use std::path::Path;
use std::time::Duration;

use gantry_model::{ClusterHealth, ClusterName, NodeHealth};
use gantry_system::processes;
use tokio::process::Command;

use super::pass::proved;
use super::{ADMIN, KUBECTL, PassError};
use crate::etcd;
use crate::executor::chain;
use crate::facts::PATH;
use crate::host::Host;

/// How long kubectl may take.
const KUBECTL_LIMIT: Duration = Duration::from_secs(20);
/// And how long it waits for the API server.
const REQUEST_TIMEOUT: &str = "--request-timeout=15s";
/// A line for each node, words apart by tabs; the message of its condition is the last.
const NODES: &str = "jsonpath={range .items[*]}{.metadata.name}{\"\\t\"}\
    {.status.addresses[?(@.type==\"InternalIP\")].address}{\"\\t\"}{.status.nodeInfo.kubeletVersion}{\"\\t\"}\
    {.spec.unschedulable}{\"\\t\"}{.status.conditions[?(@.type==\"Ready\")].status}{\"\\t\"}\
    {.status.conditions[?(@.type==\"Ready\")].message}{\"\\n\"}{end}";

/// What this host knows of `cluster`. What cannot be found out is in the answer, too.
///
/// # Errors
/// When this host is no control plane of it.
pub(crate) async fn health(host: &Host, cluster: &ClusterName) -> Result<ClusterHealth, PassError> {
    if !Path::new(ADMIN).is_file() {
        return Err(PassError::NoControlPlane {
            cluster: cluster.clone(),
        });
    }
    let kubectl = proved(host, cluster, KUBECTL).await?;
    let (nodes, etcd) = tokio::join!(nodes(&kubectl), etcd::members());
    let mut health = ClusterHealth::default();
    match nodes {
        Ok(nodes) => health.nodes = nodes,
        Err(reason) => health.problems.push(format!("nodes: {reason}")),
    }
    match etcd {
        Ok(members) => health.etcd = members,
        // An etcd of somebody else's is his to look at.
        Err(etcd::EtcdError::NoEtcd(_)) => {}
        Err(error) => health.problems.push(format!("etcd: {}", chain(&error))),
    }
    Ok(health)
}

async fn nodes(kubectl: &Path) -> Result<Vec<NodeHealth>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let cache = format!("--cache-dir={}", folder.path().display());
    let mut command = Command::new(kubectl);
    command
        .args([
            "--kubeconfig",
            ADMIN,
            &cache,
            REQUEST_TIMEOUT,
            "get",
            "nodes",
            "-o",
            NODES,
        ])
        .env("PATH", PATH);
    let output = processes::run_successfully(&mut command, KUBECTL_LIMIT)
        .await
        .map_err(|error| chain(&error))?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(node)
        .collect())
}

fn node(line: &str) -> Option<NodeHealth> {
    let words: Vec<&str> = line.splitn(6, '\t').collect();
    let [name, address, version, unschedulable, ready, message] = words[..] else {
        return None;
    };
    Some(NodeHealth {
        name: name.to_owned(),
        address: address
            .split_ascii_whitespace()
            .next()
            .and_then(|address| address.parse().ok()),
        version: version.to_owned(),
        problem: (ready != "True").then(|| {
            let message = message.trim();
            if message.is_empty() {
                format!("ready: {ready}")
            } else {
                message.to_owned()
            }
        }),
        cordoned: unschedulable == "true",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_or_says_why_not() {
        let ready = node("host1\t10.0.0.2\tv1.20.2\t\tTrue\tkubelet is posting ready status").unwrap();
        assert_eq!((ready.problem, ready.cordoned), (None, false));
        let lost =
            node("host2\t10.0.0.3\tv1.20.2\ttrue\tUnknown\tKubelet stopped posting node status.").unwrap();
        assert_eq!(
            lost.problem.as_deref(),
            Some("Kubelet stopped posting node status.")
        );
        assert!(lost.cordoned);
        assert_eq!(node("garbage"), None);
    }
}
