//! Makes everything on this host trust certain CAs of the cluster.

use gantry_model::ClusterName;

use super::authority::given;
use super::kubelet_api::KubeletApi;
use super::kubelet_certificate::Standing;
use super::{ClusterCaError, Pki, kubelet_certificate};
use crate::host::Host;
use crate::kubeadm::{is_control_plane, kubelet, static_pods};

/// Pods of a control plane that read the cluster's CAs when they start.
const PODS: [&str; 3] = [
    "kube-apiserver.yaml",
    "kube-controller-manager.yaml",
    "kube-scheduler.yaml",
];

/// Makes everything on this host trust `authorities` and nothing else, and waits until what started anew serves.
///
/// # Errors
/// When the CA that signs here is not among them, or kubelet's certificate is of none of them or does not hold by this host's clock, a
/// file cannot be changed, or something does not come back.
pub(crate) async fn trust(
    host: &Host,
    cluster: &ClusterName,
    authorities: &[String],
) -> Result<(), ClusterCaError> {
    let (pki, control_plane) = (Pki::here(), is_control_plane());
    let cas = pki.in_order(given(authorities)?, control_plane)?;
    let alone = cas.len() == 1;
    if let [only] = &cas[..] {
        let standing = kubelet_certificate::standing(&cas);
        if let Some(when) = standing.by_this_clock() {
            let what = "kubelet's certificate";
            return Err(ClusterCaError::OutOfTime { what, when });
        }
        if standing == Standing::Another {
            tracing::warn!(%cluster, ca = %only.fingerprint.short(), "kubelet has no certificate of it");
            return Err(ClusterCaError::KubeletHasNotMoved);
        }
    }
    if let (true, false, Some(signing)) = (control_plane, alone, cas.first()) {
        pki.part_signing(signing)?;
    }
    pki.put_trusted(&cas)?;
    if control_plane {
        if alone {
            pki.join_signing()?;
        }
        static_pods::start_anew(host, cluster, &PODS).await?;
    }
    kubelet::restart(host, cluster).await?;
    if control_plane && alone {
        pki.forget_signing()?;
    }
    KubeletApi::of(host, cluster).await?.answers().await?;
    tracing::info!(%cluster, count = cas.len(), "CAs of the cluster trusted");
    Ok(())
}
