//! This module owns [`KubeletApi`]: the cluster's API, asked with kubelet's own access, which every member has.

use std::path::PathBuf;
use std::time::Duration;

use gantry_model::ClusterName;
use gantry_system::processes;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::ClusterCaError;
use crate::facts::PATH;
use crate::host::Host;
use crate::kubeadm::KUBECTL;
use crate::kubeadm::pass::proved;

/// kubelet's own access to the cluster.
pub(super) const KUBELET_CONFIG: &str = "/etc/kubernetes/kubelet.conf";
/// How long API servers may take to answer it.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);
/// How long one question may take.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// kubectl of the image, as kubelet.
pub(super) struct KubeletApi {
    program: PathBuf,
    /// What it keeps between two calls.
    cache: TempDir,
}

impl KubeletApi {
    /// That of `cluster`, of which `host` is a member.
    ///
    /// # Errors
    /// When kubectl is not the image's.
    pub(super) async fn of(host: &Host, cluster: &ClusterName) -> Result<Self, ClusterCaError> {
        Ok(Self {
            program: proved(host, cluster, KUBECTL).await?,
            cache: tempfile::tempdir().map_err(super::io("make", "a temporary folder".as_ref()))?,
        })
    }

    /// Waits until API servers answer: kubelet trusts them, and they trust it.
    pub(super) async fn answers(&self) -> Result<(), ClusterCaError> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let words = ["get", "--raw", "/api/v1/nodes?limit=1"];
            match self.call(&words, "list nodes").await {
                Err(error) if Instant::now() < deadline => tracing::debug!("{error}; asked again"),
                ended => return ended.map(drop),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// What kubectl answers.
    pub(super) async fn call(&self, words: &[&str], what: &'static str) -> Result<Vec<u8>, ClusterCaError> {
        let mut command = Command::new(&self.program);
        command
            .args([
                "--kubeconfig",
                KUBELET_CONFIG,
                "--request-timeout=10s",
                "--cache-dir",
            ])
            .arg(self.cache.path())
            .args(words)
            .env("PATH", PATH);
        let output = processes::run_successfully(&mut command, CALL_LIMIT).await;
        output
            .map(|output| output.stdout)
            .map_err(|source| ClusterCaError::AsKubelet { what, source })
    }
}
