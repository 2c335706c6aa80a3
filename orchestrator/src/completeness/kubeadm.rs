//! Container images of the control plane: kubeadm itself says which ones it starts.

use gantry_model::{ImageReference, kubeadm_api_version};
use gantry_store::{EntryKind, LayerError, Rootfs};
use serde_json::{Value as Json, json};

use super::references::{Place, References};
use super::registry_contents::RegistryContents;
use super::template_values::TemplateValues;
use crate::clusterfile::yaml::Yaml;
use crate::plan::{KUBEADM, KUBEADM_CONFIG_PATHS, METADATA};

/// Longest file that is read here, in bytes.
const MAX_FILE_LEN: u64 = 64 << 10;
/// The cluster's own registry, unless a Clusterfile says another, and where Kubernetes keeps its images.
const CLUSTER_REGISTRY: &str = "sea.hub:5000";
const UPSTREAM_REGISTRY: &str = "registry.k8s.io";
/// The DNS server, and the API server, without which there is no cluster.
const DNS: &str = "coredns";
const API_SERVER: &str = "kube-apiserver";

/// The configuration to ask kubeadm with, in the form it reads; none when the image has no kubeadm, or says no version.
///
/// # Errors
/// When a file is damaged.
pub fn configuration(rootfs: &Rootfs, values: &TemplateValues) -> Result<Option<String>, LayerError> {
    let Some(EntryKind::File { .. }) = rootfs.get(KUBEADM).map(|entry| &entry.kind) else {
        return Ok(None);
    };
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
        asked["kubernetesVersion"] = json!(kubernetes_version(rootfs)?);
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

/// The version of Kubernetes that the image stands for, e.g. `v1.20.2`, if it says one.
///
/// # Errors
/// When the file that says it is damaged.
pub(super) fn kubernetes_version(rootfs: &Rootfs) -> Result<Option<String>, LayerError> {
    let metadata = text(rootfs, METADATA)?.unwrap_or_default();
    let metadata: Json = serde_json::from_str(&metadata).unwrap_or_default();
    Ok(metadata["version"]
        .as_str()
        .filter(|version| !version.is_empty())
        .map(str::to_owned))
}

/// Adds the images of kubeadm's answer, which is JSON (`kubeadm config images list -o json`).
///
/// A cluster whose image has a control plane and no DNS server at all gets none, so that is a doubt and not a lack.
pub fn add(answer: &str, contents: &RegistryContents<'_>, references: &mut References) {
    let place = || Place {
        file: KUBEADM.to_owned(),
        line: None,
    };
    let answer: Json = serde_json::from_str(answer).unwrap_or_default();
    let Some(images) = answer["images"].as_array() else {
        return references.doubt(place(), "which images it starts cannot be told from what it says");
    };
    let without_dns = contents.has_image_named(API_SERVER) && !contents.has_image_named(DNS);
    for image in images.iter().filter_map(Json::as_str) {
        let is_dns = image.rsplit('/').next().is_some_and(|last| last.starts_with(DNS));
        if is_dns && without_dns {
            references.doubt(
                place(),
                format!("{image} is not in registry/: the cluster gets no DNS server"),
            );
        } else {
            references.add(image, place());
        }
    }
}

/// Whether nothing in `references` or `contents` can be the control plane that kubeadm starts.
#[must_use]
pub fn has_no_control_plane(references: &References, contents: &RegistryContents<'_>) -> bool {
    let mut named = references.iter();
    !contents.has_image_named(API_SERVER) && !named.any(|(image, _)| image.path().ends_with(API_SERVER))
}

/// Whether `image` is named by the cluster's own registry.
pub(super) fn is_cluster_registry(image: &ImageReference) -> bool {
    image.domain() == Some(CLUSTER_REGISTRY)
}

/// Where an image is to be had that is named by the cluster's own registry, which only a cluster has.
#[must_use]
pub fn upstream(image: &ImageReference) -> ImageReference {
    if !is_cluster_registry(image) {
        return image.clone();
    }
    let tag = image.tag().unwrap_or_default();
    // Its tags begin with a "v" since it moved into a folder of its own (Kubernetes 1.21).
    let path = match image.path() {
        DNS if tag.starts_with('v') => "coredns/coredns",
        path => path,
    };
    let text = match image.digest() {
        Some(digest) => format!("{UPSTREAM_REGISTRY}/{path}@{digest}"),
        None => format!("{UPSTREAM_REGISTRY}/{path}:{tag}"),
    };
    text.parse().unwrap_or_else(|_| image.clone())
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
        for (image, source) in [
            (
                "sea.hub:5000/kube-apiserver:v1.20.2",
                "registry.k8s.io/kube-apiserver:v1.20.2",
            ),
            ("sea.hub:5000/coredns:1.7.0", "registry.k8s.io/coredns:1.7.0"),
            (
                "sea.hub:5000/coredns:v1.8.6",
                "registry.k8s.io/coredns/coredns:v1.8.6",
            ),
            ("vendor.example/k8s/pause:3.2", "vendor.example/k8s/pause:3.2"),
        ] {
            assert_eq!(upstream(&image.parse().unwrap()).to_string(), source);
        }
    }

    #[test]
    fn what_kubeadm_says_is_named() {
        let rootfs = Rootfs::default();
        let contents = RegistryContents::read(&rootfs).unwrap();
        let mut references = References::default();
        let images = [
            "sea.hub:5000/kube-apiserver:v1.20.2",
            "sea.hub:5000/coredns:1.7.0",
        ];
        add(
            &json!({ "kind": "Images", "images": images }).to_string(),
            &contents,
            &mut references,
        );
        let names: Vec<String> = references.iter().map(|(image, _)| image.to_string()).collect();
        assert_eq!(
            names,
            [
                "sea.hub:5000/coredns:1.7.0",
                "sea.hub:5000/kube-apiserver:v1.20.2"
            ]
        );
        add("kube-apiserver", &contents, &mut references);
        assert_eq!(references.doubts().len(), 1);
    }
}
