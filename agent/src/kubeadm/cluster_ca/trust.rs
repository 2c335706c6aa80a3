//! Makes everything on this host trust certain CAs of the cluster.

use std::time::Duration;

use gantry_model::ClusterName;
use gantry_system::processes;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::authority::given;
use super::{ClusterCaError, Pki, kubelet_certificate};
use crate::facts::PATH;
use crate::host::Host;
use crate::kubeadm::pass::proved;
use crate::kubeadm::{KUBECTL, is_control_plane, kubelet, renew};

/// Pods of a control plane that read the cluster's CAs when they start.
const PODS: [&str; 3] = [
    "kube-apiserver.yaml",
    "kube-controller-manager.yaml",
    "kube-scheduler.yaml",
];
/// kubelet's own access to the cluster.
pub(super) const KUBELET_CONFIG: &str = "/etc/kubernetes/kubelet.conf";
/// How long API servers may take to answer it.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);
/// How long one question may take.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Makes everything on this host trust `authorities` and nothing else, and waits until what started anew serves.
///
/// # Errors
/// When the CA that signs here is not among them, or kubelet's certificate is of none of them, a file cannot be changed, or something does not come back.
pub(crate) async fn trust(
    host: &Host,
    cluster: &ClusterName,
    authorities: &[String],
) -> Result<(), ClusterCaError> {
    let (pki, control_plane) = (Pki::here(), is_control_plane());
    let cas = pki.in_order(given(authorities)?, control_plane)?;
    let alone = cas.len() == 1;
    if let ([only], false) = (&cas[..], kubelet_certificate::is_of(&cas)) {
        tracing::warn!(%cluster, ca = %only.fingerprint.short(), "kubelet has no certificate of it");
        return Err(ClusterCaError::KubeletHasNotMoved);
    }
    if let (true, false, Some(signing)) = (control_plane, alone, cas.first()) {
        pki.part_signing(signing)?;
    }
    pki.put_trusted(&cas)?;
    if control_plane {
        if alone {
            pki.join_signing()?;
        }
        renew::start_anew(host, cluster, &PODS).await?;
    }
    kubelet::restart(host, cluster).await?;
    if control_plane && alone {
        pki.forget_signing()?;
    }
    answers(host, cluster).await?;
    tracing::info!(%cluster, count = cas.len(), "CAs of the cluster trusted");
    Ok(())
}

/// Waits until API servers answer kubelet's own access: it trusts them, and they trust it.
pub(super) async fn answers(host: &Host, cluster: &ClusterName) -> Result<(), ClusterCaError> {
    let deadline = Instant::now() + ANSWER_LIMIT;
    loop {
        let words = ["get", "--raw", "/api/v1/nodes?limit=1"];
        match as_kubelet(host, cluster, &words, "list nodes").await {
            Err(error) if Instant::now() < deadline => tracing::debug!(%cluster, "{error}; asked again"),
            ended => return ended.map(drop),
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What kubectl answers to kubelet's own access.
pub(super) async fn as_kubelet(
    host: &Host,
    cluster: &ClusterName,
    words: &[&str],
    what: &'static str,
) -> Result<Vec<u8>, ClusterCaError> {
    let kubectl = proved(host, cluster, KUBECTL)?;
    let cache = tempfile::tempdir().map_err(super::io("make", "a temporary folder".as_ref()))?;
    let mut command = Command::new(kubectl);
    command
        .args([
            "--kubeconfig",
            KUBELET_CONFIG,
            "--request-timeout=10s",
            "--cache-dir",
        ])
        .arg(cache.path())
        .args(words)
        .env("PATH", PATH);
    let output = processes::run_successfully(&mut command, CALL_LIMIT).await;
    output
        .map(|output| output.stdout)
        .map_err(|source| ClusterCaError::AsKubelet { what, source })
}
