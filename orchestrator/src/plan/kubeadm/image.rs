//! This module owns [`ImageKubernetes`]: what an image brings to make hosts a Kubernetes cluster.

use std::collections::BTreeSet;

use gantry_store::{ChunkSource, EntryKind, LayerError, Scratch, TocEntry};
use serde::{Deserialize, Serialize};

use super::PROGRAM;
use super::image_swap::ImageSwap;

/// Where images configure kubeadm; a template is rendered for every host and goes first.
pub(crate) const CONFIG_PATHS: [&str; 4] = [
    "etc/kubeadm.yml.tmpl",
    "etc/kubeadm.yml",
    "etc/kubeadm-config.yaml.tmpl",
    "etc/kubeadm-config.yaml",
];
/// Which version of Kubernetes an image stands for.
pub(crate) const METADATA: &str = "Metadata";
/// What waits for nodes, below the rootfs.
const KUBECTL: &str = "bin/kubectl";
/// Folder of programs, below the rootfs.
const PROGRAMS: &str = "bin/";
/// The DNS server's repository in the registry's tree, wherever below its repositories.
const DNS_REPOSITORY: &str = "/coredns/_manifests";
/// Longest file of an image that is read for a plan, in bytes.
const MAX_FILE_LEN: u64 = 64 << 10;

/// What an image brings to make hosts a Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageKubernetes {
    /// Version of Kubernetes by the image's `Metadata`, e.g. `v1.20.2`; empty when it names none.
    pub version: String,
    /// The image's own configuration of kubeadm.
    pub config: Option<KubeadmFile>,
    /// Whether its registry has the cluster's DNS server.
    pub dns: bool,
    /// Whether it has kubectl.
    pub kubectl: bool,
    /// Programs in its `bin` folder, which its scripts bring to the host.
    pub programs: BTreeSet<String>,
    /// What its scripts do about swap.
    pub swap: ImageSwap,
}

/// A file that configures kubeadm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeadmFile {
    /// Its path below the rootfs.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl KubeadmFile {
    /// Whether it is rendered for every host.
    #[must_use]
    pub fn is_template(&self) -> bool {
        gantry_template::target(&self.path).is_some()
    }
}

impl ImageKubernetes {
    /// What the merged `layers` (bottom first) bring; none without kubeadm.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub(in super::super) fn read(layers: &[ChunkSource]) -> Result<Option<Self>, LayerError> {
        if find(layers, PROGRAM).is_none() {
            return Ok(None);
        }
        let mut config = None;
        for path in CONFIG_PATHS {
            if let Some(text) = text(layers, path)? {
                let path = path.to_owned();
                config = Some(KubeadmFile { path, text });
                break;
            }
        }
        let metadata = text(layers, METADATA)?.unwrap_or_default();
        let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap_or_default();
        Ok(Some(Self {
            version: metadata["version"].as_str().unwrap_or_default().to_owned(),
            config,
            dns: layers.iter().any(|layer| {
                let is_dns = |entry: &TocEntry| entry.path.ends_with(DNS_REPOSITORY);
                layer.toc().entries().iter().any(is_dns)
            }),
            kubectl: find(layers, KUBECTL).is_some(),
            programs: below(layers, PROGRAMS),
            swap: ImageSwap::read(layers)?,
        }))
    }
}

/// The regular file that is seen at `path` of the merged layers.
fn find<'a>(layers: &'a [ChunkSource], path: &str) -> Option<(&'a ChunkSource, &'a TocEntry)> {
    for layer in layers.iter().rev() {
        if let Some(entry) = layer.toc().entry(path) {
            return matches!(entry.kind, EntryKind::File { .. }).then_some((layer, entry));
        }
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        let hidden = folders
            .filter_map(|folder| layer.toc().entry(folder))
            .any(|entry| !matches!(entry.kind, EntryKind::Directory { opaque: false }));
        if hidden {
            return None;
        }
    }
    None
}

/// Names of the regular files in a folder of the merged layers.
pub(in super::super) fn below(layers: &[ChunkSource], folder: &str) -> BTreeSet<String> {
    let entries = layers.iter().flat_map(|layer| layer.toc().entries());
    entries
        .filter_map(|entry| entry.path.strip_prefix(folder))
        .filter(|name| !name.contains('/') && find(layers, &format!("{folder}{name}")).is_some())
        .map(str::to_owned)
        .collect()
}

/// The text at `path` of the merged layers; none where there is no short file of it.
pub(super) fn text(layers: &[ChunkSource], path: &str) -> Result<Option<String>, LayerError> {
    let Some((layer, entry)) = find(layers, path) else {
        return Ok(None);
    };
    match entry.kind {
        EntryKind::File { size, .. } if size <= MAX_FILE_LEN => {
            Ok(String::from_utf8(layer.read_file(entry, &mut Scratch::new())?).ok())
        }
        _ => Ok(None),
    }
}
