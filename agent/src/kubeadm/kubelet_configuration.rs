//! What kubelets of a cluster that runs are told: kubeadm puts it into the cluster, and gives it to one host after the other.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use gantry_model::ClusterName;
use tempfile::NamedTempFile;

use super::pass::{proved, run};
use super::{PROGRAM, PassError, kubelet};
use crate::executor::chain;
use crate::host::Host;

/// Where kubeadm writes it on every member.
const FILE: &str = "/var/lib/kubelet/config.yaml";
/// What it is called when kubeadm fails.
const WHAT: &str = "kubelet configuration";
/// Stands for kubeadm's own version in what it is told.
const VERSION: &str = "{kubernetes-version}";

/// Puts into the cluster what its kubelets are told: `config` as kubeadm's `--config`.
///
/// # Errors
/// When kubeadm is not the image's, or fails.
pub(crate) async fn publish(host: &Host, cluster: &ClusterName, config: &str) -> Result<(), PassError> {
    let kubeadm = proved(host, cluster, PROGRAM).await?;
    let version = run(&kubeadm, &["version", "--output", "short"], "version").await?;
    // Only its owner reads it, and it is gone afterwards.
    let file = written(&config.replace(VERSION, version.trim())).map_err(|source| PassError::Io {
        action: "write",
        path: std::env::temp_dir(),
        source,
    })?;
    let path = file.path().to_string_lossy();
    let words = ["init", "phase", "upload-config", "kubelet", "--config", &path];
    run(&kubeadm, &words, WHAT).await?;
    tracing::info!(%cluster, "kubelets are told something else");
    Ok(())
}

/// Gives kubelet of this host what the cluster has for it, and lets it start anew if that is something else; with `again` in any
/// case, for an earlier attempt may have ended between the two.
///
/// # Errors
/// When kubeadm is not the image's or fails, or what runs here does not come back.
pub(crate) async fn configure(host: &Host, cluster: &ClusterName, again: bool) -> Result<(), PassError> {
    let kubeadm = proved(host, cluster, PROGRAM).await?;
    let before = read(Path::new(FILE))?;
    run(&kubeadm, &["upgrade", "node", "phase", "kubelet-config"], WHAT).await?;
    if read(Path::new(FILE))? == before && !again {
        return Ok(());
    }
    let restarted = kubelet::restart(host, cluster).await;
    restarted.map_err(|error| PassError::NotUp {
        reason: chain(&error),
    })
}

fn written(text: &str) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn read(path: &Path) -> Result<Vec<u8>, PassError> {
    fs::read(path).map_err(|source| PassError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })
}
