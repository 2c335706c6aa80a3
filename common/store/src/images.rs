//! This module owns `images.json`: which names lead to which images.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gantry_model::{Digest, ImageReference};
use serde::{Deserialize, Serialize};

use crate::manifest::{
    Index, MAX_CONFIG_LEN, MAX_LAYERS, MAX_MANIFEST_LEN, MEDIA_TYPE_DOCKER_INDEX, MEDIA_TYPE_INDEX, Manifest,
};
use crate::{Descriptor, Image, ImageConfig, Platform, Store, StoreError, StoreLock, documents};

/// Fewest digits of a digest that name an image.
const MIN_ID_LEN: usize = 6;

/// `images.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct References {
    /// What each name leads to: a manifest, or an index of several.
    pub(crate) images: BTreeMap<ImageReference, Descriptor>,
}

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
        let references = self.references()?;
        let target = match reference.digest() {
            Some(digest) => references.images.values().find(|target| target.digest == *digest),
            None => references.images.get(reference),
        };
        let Some(target) = target else {
            return Err(no_such_image(&reference.to_string(), &references));
        };
        let mut image = self.resolve(target, platform, &reference.to_string())?;
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

    /// The image that a person means by `text`; see [`Store::find_name`].
    ///
    /// # Errors
    /// Like [`Store::find_name`], and when what there is of the image is damaged.
    pub fn find_image(&self, text: &str) -> Result<Image, StoreError> {
        self.image(&self.find_name(text)?)
    }

    /// The name of the image that a person means by `text`: a name, or the first digits (at least 6) of a digest
    /// that names lead to; of several names of one image the first.
    ///
    /// # Errors
    /// When there is none, or the digits fit several.
    pub fn find_name(&self, text: &str) -> Result<ImageReference, StoreError> {
        let references = self.references()?;
        let reference = text.parse::<ImageReference>();
        if let Ok(reference) = &reference
            && references.images.contains_key(reference)
        {
            return Ok(reference.clone());
        }
        let by_digest = reference
            .as_ref()
            .ok()
            .and_then(ImageReference::digest)
            .map(Digest::hex);
        let digits = by_digest
            .as_deref()
            .unwrap_or_else(|| text.strip_prefix("sha256:").unwrap_or(text));
        if digits.len() >= MIN_ID_LEN && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            let fitting = references
                .images
                .iter()
                .filter(|(_, target)| target.digest.hex().starts_with(digits));
            let fitting: BTreeMap<_, _> = fitting
                .rev()
                .map(|(name, target)| (target.digest, name))
                .collect();
            match fitting.len() {
                0 => {}
                1 => return Ok(fitting.into_values().next().expect("there is one").clone()),
                _ => {
                    return Err(StoreError::malformed(
                        format!("image id {text}"),
                        "it fits several images",
                    ));
                }
            }
        }
        match reference {
            Ok(reference) => Err(no_such_image(&reference.to_string(), &references)),
            Err(error) => Err(StoreError::malformed("image name", error.to_string())),
        }
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
        let references = self.references()?;
        let by_digest = |digest: &Digest| references.images.values().find(|target| target.digest == *digest);
        let found = source
            .digest()
            .map_or_else(|| references.images.get(source), by_digest);
        let target = found
            .cloned()
            .ok_or_else(|| no_such_image(&source.to_string(), &references))?;
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

    /// The error that says so, with the names that were perhaps meant.
    pub(crate) fn no_such_image(&self, reference: &ImageReference) -> StoreError {
        match self.references() {
            Ok(references) => no_such_image(&reference.to_string(), &references),
            Err(error) => error,
        }
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
            let reason = format!("it has no manifest for {}/{}", platform.os, platform.architecture);
            return Err(StoreError::malformed(format!("image {name}"), reason));
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
        check_layer_count(&manifest, &config, name)?;
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

/// A manifest and its config agree on how many layers there are, and there are not too many.
pub(crate) fn check_layer_count(
    manifest: &Manifest,
    config: &ImageConfig,
    name: &str,
) -> Result<(), StoreError> {
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
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

fn no_such_image(wanted: &str, references: &References) -> StoreError {
    /// Most names an error lists.
    const LISTED: usize = 8;
    let names: Vec<String> = references.images.keys().map(ToString::to_string).collect();
    let mut near: Vec<_> = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(name, wanted), name))
        .filter(|(distance, name)| *distance <= wanted.len().max(name.len()) / 3)
        .collect();
    near.sort();
    StoreError::NoSuchImage {
        wanted: wanted.to_owned(),
        near: near.into_iter().take(3).map(|(_, name)| name.clone()).collect(),
        known: names.into_iter().take(LISTED).collect(),
    }
}
