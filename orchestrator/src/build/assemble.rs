//! This module owns [`Assembly`]: layers and history, growing step by step into an image.

use std::collections::BTreeMap;

use gantry_model::{Digest, LayerDescriptor};
use gantry_store::extension::{ANNOTATION_CONTAINER_IMAGES, ANNOTATION_EXTENSION};
use gantry_store::manifest::{History, LABEL_COMMANDS, RootFs, RunConfig};
use gantry_store::{ContainerImage, Descriptor, Extension, ImageConfig, NewImage};

use super::base::BaseImage;
use super::recipe::Recipe;
use super::{BuildOptions, ImageType};

/// The image so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Assembly {
    /// The layers in chunked form, bottom first.
    layers: Vec<LayerDescriptor>,
    /// The layers as the manifest names them.
    descriptors: Vec<Descriptor>,
    diff_ids: Vec<Digest>,
    history: Vec<History>,
    /// Annotations of the manifest.
    annotations: BTreeMap<String, String>,
    /// How much of the history came with the base: its times stay.
    inherited: usize,
}

impl Assembly {
    /// An image on top of `base`, or of nothing.
    pub(super) fn on(base: Option<&BaseImage>) -> Self {
        let Some(base) = base else { return Self::default() };
        let history = base.image.config.history.clone();
        Self {
            layers: base.image.layers.clone(),
            descriptors: base.layers.clone(),
            diff_ids: base.diff_ids().to_vec(),
            annotations: base.annotations.clone(),
            inherited: history.len(),
            history,
        }
    }

    /// The layers in chunked form, bottom first.
    pub(super) fn layers(&self) -> &[LayerDescriptor] {
        &self.layers
    }

    /// A directive made a layer.
    pub(super) fn layer(&mut self, text: &str, layer: LayerDescriptor) {
        self.descriptors.push(Descriptor::of_chunked_layer(&layer));
        self.diff_ids.push(layer.diff_id);
        self.layers.push(layer);
        self.history.push(History {
            created_by: text.to_owned(),
            ..History::default()
        });
    }

    /// A directive made none.
    pub(super) fn note(&mut self, text: &str) {
        self.history.push(History {
            created_by: text.to_owned(),
            empty_layer: true,
            ..History::default()
        });
    }

    /// The image, which brings the container images `images`.
    ///
    /// # Errors
    /// When its base launches an application that it does not have.
    pub(super) fn finish(
        mut self,
        recipe: &Recipe,
        images: &[ContainerImage],
        options: &BuildOptions,
    ) -> Result<NewImage, String> {
        let created = jiff::Timestamp::from_second(options.epoch)
            .unwrap_or_default()
            .to_string();
        for entry in &mut self.history[self.inherited..] {
            entry.created = Some(created.clone());
        }
        let mut settings = RunConfig {
            env: recipe
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            cmd: Vec::new(),
            labels: recipe.labels.clone(),
        };
        settings.labels.extend(options.labels.clone());
        self.annotations.extend(options.annotations.clone());
        let mut extension = recipe.applications.extension()?;
        match options.image_type {
            None => {}
            Some(ImageType::KubeInstaller) => extension.kind = "kube-installer".to_owned(),
            Some(ImageType::AppInstaller) => extension.kind = "app-installer".to_owned(),
        }
        extension.env = recipe.env.iter().cloned().collect();
        describe(&mut settings, &mut self.annotations, extension, images)?;
        let config = ImageConfig {
            created: Some(created),
            author: recipe.author.clone(),
            architecture: recipe.platform.architecture.clone(),
            os: recipe.platform.os.clone(),
            variant: recipe.platform.variant.clone(),
            config: settings,
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: self.diff_ids,
            },
            history: self.history,
        };
        Ok(NewImage {
            config,
            layers: self.descriptors,
            annotations: self.annotations,
        })
    }
}

/// Writes what the image says about itself where others read it: annotations, and a label for when those are lost.
///
/// # Errors
/// When it launches an application that it does not have.
pub(super) fn describe(
    settings: &mut RunConfig,
    annotations: &mut BTreeMap<String, String>,
    mut extension: Extension,
    images: &[ContainerImage],
) -> Result<(), String> {
    let labels = &mut settings.labels;
    labels.remove(LABEL_COMMANDS);
    extension.labels.clone_from(labels);
    let lines = extension.lines(&extension.launched())?;
    if !lines.is_empty() {
        let lines = serde_json::to_string(&lines).expect("a list of texts has a JSON form");
        labels.insert(LABEL_COMMANDS.to_owned(), lines);
    }
    annotations.insert(ANNOTATION_EXTENSION.to_owned(), extension.to_annotation());
    annotations.remove(ANNOTATION_CONTAINER_IMAGES);
    if !images.is_empty() {
        let images = serde_json::to_string(images).expect("a list of names has a JSON form");
        annotations.insert(ANNOTATION_CONTAINER_IMAGES.to_owned(), images);
    }
    Ok(())
}
