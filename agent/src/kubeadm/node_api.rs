//! This module owns [`NodeApi`]: nodes of a cluster as its API has them, asked for and changed by a control plane through
//! kubectl of the image.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::ClusterName;
use gantry_protocol::limits::MAX_MARKED_NODES;
use gantry_system::processes::{self, ProcessError};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::{ADMIN, KUBECTL};
use crate::facts::PATH;
use crate::host::Host;
use crate::rootfs::RootfsError;
use crate::scripts::ProofError;

/// Most pods of the cluster itself that are looked at: several for each node that Kubernetes is made for.
const MAX_SYSTEM_PODS: usize = 50_000;
/// How many nodes or pods are asked for at a time: an answer with more might be longer than what is kept of it.
const PAGE: usize = 16;
/// How long one call of kubectl may take.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// Why nodes are not as they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
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
    /// The answer is not what was asked for.
    #[error("the API server's answer cannot be read: {0}")]
    Answer(String),
    /// A node is not there.
    #[error("cluster {0} has no node {1}")]
    NoNode(ClusterName, String),
    /// A node does not become what it should.
    #[error(
        "node {node} is not ready in version {version}: {reason}; `journalctl -u kubelet` on it says more"
    )]
    NotReady {
        /// Its name.
        node: String,
        /// The version it should have.
        version: String,
        /// What it lacks.
        reason: String,
    },
    /// Pods of the cluster itself are not ready.
    #[error(
        "pods of kube-system are not ready after {limit_s} s: {pods}; `kubectl -n kube-system describe pod` says more. \
         What the image's commands bring, its network too, comes after this check"
    )]
    PodsNotReady {
        /// How long was waited.
        limit_s: u64,
        /// The first of them, each with what it lacks.
        pods: String,
    },
}

/// kubectl of the image, as the cluster's administrator.
pub(super) struct NodeApi {
    program: PathBuf,
    /// What it keeps between two calls.
    cache: TempDir,
}

impl NodeApi {
    /// That of `cluster`, of which `host` is a control plane.
    ///
    /// # Errors
    /// When it is none, or kubectl is not the image's.
    pub(super) async fn of(host: &Host, cluster: &ClusterName) -> Result<Self, NodeError> {
        let rootfs = host.rootfs.path(cluster)?;
        if !Path::new(ADMIN).is_file() {
            return Err(NodeError::NoControlPlane(cluster.clone()));
        }
        let layers = host
            .rootfs
            .current_generation(cluster)?
            .map(|generation| generation.layers)
            .unwrap_or_default();
        host.scripts.prove(&host.store, &layers, &rootfs, KUBECTL).await?;
        Ok(Self {
            program: rootfs.join(KUBECTL),
            cache: tempfile::tempdir().map_err(NodeError::Folder)?,
        })
    }

    /// Every node of the cluster, as the API has it.
    pub(super) async fn nodes(&self) -> Result<Vec<Value>, NodeError> {
        let mut nodes = Vec::new();
        self.each("/api/v1/nodes", "list nodes", MAX_MARKED_NODES, |node| {
            nodes.push(node);
        })
        .await?;
        Ok(nodes)
    }

    /// Gives `take` every pod of the cluster itself, as the API has it.
    pub(super) async fn system_pods(&self, take: impl FnMut(Value)) -> Result<(), NodeError> {
        let path = "/api/v1/namespaces/kube-system/pods";
        self.each(path, "list pods of kube-system", MAX_SYSTEM_PODS, take)
            .await
    }

    /// Gives `take` what a list has, page by page, until there were more than `most`.
    async fn each(
        &self,
        list: &str,
        what: &str,
        most: usize,
        mut take: impl FnMut(Value),
    ) -> Result<(), NodeError> {
        let (mut next, mut count) = (String::new(), 0);
        loop {
            let path = format!("{list}?limit={PAGE}{next}");
            let mut page = self.get(&path, what.to_owned()).await?;
            let Value::Array(items) = page["items"].take() else {
                return Err(NodeError::Answer("it has no items".into()));
            };
            count += items.len();
            items.into_iter().for_each(&mut take);
            match page["metadata"]["continue"].as_str() {
                Some(token) if !token.is_empty() && count <= most => next = format!("&continue={token}"),
                _ => return Ok(()),
            }
        }
    }

    /// One node, as the API has it.
    pub(super) async fn node(&self, node: &str) -> Result<Value, NodeError> {
        self.get(&format!("/api/v1/nodes/{node}"), format!("get node {node}"))
            .await
    }

    /// The pods of the control plane on a node, as the API has them; a worker has none.
    pub(super) async fn control_plane_pods(&self, node: &str) -> Result<Vec<Value>, NodeError> {
        let path = format!(
            "/api/v1/namespaces/kube-system/pods?labelSelector=tier%3Dcontrol-plane&fieldSelector=spec.nodeName%3D{node}"
        );
        let mut list = self.get(&path, format!("list pods of node {node}")).await?;
        match list["items"].take() {
            Value::Array(pods) => Ok(pods),
            _ => Err(NodeError::Answer("it has no items".into())),
        }
    }

    /// Ends well when the API server says that it is ready.
    pub(super) async fn is_ready(&self) -> Result<(), NodeError> {
        let words = ["get", "--raw", "/readyz"];
        self.call(&words, "ask whether it is".into()).await.map(drop)
    }

    pub(super) async fn get(&self, path: &str, what: String) -> Result<Value, NodeError> {
        let text = self.call(&["get", "--raw", path], what).await?;
        serde_json::from_slice(&text).map_err(|error| NodeError::Answer(error.to_string()))
    }

    /// Changes a node by a JSON merge patch (RFC 7386).
    pub(super) async fn patch(&self, node: &str, patch: &Value) -> Result<(), NodeError> {
        let words = ["patch", "node", node, "--type=merge", "-p", &patch.to_string()];
        self.call(&words, format!("change node {node}")).await.map(drop)
    }

    pub(super) async fn call(&self, words: &[&str], what: String) -> Result<Vec<u8>, NodeError> {
        let mut command = Command::new(&self.program);
        command
            .args(["--kubeconfig", ADMIN, "--cache-dir"])
            .arg(self.cache.path())
            .args(words)
            .env("PATH", PATH);
        match processes::run_successfully(&mut command, CALL_LIMIT).await {
            Ok(output) => Ok(output.stdout),
            Err(source) => Err(NodeError::Kubectl(what, source)),
        }
    }
}
