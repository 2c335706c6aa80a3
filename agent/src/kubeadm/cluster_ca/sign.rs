//! Lets another CA sign on this host, a control plane, and makes every certificate of the control plane anew by it.

use std::net::IpAddr;
use std::path::Path;

use gantry_model::{ClusterName, Digest, JoinPass};

use super::fetch::fetch;
use super::{ClusterCaError, Pki};
use crate::host::Host;
use crate::kubeadm::{ADMIN, PassError, renew};

/// Lets the CA with fingerprint `ca` sign. Its key was made here; or it comes, as to a control plane that joins, by way of
/// the cluster, from this control plane with this pass.
///
/// # Errors
/// When its key is not here, kubeadm fails, or the control plane does not come back.
pub(crate) async fn sign(
    host: &Host,
    cluster: &ClusterName,
    ca: &Digest,
    from: Option<(IpAddr, &JoinPass)>,
) -> Result<(), ClusterCaError> {
    if !Path::new(ADMIN).is_file() {
        let cluster = cluster.clone();
        return Err(PassError::NoControlPlane { cluster }.into());
    }
    let pki = Pki::here();
    if let Some((from, pass)) = from
        && !pki.has_key_of(ca)
    {
        let key = pass.certificate_key.as_deref().unwrap_or_default();
        let (certificate, key) = fetch(host, cluster, ca, from, key).await?;
        // It is whole before anything uses it, and a run that was cut off fetches nothing again.
        pki.put_next(certificate.as_bytes(), key.as_bytes())?;
    }
    pki.take_up_next(ca)?;
    let trusted = pki.trusted()?;
    let Some(signing) = trusted.first().filter(|first| first.fingerprint == *ca) else {
        return Err(ClusterCaError::NoKey(*ca));
    };
    pki.part_signing(signing)?;
    renew(host, cluster).await?;
    pki.forget_next()
}
