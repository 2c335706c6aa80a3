//! This module owns [`BaseImage`]: what FROM brings.

use std::collections::BTreeMap;

use gantry_model::{Digest, ImageReference};
use gantry_store::{Descriptor, Image, Platform, Store, StoreError};

/// The image that another one builds on.
#[derive(Debug)]
pub(super) struct BaseImage {
    /// The image.
    pub(super) image: Image,
    /// Its layers as its manifest names them: a layer that arrived as gzip stays that in the new image.
    pub(super) layers: Vec<Descriptor>,
    /// Annotations of its manifest.
    pub(super) annotations: BTreeMap<String, String>,
}

impl BaseImage {
    /// Finds the image in the store.
    ///
    /// # Errors
    /// When it is not there, not for this platform, or damaged.
    pub(super) fn find(
        store: &Store,
        name: &ImageReference,
        platform: &Platform,
    ) -> Result<Self, StoreError> {
        let image = store.image_for(name, platform)?;
        let config = &image.config;
        if (&config.os, &config.architecture) != (&platform.os, &platform.architecture) {
            let (os, architecture) = (&platform.os, &platform.architecture);
            let reason = format!(
                "it is for {}/{}, this build is for {os}/{architecture}; choose the platform with --platform",
                config.os, config.architecture
            );
            return Err(StoreError::malformed(format!("image {name} as a base"), reason));
        }
        let manifest = image.manifest()?;
        Ok(Self {
            image,
            layers: manifest.layers,
            annotations: manifest.annotations,
        })
    }

    /// Digests of its uncompressed layers, bottom first.
    #[must_use]
    pub(super) fn diff_ids(&self) -> &[Digest] {
        &self.image.config.rootfs.diff_ids
    }
}
