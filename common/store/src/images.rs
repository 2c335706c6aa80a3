//! This module owns the way from a name to an image, and how `images.json` changes.

use std::path::PathBuf;

use gantry_model::{Digest, ImageReference};

use crate::manifest::{
    Index, MAX_CONFIG_LEN, MAX_LAYERS, MAX_MANIFEST_LEN, MEDIA_TYPE_DOCKER_INDEX, MEDIA_TYPE_INDEX, Manifest,
};
use crate::references::References;
use crate::{
    Descriptor, Image, ImageConfig, Platform, Store, StoreError, StoreLock, documents, early_sealer,
};

impl Store {
    /// The image of this name for this host's platform.
    ///
    /// # Errors
    /// When there is none, or what there is of it is damaged.
    pub fn image(&self, reference: &ImageReference) -> Result<Image, StoreError> {
        self.image_for(reference, &Platform::host())
    }

    /// The image of this name for `platform`.
    ///
    /// # Errors
    /// When there is none, or what there is of it is damaged.
    pub fn image_for(&self, reference: &ImageReference, platform: &Platform) -> Result<Image, StoreError> {
        let target = self.leads_to(reference)?;
        let mut image = self.resolve(&target, platform, &reference.to_string())?;
        image.reference = Some(reference.clone());
        Ok(image)
    }

    /// The image with this manifest digest.
    ///
    /// # Errors
    /// When there is none, or what there is of it is damaged.
    pub fn image_by_digest(&self, digest: &Digest) -> Result<Image, StoreError> {
        let bytes = self.blobs().read(digest, "image manifest", MAX_MANIFEST_LEN)?;
        self.assemble(*digest, bytes, &format!("image {digest}"))
    }

    /// All names with their images, sorted by name. An image that is damaged gives its error in its place.
    ///
    /// # Errors
    /// When `images.json` cannot be read.
    #[expect(clippy::type_complexity, reason = "a list of pairs says it best")]
    pub fn images(&self) -> Result<Vec<(ImageReference, Result<Image, StoreError>)>, StoreError> {
        let references = self.references()?;
        let load = |(name, target): (&ImageReference, &Descriptor)| {
            let image = self.resolve(target, &Platform::host(), &name.to_string());
            (
                name.clone(),
                image.map(|image| Image {
                    reference: Some(name.clone()),
                    ..image
                }),
            )
        };
        Ok(references.images.iter().map(load).collect())
    }

    /// Makes `name` lead to the image that `source` leads to. What `name` led to before is given back.
    ///
    /// # Errors
    /// When there is no such source, or `images.json` cannot be written.
    pub fn tag(&self, source: &ImageReference, name: &ImageReference) -> Result<Option<Digest>, StoreError> {
        let replaced = self.tag_shared(source, name)?;
        self.release(replaced.as_slice())?;
        Ok(replaced.map(|replaced| replaced.digest))
    }

    fn tag_shared(
        &self,
        source: &ImageReference,
        name: &ImageReference,
    ) -> Result<Option<Descriptor>, StoreError> {
        let _nothing_vanishes = self.share()?;
        let target = self.leads_to(source)?;
        self.set_reference(name, target)
    }

    /// Makes `name` lead to `target`, which is in the store. What `name` led to before is given back.
    pub(crate) fn set_reference(
        &self,
        name: &ImageReference,
        target: Descriptor,
    ) -> Result<Option<Descriptor>, StoreError> {
        let digest = target.digest;
        let mut old = None;
        self.change_references(|references| {
            old = references.images.insert(name.clone(), target);
        })?;
        Ok(old.filter(|old| old.digest != digest))
    }

    /// Reads `images.json`, lets `change` work on it and writes it back, alone.
    pub(crate) fn change_references(&self, change: impl FnOnce(&mut References)) -> Result<(), StoreError> {
        let _alone = StoreLock::exclusive(&self.store_dir().join("images.lock"))?;
        let mut references = self.references()?;
        change(&mut references);
        documents::write(&self.references_path(), &references)
    }

    pub(crate) fn references(&self) -> Result<References, StoreError> {
        Ok(documents::read(&self.references_path())?.unwrap_or_default())
    }

    pub(crate) fn references_path(&self) -> PathBuf {
        self.store_dir().join("images.json")
    }

    /// The error that says that there is no such image, with the names that were perhaps meant.
    pub(crate) fn no_such_image(&self, reference: &ImageReference) -> StoreError {
        self.references()
            .map_or_else(|error| error, |references| references.no_such_image(reference))
    }

    fn resolve(&self, target: &Descriptor, platform: &Platform, name: &str) -> Result<Image, StoreError> {
        let what = format!("manifest of image {name}");
        let bytes = self.blobs().read(&target.digest, &what, MAX_MANIFEST_LEN)?;
        if !is_index(&target.media_type) {
            return self.assemble(target.digest, bytes, &format!("image {name}"));
        }
        let index: Index = parse(&bytes, &what)?;
        let fits = |entry: &&Descriptor| {
            let entry = entry.platform.as_ref();
            entry.is_some_and(|entry| entry.os == platform.os && entry.architecture == platform.architecture)
        };
        let Some(entry) = index.manifests.iter().find(fits) else {
            let mut has: Vec<String> = index
                .manifests
                .iter()
                .filter_map(|entry| entry.platform.as_ref())
                // Attestations are for no platform.
                .filter(|platform| platform.os != "unknown")
                .map(Platform::to_string)
                .collect();
            has.dedup();
            return Err(StoreError::OtherPlatform {
                image: name.to_owned(),
                wanted: platform.to_string(),
                has,
            });
        };
        let bytes = self.blobs().read(&entry.digest, &what, MAX_MANIFEST_LEN)?;
        self.assemble(entry.digest, bytes, &format!("image {name}"))
    }

    fn assemble(&self, digest: Digest, manifest_bytes: Vec<u8>, name: &str) -> Result<Image, StoreError> {
        let manifest: Manifest = parse(&manifest_bytes, &format!("manifest of {name}"))?;
        let what = format!("config of {name}");
        let config_bytes = self
            .blobs()
            .read(&manifest.config.digest, &what, MAX_CONFIG_LEN)?;
        let config: ImageConfig = parse(&config_bytes, &what)?;
        check_layer_count(manifest.layers.len(), &config, name)?;
        let mut layers = Vec::with_capacity(manifest.layers.len());
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            layers.push(self.chunked_layer(layer, *diff_id)?);
        }
        Ok(Image {
            reference: None,
            manifest_digest: digest,
            manifest_bytes,
            config_digest: manifest.config.digest,
            config_bytes,
            config,
            layers,
        })
    }
}

pub(crate) fn is_index(media_type: &str) -> bool {
    matches!(media_type, MEDIA_TYPE_INDEX | MEDIA_TYPE_DOCKER_INDEX)
}

/// Parses an OCI document; `what` names it in an error.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::malformed(what, error.to_string()))
}

impl Store {
    /// Makes sure that the config with this digest, which is here as a blob, is that of an image with `layers` layers; `what` names
    /// the image in an error. Whether it is the document of an image that sealer before 0.9 pushed: [`Store::admit`] makes
    /// another image of that, with another digest.
    ///
    /// # Errors
    /// When it is neither, or of other layers.
    pub fn check_config(&self, digest: &Digest, layers: usize, what: &str) -> Result<bool, StoreError> {
        let bytes = self
            .blobs()
            .read(digest, &format!("config of {what}"), MAX_CONFIG_LEN)?;
        if early_sealer::is_document(&bytes) {
            early_sealer::check_document(&bytes, layers, what)?;
            return Ok(true);
        }
        let config: ImageConfig = parse(&bytes, &format!("config of {what}"))?;
        check_layer_count(layers, &config, what)?;
        Ok(false)
    }
}

/// A manifest and its config agree on how many layers there are, and there are not too many.
pub(crate) fn check_layer_count(layers: usize, config: &ImageConfig, name: &str) -> Result<(), StoreError> {
    let diff_ids = config.rootfs.diff_ids.len();
    if layers != diff_ids {
        let reason = format!("its manifest has {layers} layers, its config {diff_ids}");
        return Err(StoreError::malformed(name, reason));
    }
    if layers > MAX_LAYERS {
        let reason = format!("it has {layers} layers, more than the {MAX_LAYERS} that are accepted");
        return Err(StoreError::malformed(name, reason));
    }
    Ok(())
}
