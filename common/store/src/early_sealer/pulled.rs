//! This module owns how an image that sealer pushed to a registry before 0.9 becomes one of this store.

use std::collections::BTreeMap;
use std::io::BufReader;

use gantry_model::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::document::{ImageDocument, SaidPlatform};
use crate::images::{is_index, parse};
use crate::layer_import::decode::{Format, format};
use crate::manifest::{
    Index, MAX_CONFIG_LEN, MAX_MANIFEST_LEN, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER_TAR,
    MEDIA_TYPE_LAYER_ZSTD, Manifest,
};
use crate::{Descriptor, LoadEvent, NewImage, Platform, Store, StoreError};

/// Whether a config is the document of an image of early sealer: `spec.layers` in the place of `rootfs`.
#[must_use]
pub fn is_document(config: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Shape {
        spec: BTreeMap<String, IgnoredAny>,
        rootfs: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Shape>(config)
        .is_ok_and(|shape| shape.rootfs.is_none() && shape.spec.contains_key("layers"))
}

/// Makes sure that a document speaks of as many layers as the image has.
pub(crate) fn check_document(config: &[u8], layers: usize, what: &str) -> Result<(), StoreError> {
    let document: ImageDocument = parse(config, &format!("config of {what}"))?;
    let said = document.layer_ids().count();
    if said == layers {
        return Ok(());
    }
    let reason = format!(
        "it was pushed by sealer 0.8 or an older one, and has {layers} layers, where its document speaks of {said}: which is which \
         cannot be told; push it again with the sealer that built it, or `sealer save -o FILE` it there, and `gantry load FILE`"
    );
    Err(StoreError::malformed(what, reason))
}

/// The image that a document describes, with these layers, bottom first, and with each what its tar stream's digest is; `platform` is what
/// was said elsewhere of whom it is for. `what` names the image in errors.
///
/// # Errors
/// When it is not such a document, or speaks of another number of layers.
pub fn image_from_document(
    config: &[u8],
    layers: Vec<(Descriptor, Digest)>,
    platform: Option<&Platform>,
    what: &str,
) -> Result<NewImage, StoreError> {
    check_document(config, layers.len(), what)?;
    let document: ImageDocument = parse(config, &format!("config of {what}"))?;
    Ok(document.image(layers, &said(platform), ""))
}

impl Store {
    /// What the image at `target` is in this store: the same, unless early sealer pushed it. Then a manifest, or an index of
    /// several, is made here, whose layers are those that came.
    pub(crate) fn as_image_of_today(
        &self,
        target: &Descriptor,
        source: &str,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<Descriptor, StoreError> {
        let what = format!("manifest {} of {source}", target.digest);
        let mut made = if is_index(&target.media_type) {
            let bytes = self.blobs().read(&target.digest, &what, MAX_MANIFEST_LEN)?;
            let index: Index = parse(&bytes, &what)?;
            let here = |entry: &Descriptor| {
                entry.is_image() && !is_index(&entry.media_type) && self.blobs().exists(&entry.digest)
            };
            let mut entries = Vec::new();
            for entry in index.manifests.into_iter().filter(here) {
                entries.push(self.one_of_today(&entry, source, event)?);
            }
            entries
        } else {
            vec![self.one_of_today(target, source, event)?]
        };
        let changed = made.iter().any(|(_, changed)| *changed);
        match made.len() {
            _ if !changed => Ok(target.clone()),
            1 => Ok(Descriptor {
                platform: None,
                ..made.remove(0).0
            }),
            _ => self.put_index(made.into_iter().map(|(entry, _)| entry).collect()),
        }
    }

    /// The same of a manifest, and whether it is another one than came.
    fn one_of_today(
        &self,
        entry: &Descriptor,
        source: &str,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<(Descriptor, bool), StoreError> {
        let what = format!("manifest {} of {source}", entry.digest);
        let manifest: Manifest = parse(&self.blobs().read(&entry.digest, &what, MAX_MANIFEST_LEN)?, &what)?;
        let what = format!("config {} of {source}", manifest.config.digest);
        let config = self
            .blobs()
            .read(&manifest.config.digest, &what, MAX_CONFIG_LEN)?;
        if !is_document(&config) {
            return Ok((entry.clone(), false));
        }
        // Before they are made anew.
        check_document(&config, manifest.layers.len(), source)?;
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            layers.push(self.layer_of_today(&layer.digest, source, event)?);
        }
        let image = image_from_document(&config, layers, entry.platform.as_ref(), source)?;
        let target = Descriptor {
            platform: Some(image.platform()),
            ..self.put_image(&image, source)?
        };
        Ok((target, true))
    }

    /// A layer that came, named as OCI does, and the digest of its tar stream, which nobody said.
    fn layer_of_today(
        &self,
        layer: &Digest,
        source: &str,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<(Descriptor, Digest), StoreError> {
        let what = format!("layer {layer} of {source}");
        let chunked = self.chunk_layer_of_any_content(layer, &what, event)?;
        let mut blob = BufReader::new(self.blobs().open(layer, &what)?);
        let format = format(&mut blob).map_err(StoreError::io("read", self.blobs().path(layer)))?;
        let media_type = match format {
            Format::Gzip => MEDIA_TYPE_LAYER_GZIP,
            Format::Zstd => MEDIA_TYPE_LAYER_ZSTD,
            Format::Tar | Format::Unreadable(_) => MEDIA_TYPE_LAYER_TAR,
        };
        let size = self.blobs().size(layer)?.unwrap_or(0);
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            ..Descriptor::of_blob(layer, size)
        };
        Ok((descriptor, chunked.diff_id))
    }
}

/// What an index says of the platform of one of its images.
fn said(platform: Option<&Platform>) -> SaidPlatform {
    platform.map_or_else(SaidPlatform::default, |platform| SaidPlatform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
    })
}
