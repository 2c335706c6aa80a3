//! This module owns [`Assembly`]: layers and history, growing step by step into an image.

use gantry_model::{Digest, LayerDescriptor};
use gantry_store::manifest::{History, LABEL_COMMANDS, RootFs, RunConfig};
use gantry_store::{Descriptor, ImageConfig, NewImage};

use super::BuildOptions;
use super::base::BaseImage;
use super::recipe::Recipe;

/// The image so far.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// The layers in chunked form, bottom first.
    layers: Vec<LayerDescriptor>,
    /// The layers as the manifest names them.
    descriptors: Vec<Descriptor>,
    diff_ids: Vec<Digest>,
    history: Vec<History>,
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

    /// The image.
    pub(super) fn finish(mut self, recipe: &Recipe, options: &BuildOptions) -> NewImage {
        let created = jiff::Timestamp::from_second(options.epoch)
            .unwrap_or_default()
            .to_string();
        for entry in &mut self.history[self.inherited..] {
            entry.created = Some(created.clone());
        }
        let mut labels = recipe.labels.clone();
        labels.remove(LABEL_COMMANDS);
        if !recipe.commands.is_empty() {
            let commands = serde_json::to_string(&recipe.commands).expect("a list of texts has a JSON form");
            labels.insert(LABEL_COMMANDS.to_owned(), commands);
        }
        let config = ImageConfig {
            created: Some(created),
            architecture: options.platform.architecture.clone(),
            os: options.platform.os.clone(),
            variant: options.platform.variant.clone(),
            config: RunConfig {
                env: recipe
                    .env
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
                cmd: Vec::new(),
                labels,
            },
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: self.diff_ids,
            },
            history: self.history,
        };
        NewImage {
            config,
            layers: self.descriptors,
        }
    }
}
