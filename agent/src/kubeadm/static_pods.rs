//! This module owns the pods of this host's control plane: marked, so that kubelet starts them anew, and waited for until they
//! serve.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::ClusterName;
use gantry_system::processes;
use gantry_system::{clock, files};
use serde_json::Value;
use sysinfo::System;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::pass::{io, proved};
use super::pods::is_up;
use super::{ADMIN, KUBECTL, PassError};
use crate::etcd;
use crate::executor::chain;
use crate::facts::PATH;
use crate::host::Host;

/// Where kubelet finds the pods of a control plane.
const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// What a manifest is marked with: a changed mark makes kubelet start its pod anew.
const MARK: &str = "gantry.io/certificates";
/// How long pods may take until they serve.
const RESTART_LIMIT: Duration = Duration::from_secs(420);
/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// Lets these pods of the control plane of this host start anew, and waits until they serve.
///
/// # Errors
/// When one does not come back.
pub(super) async fn start_anew(host: &Host, cluster: &ClusterName, pods: &[&str]) -> Result<(), PassError> {
    let look = Look {
        kubectl: proved(host, cluster, KUBECTL).await?,
        cache: tempfile::tempdir().map_err(io("make a folder in", &std::env::temp_dir()))?,
        node: System::host_name().unwrap_or_default().to_lowercase(),
    };
    let mark = clock::now_s().to_string();
    let pods = mark_all(Path::new(MANIFESTS), pods, &mark)?;
    tracing::info!(%cluster, pods, "the control plane starts anew");
    let deadline = Instant::now() + RESTART_LIMIT;
    loop {
        match look.are_up(&mark, pods).await {
            Ok(()) => return Ok(()),
            Err(reason) if Instant::now() >= deadline => return Err(PassError::NotUp { reason }),
            Err(reason) => tracing::debug!("the control plane is not up yet: {reason}"),
        }
        sleep(LOOK_EVERY).await;
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

/// kubectl of the image, as the cluster's administrator, about the pods of one node.
struct Look {
    kubectl: PathBuf,
    /// What it keeps between two calls.
    cache: TempDir,
    node: String,
}

impl Look {
    /// Whether as many pods as were marked carry the mark and serve, and so does etcd.
    async fn are_up(&self, mark: &str, pods: usize) -> Result<(), String> {
        // The API learns of pods that started while no API server ran when kubelet goes through all of them the next time, a
        // minute later (its `syncFrequency`). kubelet itself knows at once: kubernetes/kubernetes#57106.
        let kubelets = format!("/api/v1/nodes/{}/proxy/pods", self.node);
        let found = match self.pods(&kubelets).await {
            Ok(found) => found,
            // A node with very many pods says more than is kept of an answer.
            Err(reason) => {
                tracing::debug!("kubelet cannot be asked: {reason}");
                let of_the_api = format!(
                    "/api/v1/namespaces/kube-system/pods?labelSelector=tier%3Dcontrol-plane&fieldSelector=spec.nodeName%3D{}",
                    self.node
                );
                self.pods(&of_the_api).await?
            }
        };
        serve(&found, mark, pods)?;
        match etcd::members().await {
            Ok(members) if members.has_quorum() => Ok(()),
            Ok(_) => Err("etcd has no quorum".into()),
            // Not ours to look at.
            Err(etcd::EtcdError::NoEtcd(_)) => Ok(()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// The list of pods at `path`.
    async fn pods(&self, path: &str) -> Result<Vec<Value>, String> {
        let mut command = Command::new(&self.kubectl);
        command
            .args(["--kubeconfig", ADMIN, "--request-timeout=10s", "--cache-dir"])
            .arg(self.cache.path())
            .args(["get", "--raw", path])
            .env("PATH", PATH);
        let output = processes::run_successfully(&mut command, LOOK_LIMIT)
            .await
            .map_err(|error| chain(&error))?;
        let mut list: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        match list["items"].take() {
            Value::Array(pods) => Ok(pods),
            _ => Err(format!("the answer to {path} has no items")),
        }
    }
}

/// Whether among `found` as many pods of a control plane as `pods` carry `mark` and serve.
fn serve(found: &[Value], mark: &str, pods: usize) -> Result<(), String> {
    let of_the_control_plane = found
        .iter()
        .filter(|pod| pod["metadata"]["labels"]["tier"] == "control-plane");
    let serves = |pod: &&Value| pod["metadata"]["annotations"][MARK] == mark && is_up(pod);
    let (up, waiting): (Vec<&Value>, Vec<&Value>) = of_the_control_plane.partition(serves);
    if up.len() >= pods {
        return Ok(());
    }
    let waiting: Vec<&str> = waiting
        .iter()
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .collect();
    Err(format!(
        "{} of {pods} pods serve that were to start anew; not yet: {}",
        up.len(),
        waiting.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
    fn pods_serve_when_as_many_as_were_marked_have_the_mark_and_are_ready() {
        let pod = |name: &str, tier: &str, mark: &str, ready: bool| {
            json!({
                "metadata": {"name": name, "labels": {"tier": tier}, "annotations": {MARK: mark}},
                "spec": {"containers": [{"name": "only", "readinessProbe": {}}]},
                "status": {"containerStatuses": [{"name": "only", "ready": ready, "started": true, "state": {"running": {}}}]},
            })
        };
        let mut found = vec![
            pod("kube-apiserver-a", "control-plane", "2", true),
            pod("kube-scheduler-a", "control-plane", "1", true),
            pod("kube-controller-manager-a", "control-plane", "2", false),
            pod("somebody-elses", "application", "2", true),
            json!({"metadata": {"name": "without-anything"}}),
        ];
        assert_eq!(serve(&found, "2", 1), Ok(()));
        assert_eq!(
            serve(&found, "2", 3).unwrap_err(),
            "1 of 3 pods serve that were to start anew; not yet: kube-scheduler-a, kube-controller-manager-a"
        );
        found.push(pod("kube-scheduler-a", "control-plane", "2", true));
        found.push(pod("kube-controller-manager-a", "control-plane", "2", true));
        assert_eq!(serve(&found, "2", 3), Ok(()));
    }
}
