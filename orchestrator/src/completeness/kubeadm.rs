//! Container images of the control plane: kubeadm itself says which ones it starts.

use gantry_model::kubeadm_api_version;
use gantry_store::{EntryKind, LayerError, Rootfs};
use serde_json::{Value as Json, json};

use super::references::{Place, References};
use super::template_values::TemplateValues;
use crate::clusterfile::yaml::Yaml;
use crate::plan::{KUBEADM, KUBEADM_CONFIG_PATHS, METADATA};

/// Longest file that is read here, in bytes.
const MAX_FILE_LEN: u64 = 64 << 10;
/// The cluster's own registry, unless a Clusterfile says another, and where Kubernetes keeps its images.
const CLUSTER_REGISTRY: &str = "sea.hub:5000";
const UPSTREAM_REGISTRY: &str = "registry.k8s.io";
/// The DNS server: a cluster whose image has none gets none.
const DNS: &str = "coredns";

/// The configuration to ask kubeadm with, in the form it reads; none when the image has no kubeadm, or says no version.
///
/// # Errors
/// When a file is damaged.
pub fn configuration(rootfs: &Rootfs, values: &TemplateValues) -> Result<Option<String>, LayerError> {
    let Some(EntryKind::File { .. }) = rootfs.get(KUBEADM).map(|entry| &entry.kind) else {
        return Ok(None);
    };
    let metadata = text(rootfs, METADATA)?.unwrap_or_default();
    let metadata: Json = serde_json::from_str(&metadata).unwrap_or_default();
    let mut configuration = json!({});
    for path in KUBEADM_CONFIG_PATHS {
        let Some(text) = text(rootfs, path)? else { continue };
        let rendered = match gantry_template::target(path) {
            Some(_) => gantry_template::render(&text, values.at(path)).unwrap_or_default(),
            None => text,
        };
        let documents = Yaml::documents(&rendered).unwrap_or_default();
        let mut documents = documents.iter().map(Yaml::to_json);
        configuration = documents
            .find(|document| document["kind"] == "ClusterConfiguration")
            .unwrap_or(configuration);
        break;
    }
    // Addresses and names that only a cluster has make no difference to images.
    let mut asked = json!({ "kind": "ClusterConfiguration" });
    for field in [
        "apiVersion",
        "kubernetesVersion",
        "imageRepository",
        "dns",
        "etcd",
        "featureGates",
    ] {
        if let Some(value) = configuration.get(field).filter(|value| !value.is_null()) {
            asked[field] = value.clone();
        }
    }
    if asked.get("kubernetesVersion").is_none() {
        asked["kubernetesVersion"] = metadata["version"].clone();
    }
    let Some(version) = asked["kubernetesVersion"].as_str().map(str::to_owned) else {
        return Ok(None);
    };
    if asked.get("apiVersion").is_none() {
        asked["apiVersion"] = json!(kubeadm_api_version(&version));
    }
    if asked.get("imageRepository").is_none() {
        asked["imageRepository"] = json!(CLUSTER_REGISTRY);
    }
    Ok(Some(asked.to_string()))
}

/// Adds the images of kubeadm's answer, which is JSON (`kubeadm config images list -o json`).
pub fn add(answer: &str, references: &mut References) {
    let place = || Place {
        file: KUBEADM.to_owned(),
        line: None,
    };
    let answer: Json = serde_json::from_str(answer).unwrap_or_default();
    let Some(images) = answer["images"].as_array() else {
        return references.doubt(
            place(),
            "which images kubeadm starts cannot be told from what it says",
        );
    };
    for image in images.iter().filter_map(Json::as_str) {
        let own = image
            .strip_prefix(CLUSTER_REGISTRY)
            .and_then(|rest| rest.strip_prefix('/'));
        let name = own.map_or_else(|| image.to_owned(), |path| format!("{UPSTREAM_REGISTRY}/{path}"));
        if !name.rsplit('/').next().is_some_and(|last| last.starts_with(DNS)) {
            references.add(&name, place());
        }
    }
}

fn text(rootfs: &Rootfs, path: &str) -> Result<Option<String>, LayerError> {
    match rootfs.get(path).map(|entry| &entry.kind) {
        Some(EntryKind::File { size, .. }) if *size <= MAX_FILE_LEN => {}
        _ => return Ok(None),
    }
    let mut bytes = Vec::new();
    rootfs.copy_file(path, &mut bytes)?;
    Ok(String::from_utf8(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_the_clusters_own_registry_come_from_where_kubernetes_keeps_them() {
        let mut references = References::default();
        let answer = json!({ "kind": "Images", "images": [
            "sea.hub:5000/kube-apiserver:v1.20.2", "vendor.example/k8s/pause:3.2", "sea.hub:5000/coredns:1.7.0",
        ]});
        add(&answer.to_string(), &mut references);
        let names: Vec<String> = references.iter().map(|(image, _)| image.to_string()).collect();
        assert_eq!(
            names,
            [
                "registry.k8s.io/kube-apiserver:v1.20.2",
                "vendor.example/k8s/pause:3.2"
            ]
        );
        add("kube-apiserver", &mut references);
        assert_eq!(references.doubts().len(), 1);
    }
}
