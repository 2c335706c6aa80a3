//! This module owns how an image whose blobs have arrived becomes one of the store's images: it is looked through, its
//! layers get their chunked forms, and last its name leads to it.

use std::collections::BTreeSet;

use gantry_model::ImageReference;

use crate::images::{check_layer_count, is_index, parse};
use crate::manifest::{Index, MAX_CONFIG_LEN, MAX_MANIFEST_LEN, Manifest};
use crate::{Descriptor, ImageConfig, LoadEvent, LoadedImage, Store, StoreError};

impl Store {
    /// Makes `name` lead to the image at `target`, whose documents and layers are here as blobs. Of an index, one
    /// platform is enough. What the name led to before is removed, as far as nothing else needs it. An image of sealer before 0.9
    /// becomes one of today, with a digest of its own.
    ///
    /// `source` says in errors where the image came from.
    ///
    /// # Errors
    /// When something of the image is missing, damaged or contradicts itself; the name leads where it led before then.
    pub fn admit(
        &self,
        target: &Descriptor,
        name: &ImageReference,
        source: &str,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<LoadedImage, StoreError> {
        let digest;
        let replaced = {
            let _nothing_vanishes = self.share()?;
            let came = target.digest;
            let target = self.as_image_of_today(target, source, event)?;
            self.take_image(&target, source, event)?;
            if target.digest != came {
                // The guard was asked about what the registry has.
                self.ask_guard(name, &target)?;
            }
            let target = Descriptor {
                platform: None,
                annotations: std::collections::BTreeMap::new(),
                ..target
            };
            digest = target.digest;
            self.set_reference(name, target)?
        };
        if replaced.is_some() {
            self.release(replaced.as_slice())?;
        }
        Ok(LoadedImage {
            reference: name.clone(),
            digest,
        })
    }

    /// Looks through an image that came, and gives every layer its chunked form.
    pub(crate) fn take_image(
        &self,
        target: &Descriptor,
        source: &str,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<(), StoreError> {
        let what = format!("manifest {} of {source}", target.digest);
        let bytes = self.blobs().read(&target.digest, &what, MAX_MANIFEST_LEN)?;
        if is_index(&target.media_type) {
            let index: Index = parse(&bytes, &what)?;
            // Statements about an image (attestations) have no layers to unpack. They stay what they are.
            let mut seen = BTreeSet::new();
            let here: Vec<_> = index
                .manifests
                .iter()
                .filter(|entry| entry.is_image() && self.blobs().exists(&entry.digest))
                .filter(|entry| seen.insert(entry.digest))
                .collect();
            if here.is_empty() {
                return Err(StoreError::malformed(what, "none of its platforms is there"));
            }
            // Nobody makes them, and a chain of them has no end that could be relied on.
            if here.iter().any(|entry| is_index(&entry.media_type)) {
                let reason = "it has another index in it; push or save the inner one by itself";
                return Err(StoreError::malformed(what, reason));
            }
            return here
                .into_iter()
                .try_for_each(|entry| self.take_image(entry, source, event));
        }
        let manifest: Manifest = parse(&bytes, &what)?;
        let what = format!("config {} of {source}", manifest.config.digest);
        let config_bytes = self
            .blobs()
            .read(&manifest.config.digest, &what, MAX_CONFIG_LEN)?;
        let config: ImageConfig = parse(&config_bytes, &what)?;
        check_layer_count(manifest.layers.len(), &config, source)?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            let what = format!("layer {} of {source}", layer.digest);
            match self.blobs().size(&layer.digest)? {
                None => {
                    let reason = format!("layer {} is missing", layer.digest);
                    return Err(StoreError::CutShort {
                        what: source.to_owned(),
                        reason,
                    });
                }
                Some(size) if size != layer.size => {
                    let found = format!("{size} bytes");
                    return Err(StoreError::WrongSize {
                        what,
                        expected: layer.size,
                        found,
                    });
                }
                Some(_) => {}
            }
            let chunked = layer.chunked_layer(*diff_id);
            if chunked.is_none_or(|chunked| self.blob_toc(&chunked).is_err()) {
                self.chunk_layer(&layer.digest, diff_id, &what, event)?;
            }
        }
        Ok(())
    }
}
