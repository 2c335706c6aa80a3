//! Takes a CA that does not sign yet back out of this host: what was made, and what trusts it.

use gantry_model::{ClusterName, Digest};

use super::{ClusterCaError, Pki, trust};
use crate::host::Host;
use crate::kubeadm::is_control_plane;

/// Takes the CA with fingerprint `ca` out, so that `authorities` alone are trusted, and waits until what started anew serves.
///
/// # Errors
/// When it signs here already, a file cannot be changed, or something does not come back.
pub(crate) async fn withdraw(
    host: &Host,
    cluster: &ClusterName,
    ca: &Digest,
    authorities: &[String],
) -> Result<(), ClusterCaError> {
    let (pki, control_plane) = (Pki::here(), is_control_plane());
    if control_plane {
        pki.refuse_to_withdraw(ca)?;
        // Its key first: from then on it cannot come to sign.
        pki.forget_next()?;
        // It was made, and nothing more.
        if pki.trusts(authorities) && !pki.is_signing_parted() {
            return Ok(());
        }
    }
    trust::trust(host, cluster, authorities).await
}
