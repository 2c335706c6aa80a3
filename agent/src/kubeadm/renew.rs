//! New certificates for the control plane of this host: made by kubeadm, taken up by its static pods one after the other
//! restart, and done when all of them serve again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::ClusterName;
use gantry_system::processes;
use gantry_system::{clock, files};
use sysinfo::System;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::cluster_ca::Pki;
use super::pass::{io, proved, run};
use super::{ADMIN, KUBECTL, PROGRAM, PassError};
use crate::etcd;
use crate::executor::chain;
use crate::facts::PATH;
use crate::host::Host;

/// Where kubelet finds the pods of a control plane.
const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Those that hold certificates.
const PODS: [&str; 4] = [
    "etcd.yaml",
    "kube-apiserver.yaml",
    "kube-controller-manager.yaml",
    "kube-scheduler.yaml",
];
/// What a manifest is marked with: a changed mark makes kubelet start its pod anew.
const MARK: &str = "gantry.io/certificates";
/// How long pods may take until they serve with their new certificates.
const RESTART_LIMIT: Duration = Duration::from_secs(420);
/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(20);
/// A line for each pod of a control plane: name, mark, whether it is ready.
const MARKS: &str = "jsonpath={range .items[*]}{.metadata.name}{\"\\t\"}{.metadata.annotations.gantry\\.io/certificates}\
    {\"\\t\"}{.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";

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
    start_anew(host, cluster, &PODS).await
}

/// Lets these pods of the control plane of this host start anew, and waits until they serve.
///
/// # Errors
/// When one does not come back.
pub(super) async fn start_anew(host: &Host, cluster: &ClusterName, pods: &[&str]) -> Result<(), PassError> {
    let kubectl = proved(host, cluster, KUBECTL).await?;
    let mark = clock::now_s().to_string();
    let pods = mark_all(Path::new(MANIFESTS), pods, &mark)?;
    tracing::info!(%cluster, pods, "the control plane starts anew");
    let deadline = Instant::now() + RESTART_LIMIT;
    loop {
        match is_up(&kubectl, &mark, pods).await {
            Ok(()) => return Ok(()),
            Err(reason) if Instant::now() >= deadline => return Err(PassError::NotUp { reason }),
            Err(reason) => tracing::debug!("the control plane is not up yet: {reason}"),
        }
        sleep(LOOK_EVERY).await;
    }
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

/// Marks those manifests that are there; gives how many.
fn mark_all(folder: &Path, pods: &[&str], mark: &str) -> Result<usize, PassError> {
    let present = pods
        .iter()
        .map(|name| folder.join(name))
        .filter(|path| path.is_file());
    let paths: Vec<PathBuf> = present.collect();
    for path in &paths {
        let text = fs::read_to_string(path).map_err(io("read", path))?;
        files::write_atomically(path, marked(&text, mark).as_bytes(), 0o600).map_err(io("write", path))?;
    }
    Ok(paths.len())
}

/// The manifest with `mark` among its annotations. kubeadm writes `metadata:` with two spaces below it.
fn marked(manifest: &str, mark: &str) -> String {
    let line = format!("    {MARK}: \"{mark}\"");
    let mut lines: Vec<&str> = manifest
        .lines()
        .filter(|line| !line.trim_start().starts_with(MARK))
        .collect();
    let Some(metadata) = lines.iter().position(|line| *line == "metadata:") else {
        return manifest.to_owned();
    };
    let below = lines[metadata + 1..]
        .iter()
        .take_while(|line| line.starts_with(' '))
        .count();
    let annotations = lines[metadata + 1..=metadata + below]
        .iter()
        .position(|line| *line == "  annotations:");
    match annotations {
        Some(at) => lines.insert(metadata + at + 2, &line),
        None => {
            lines.insert(metadata + 1, &line);
            lines.insert(metadata + 1, "  annotations:");
        }
    }
    lines.join("\n") + "\n"
}

/// Whether as many pods of this host as were marked carry the mark and serve, and so does etcd.
async fn is_up(kubectl: &Path, mark: &str, pods: usize) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let cache = format!("--cache-dir={}", folder.path().display());
    let node = System::host_name().unwrap_or_default().to_lowercase();
    let here = format!("--field-selector=spec.nodeName={node}");
    let mut command = Command::new(kubectl);
    command
        .args([
            "--kubeconfig",
            ADMIN,
            &cache,
            "--request-timeout=10s",
            "--namespace=kube-system",
        ])
        .args(["get", "pods", "--selector=tier=control-plane", &here, "-o", MARKS])
        .env("PATH", PATH);
    let output = processes::run_successfully(&mut command, LOOK_LIMIT)
        .await
        .map_err(|error| chain(&error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let up = text
        .lines()
        .filter(|line| line.split('\t').skip(1).eq([mark, "True"]))
        .count();
    if up < pods {
        let waiting = text
            .lines()
            .filter(|line| !line.split('\t').skip(1).eq([mark, "True"]));
        let waiting: Vec<&str> = waiting.filter_map(|line| line.split('\t').next()).collect();
        return Err(format!(
            "{up} of {pods} pods serve that were to start anew; not yet: {}",
            waiting.join(", ")
        ));
    }
    match etcd::members().await {
        Ok(members) if members.has_quorum() => Ok(()),
        Ok(_) => Err("etcd has no quorum".into()),
        // Not ours to look at.
        Err(etcd::EtcdError::NoEtcd(_)) => Ok(()),
        Err(error) => Err(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_marked_once_and_anew() {
        let plain = "apiVersion: v1\nkind: Pod\nmetadata:\n  creationTimestamp: null\n  labels:\n    component: kube-scheduler\nspec:\n  containers: []\n";
        let first = marked(plain, "1");
        assert_eq!(
            first,
            plain.replace(
                "metadata:\n",
                "metadata:\n  annotations:\n    gantry.io/certificates: \"1\"\n"
            )
        );
        assert_eq!(marked(&first, "2"), first.replace("\"1\"", "\"2\""));
        let annotated = "metadata:\n  annotations:\n    kubeadm.kubernetes.io/etcd.advertise-client-urls: x\n  labels: {}\nspec: {}\n";
        assert_eq!(
            marked(annotated, "1"),
            annotated.replace(
                "annotations:\n",
                "annotations:\n    gantry.io/certificates: \"1\"\n"
            )
        );
    }

    #[test]
    fn every_kubeadm_is_told_in_its_own_words() {
        assert_eq!(words("v1.20.2"), ["certs", "renew", "all"]);
        assert_eq!(words("v1.19.8"), ["alpha", "certs", "renew", "all"]);
    }
}
