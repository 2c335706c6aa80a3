//! This module owns [`PlanImage`]: what planning needs to know about an image.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gantry_model::{Digest, ImageEvidence, ImageReference, LayerDescriptor};
use gantry_store::{ChunkSource, EntryKind, Image, LayerError, Store, Toc};
use serde::{Deserialize, Serialize};

use super::commands::ImageCommands;
use super::image_file::{self, ImageFile};
use super::kubeadm::ImageKubernetes;
use super::registry;
use super::script_effects;
use super::templates::Templates;
use crate::clusterfile::application::application_of;
use crate::clusterfile::image_check::Offer;
use crate::clusterfile::{Clusterfile, WithPlugins};

/// Where scripts lie in a rootfs.
const SCRIPTS: &str = "scripts/";
/// The label that says which container runtime the image's scripts install.
const RUNTIME_LABEL: &str = "cluster.alpha.sealer.io/container-runtime-type";

/// What planning needs to know about an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanImage {
    /// Its name.
    pub reference: ImageReference,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Architecture in OCI words; empty when the image does not say.
    pub arch: String,
    /// Its layers, bottom first.
    pub layers: Vec<PlanLayer>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// The container runtime its label names.
    pub runtime: Option<String>,
    /// Container runtimes that it brings, by what its files are called.
    #[serde(default)]
    pub runtimes: BTreeSet<String>,
    /// Names of the scripts in the merged rootfs, without their folder.
    pub scripts: BTreeSet<String>,
    /// Paths of the templates in the merged rootfs.
    pub templates: BTreeSet<String>,
    /// Templates that cannot be rendered: `PATH:LINE:COLUMN: what`.
    pub template_mistakes: Vec<String>,
    /// Whether it brings container images for its registry to serve.
    #[serde(default)]
    pub registry: bool,
    /// What makes its hosts a Kubernetes cluster, if it brings that.
    pub kubernetes: Option<ImageKubernetes>,
    /// What is to be run on a cluster that is complete, if it brings that.
    pub commands: Option<ImageCommands>,
    /// Its files of plugins, by their paths.
    #[serde(default)]
    pub plugins: BTreeMap<String, ImageFile>,
    /// What it has at the paths that were asked for.
    #[serde(default)]
    pub files: BTreeMap<String, ImageFile>,
    /// What hosts are shown so that they accept it.
    #[serde(skip)]
    pub evidence: Option<Arc<ImageEvidence>>,
}

/// A layer and its size on a host's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanLayer {
    /// The layer.
    pub descriptor: LayerDescriptor,
    /// Bytes of its files when unpacked.
    pub unpacked: u64,
}

impl PlanImage {
    /// Reads what planning needs of `image`, and what is at `paths` of its merged rootfs.
    ///
    /// # Errors
    /// When a layer's table of contents cannot be read or is not the one of the image.
    pub fn read(
        store: &Store,
        image: &Image,
        reference: &ImageReference,
        paths: &BTreeSet<String>,
    ) -> Result<Self, LayerError> {
        let mut layers = Vec::new();
        let mut scripts = BTreeSet::new();
        let mut templates = Templates::default();
        let mut sources = Vec::new();
        for descriptor in &image.layers {
            let source = ChunkSource::open_verified(store, descriptor)?;
            merge_scripts(source.toc(), &mut scripts);
            templates.merge(&source);
            layers.push(PlanLayer {
                descriptor: descriptor.clone(),
                unpacked: source.toc().content_len(),
            });
            sources.push(source);
        }
        Ok(Self {
            reference: reference.clone(),
            digest: image.manifest_digest,
            arch: image.config.architecture.clone(),
            layers,
            env: image.env().into_iter().collect(),
            runtime: image.config.config.labels.get(RUNTIME_LABEL).cloned(),
            runtimes: script_effects::runtimes(&sources),
            scripts,
            template_mistakes: templates.mistakes(store)?,
            templates: templates.paths(),
            registry: registry::has_tree(&sources),
            kubernetes: ImageKubernetes::read(&sources)?,
            commands: ImageCommands::of(image)?,
            plugins: image_file::plugins(store, image, &sources)?,
            files: image_file::read(store, image, paths)?,
            evidence: None,
        })
    }

    /// `clusterfile` with its plugins.
    #[must_use]
    pub fn with_plugins(&self, clusterfile: &Clusterfile) -> WithPlugins {
        clusterfile.with_plugins(&self.reference.to_string(), &self.plugins)
    }

    /// The mistakes in templates that are rendered for `clusterfile`: those of applications that it does not launch are not.
    pub(super) fn template_mistakes_for(&self, clusterfile: &Clusterfile) -> Vec<String> {
        let is_rendered = |mistake: &&String| {
            application_of(mistake).is_none_or(|name| {
                let commands = self.commands.as_ref();
                commands.is_some_and(|commands| commands.launches(clusterfile, name))
            })
        };
        self.template_mistakes
            .iter()
            .filter(is_rendered)
            .cloned()
            .collect()
    }

    /// What a Clusterfile may name of it.
    #[must_use]
    pub fn offer(&self) -> Offer<'_> {
        let commands = self.commands.as_ref();
        Offer {
            image: self.reference.to_string(),
            applications: commands.map_or(&[], |commands| &commands.applications),
            lines: commands.map_or(&[], |commands| &commands.lines),
        }
    }

    /// Digests of its layers, bottom first.
    #[must_use]
    pub fn layer_digests(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.descriptor.digest).collect()
    }
}

/// Puts one more layer on top of what is known of `scripts/`.
fn merge_scripts(toc: &Toc, scripts: &mut BTreeSet<String>) {
    for entry in toc.entries() {
        let folder = entry.path == SCRIPTS.trim_end_matches('/');
        match &entry.kind {
            EntryKind::Whiteout | EntryKind::Directory { opaque: true } if folder => scripts.clear(),
            _ => {}
        }
    }
    for entry in toc.entries() {
        let Some(name) = entry
            .path
            .strip_prefix(SCRIPTS)
            .filter(|name| !name.contains('/'))
        else {
            continue;
        };
        match &entry.kind {
            EntryKind::Whiteout => scripts.remove(name),
            EntryKind::Directory { .. } => false,
            _ => scripts.insert(name.to_owned()),
        };
    }
}
