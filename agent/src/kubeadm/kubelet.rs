//! Starts kubelet of this host anew, as the image's scripts installed it, and waits until what runs here serves again.

use std::time::Duration;

use gantry_model::ClusterName;
use gantry_system::processes::{self, ProcessError};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::is_control_plane;
use super::node_api::{NodeApi, NodeError};
use crate::etcd;
use crate::executor::chain;
use crate::facts::PATH;
use crate::host::Host;

/// How long systemctl may take.
const SYSTEMCTL_LIMIT: Duration = Duration::from_secs(120);
/// How long kubelet and a control plane may take until they serve.
const START_LIMIT: Duration = Duration::from_secs(600);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why kubelet does not run as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeletError {
    /// systemd refuses.
    #[error("kubelet cannot be started anew: {0}")]
    Systemd(#[from] ProcessError),
    /// kubectl of this control plane cannot be used.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Something does not come back.
    #[error("after {} s {reason}; `journalctl -u kubelet` says more", limit.as_secs())]
    NotUp {
        /// How long it was waited for.
        limit: Duration,
        /// What it lacks.
        reason: String,
    },
}

/// Starts kubelet anew and waits until it runs; on a control plane, until its API server and etcd serve.
///
/// # Errors
/// When systemd refuses, or something does not come back.
pub(crate) async fn restart(host: &Host, cluster: &ClusterName) -> Result<(), KubeletError> {
    systemctl(&["daemon-reload"]).await?;
    systemctl(&["restart", "kubelet.service"]).await?;
    wait_until_up(host, cluster, START_LIMIT).await
}

/// Waits, at most `limit`, until kubelet runs; on a control plane, until its API server and etcd serve.
///
/// # Errors
/// When something does not come up.
pub(super) async fn wait_until_up(
    host: &Host,
    cluster: &ClusterName,
    limit: Duration,
) -> Result<(), KubeletError> {
    let api = if is_control_plane() {
        Some(NodeApi::of(host, cluster).await?)
    } else {
        None
    };
    let deadline = Instant::now() + limit;
    loop {
        match is_up(api.as_ref()).await {
            Ok(()) => return Ok(()),
            Err(reason) if Instant::now() >= deadline => return Err(KubeletError::NotUp { limit, reason }),
            Err(reason) => tracing::debug!(%cluster, "{reason}; looked at again"),
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn is_up(api: Option<&NodeApi>) -> Result<(), String> {
    systemctl(&["is-active", "--quiet", "kubelet.service"])
        .await
        .map_err(|_| "kubelet does not run".to_owned())?;
    let Some(api) = api else { return Ok(()) };
    api.is_ready()
        .await
        .map_err(|error| format!("the API server is not ready: {error}"))?;
    match etcd::members().await {
        Ok(members) if members.has_quorum() => Ok(()),
        Ok(_) => Err("etcd has no quorum".into()),
        // Not ours to look at.
        Err(etcd::EtcdError::NoEtcd(_)) => Ok(()),
        Err(error) => Err(chain(&error)),
    }
}

async fn systemctl(words: &[&str]) -> Result<(), ProcessError> {
    let mut command = Command::new("systemctl");
    command.args(words).env("PATH", PATH);
    processes::run_successfully(&mut command, SYSTEMCTL_LIMIT)
        .await
        .map(drop)
}
