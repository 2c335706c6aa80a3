//! Makes another CA beside the one that signs, by kubeadm. Nothing uses it yet.

use std::fs;
use std::path::Path;

use gantry_model::{ClusterName, Digest};
use gantry_system::files;

use super::pki::make_private_folder;
use super::{ClusterCaError, Pki, io};
use crate::host::Host;
use crate::kubeadm::pass::{proved, run};
use crate::kubeadm::{ADMIN, PROGRAM, PassError};

/// Makes another CA of `cluster` on this host, one of its control planes, unless there is one.
///
/// # Errors
/// When this host is none, another CA signs than `replaces`, or kubeadm fails.
pub(crate) async fn make(
    host: &Host,
    cluster: &ClusterName,
    replaces: &Digest,
) -> Result<(), ClusterCaError> {
    if !Path::new(ADMIN).is_file() {
        let cluster = cluster.clone();
        return Err(PassError::NoControlPlane { cluster }.into());
    }
    let pki = Pki::here();
    if pki
        .trusted()?
        .first()
        .is_none_or(|ca| ca.fingerprint != *replaces)
    {
        return Err(ClusterCaError::Another);
    }
    if pki.next()?.is_some() {
        return Ok(());
    }
    let kubeadm = proved(host, cluster, PROGRAM).await?;
    let version = run(&kubeadm, &["version", "--output", "short"], "version").await?;
    let folder = pki.making_folder();
    // What a run that was cut off left there was never used.
    if folder.exists() {
        files::remove_tree(&folder).map_err(io("remove", &folder))?;
    }
    make_private_folder(&folder)?;
    let path = folder.to_string_lossy();
    let words = [
        "init",
        "phase",
        "certs",
        "ca",
        "--cert-dir",
        &path,
        "--kubernetes-version",
        version.trim(),
    ];
    run(&kubeadm, &words, "CA").await?;
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(io("read", &path))
    };
    pki.put_next(&read("ca.crt")?, &read("ca.key")?)?;
    files::remove_tree(&folder).map_err(io("remove", &folder))?;
    tracing::info!(%cluster, "another CA of the cluster was made; nothing uses it yet");
    Ok(())
}
