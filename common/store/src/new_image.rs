//! This module owns [`NewImage`]: how an image that was built here gets into the store.

use std::collections::BTreeMap;

use gantry_model::ImageReference;

use crate::images::check_layer_count;
use crate::manifest::{MEDIA_TYPE_CONFIG, MEDIA_TYPE_MANIFEST, Manifest};
use crate::{Descriptor, Image, ImageConfig, Platform, Store, StoreError, StoreLock};

/// An image whose layers are in the store, and that has no name yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImage {
    /// Its config; `rootfs.diff_ids` has one entry per layer.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
}

impl NewImage {
    /// The platform it is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.config.architecture.clone(),
            os: self.config.os.clone(),
            variant: self.config.variant.clone(),
        }
    }
}

impl Store {
    /// Stores the image and makes `name` lead to it. What the name led to before is removed, as far as nothing else
    /// needs it.
    ///
    /// `held` is what kept the layers, which no image needs yet, from being swept away since the first was made.
    ///
    /// # Errors
    /// When layers and config do not fit, or the store cannot be written.
    pub fn add_image(
        &self,
        held: StoreLock,
        name: &ImageReference,
        image: &NewImage,
    ) -> Result<Image, StoreError> {
        let target = self.put_image(image, &format!("image {name}"))?;
        let platform = image.platform();
        let replaced = self.set_reference(name, target)?;
        let added = self.image_for(name, &platform)?;
        // Removing something needs the store alone.
        drop(held);
        self.release(replaced.as_slice())?;
        Ok(added)
    }

    pub(crate) fn put_image(&self, image: &NewImage, what: &str) -> Result<Descriptor, StoreError> {
        let config = serde_json::to_vec(&image.config).expect("a config is plain data");
        let manifest = Manifest {
            schema_version: 2,
            media_type: MEDIA_TYPE_MANIFEST.to_owned(),
            config: Descriptor {
                media_type: MEDIA_TYPE_CONFIG.to_owned(),
                digest: self.blobs().put_bytes(&config)?,
                size: config.len() as u64,
                platform: None,
                annotations: BTreeMap::new(),
            },
            layers: image.layers.clone(),
            annotations: image.annotations.clone(),
        };
        check_layer_count(manifest.layers.len(), &image.config, what)?;
        self.put_manifest(&manifest)
    }

    /// Stores a manifest that was made here.
    pub(crate) fn put_manifest(&self, manifest: &Manifest) -> Result<Descriptor, StoreError> {
        let bytes = serde_json::to_vec(manifest).expect("a manifest is plain data");
        Ok(Descriptor {
            media_type: manifest.media_type.clone(),
            digest: self.blobs().put_bytes(&bytes)?,
            size: bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        })
    }
}
