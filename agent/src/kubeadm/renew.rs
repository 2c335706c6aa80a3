//! New certificates for the control plane of this host: made by kubeadm, taken up by its static pods one after the other
//! restart, and done when all of them serve again.

use std::path::Path;

use gantry_model::ClusterName;

use super::cluster_ca::Pki;
use super::pass::{proved, run};
use super::{ADMIN, PROGRAM, PassError, static_pods};
use crate::host::Host;

/// Those that hold certificates.
const PODS: [&str; 4] = [
    "etcd.yaml",
    "kube-apiserver.yaml",
    "kube-controller-manager.yaml",
    "kube-scheduler.yaml",
];

/// Makes new certificates for the control plane of this host and lets it take them up.
///
/// # Errors
/// When this host is no control plane of the cluster, kubeadm fails, or a pod does not come back.
pub(crate) async fn renew(host: &Host, cluster: &ClusterName) -> Result<(), PassError> {
    if !Path::new(ADMIN).is_file() {
        return Err(PassError::NoControlPlane {
            cluster: cluster.clone(),
        });
    }
    let kubeadm = proved(host, cluster, PROGRAM).await?;
    let version = run(&kubeadm, &["version", "--output", "short"], "version").await?;
    run(&kubeadm, words(version.trim()), "new certificates").await?;
    // kubeadm gives kubeconfigs one CA only, whatever they had; while it is replaced there are two.
    let pki = Pki::here();
    if pki.cas().are_replaced() {
        pki.embed().map_err(|error| PassError::Cas(Box::new(error)))?;
    }
    tracing::info!(%cluster, "certificates renewed");
    static_pods::start_anew(host, cluster, &PODS).await
}

/// How kubeadm of `version` is told: before v1.20 the command was below `alpha`.
fn words(version: &str) -> &'static [&'static str] {
    let minor = version
        .trim_start_matches('v')
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse::<u32>().ok());
    match minor {
        Some(..20) => &["alpha", "certs", "renew", "all"],
        _ => &["certs", "renew", "all"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kubeadm_is_told_in_its_own_words() {
        assert_eq!(words("v1.20.2"), ["certs", "renew", "all"]);
        assert_eq!(words("v1.19.8"), ["alpha", "certs", "renew", "all"]);
    }
}
