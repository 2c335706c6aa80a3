//! This module owns [`Image`]: one ClusterImage of the store, ready to be planned, shown or sent.

use gantry_model::{Digest, ImageReference, LayerDescriptor};

use crate::ImageConfig;
use crate::manifest::LABEL_COMMANDS;

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The name it was found by, if any.
    pub reference: Option<ImageReference>,
    /// Digest of its manifest: the identity of the image everywhere.
    pub manifest_digest: Digest,
    /// The manifest as it arrived, never written anew.
    pub manifest_bytes: Vec<u8>,
    /// Digest of its config.
    pub config_digest: Digest,
    /// The config as it arrived.
    pub config_bytes: Vec<u8>,
    /// What the config says.
    pub config: ImageConfig,
    /// Its layers in chunked form, bottom first.
    pub layers: Vec<LayerDescriptor>,
}

impl Image {
    /// The environment the image brings, `NAME=VALUE`, as pairs. Entries without `=` have an empty value.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let pair = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_owned(), value.to_owned())
        };
        self.config.config.env.iter().map(pair).collect()
    }

    /// The commands that run when the cluster is up (`CMD` of the Kubefile), in order; each is one shell line.
    ///
    /// They are in a label: the `Cmd` of an OCI config is one program with its arguments, and the images of others
    /// have one that means something else.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let label = self.config.config.labels.get(LABEL_COMMANDS);
        label
            .and_then(|list| serde_json::from_str(list).ok())
            .unwrap_or_default()
    }

    /// Bytes of all layers as they travel.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}
