//! This module owns [`Image`]: one ClusterImage of the store, ready to be planned, shown or sent.

use gantry_model::{Digest, ImageReference, LayerDescriptor};

use crate::extension::{ANNOTATION_CONTAINER_IMAGES, launch_lines};
use crate::manifest::Manifest;
use crate::{ContainerImage, Extension, ImageConfig, StoreError};

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
    /// What only its extension has comes last.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let pair = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_owned(), value.to_owned())
        };
        let mut env: Vec<(String, String)> = self.config.config.env.iter().map(pair).collect();
        if let Ok(Some(extension)) = self.extension() {
            for (name, value) in extension.env {
                if !env.iter().any(|(known, _)| *known == name) {
                    env.push((name, value));
                }
            }
        }
        env
    }

    /// The commands that run when the cluster is up (`LAUNCH`, `CMDS` and `CMD` of the Kubefile), in order; each is one
    /// shell line. See [`launch_lines`].
    ///
    /// # Errors
    /// When its annotation cannot be read, or launches what is not there.
    pub fn commands(&self) -> Result<Vec<String>, StoreError> {
        launch_lines(&self.manifest()?, &self.config).map_err(|error| self.malformed(error))
    }

    /// What the image says about itself beyond OCI, if it says something.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn extension(&self) -> Result<Option<Extension>, StoreError> {
        Extension::of(&self.manifest()?).map_err(|error| self.malformed(error))
    }

    /// The container images it says it brings.
    ///
    /// # Errors
    /// When what it says cannot be read.
    pub fn container_images(&self) -> Result<Vec<ContainerImage>, StoreError> {
        let manifest = self.manifest()?;
        let Some(text) = manifest.annotations.get(ANNOTATION_CONTAINER_IMAGES) else {
            return Ok(Vec::new());
        };
        // Go programs write `null` for an empty list.
        let list: Result<Option<Vec<ContainerImage>>, _> = serde_json::from_str(text);
        list.map(Option::unwrap_or_default).map_err(|error| {
            self.malformed(format!(
                "its annotation {ANNOTATION_CONTAINER_IMAGES} cannot be read: {error}"
            ))
        })
    }

    /// Its manifest, read.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn manifest(&self) -> Result<Manifest, StoreError> {
        serde_json::from_slice(&self.manifest_bytes)
            .map_err(|error| self.malformed(format!("its manifest cannot be read: {error}")))
    }

    fn malformed(&self, reason: String) -> StoreError {
        let name = self
            .reference
            .as_ref()
            .map_or_else(|| self.manifest_digest.short(), ToString::to_string);
        StoreError::malformed(format!("image {name}"), reason)
    }

    /// Bytes of all layers as they travel.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}
