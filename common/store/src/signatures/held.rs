//! What the store holds of the signatures over one image: an image is no worse for damage to what was said about it.

use std::collections::BTreeSet;

use gantry_model::Digest;

use super::candidates::{Signed, or_damaged, read_candidate};
use super::{MAX_CONFIG_LEN, SignatureContents, SignatureKind, what};
use crate::images::parse;
use crate::manifest::{MAX_MANIFEST_LEN, Manifest};
use crate::{Descriptor, Store, StoreError, StoreLock, documents};

/// What there is.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The signatures that can be read.
    pub(super) readable: Vec<Signed>,
    /// What is wrong with the rest.
    pub(super) damage: Option<String>,
    /// Their manifest, as far as it is known.
    manifest: Option<Descriptor>,
    document: Option<(Vec<u8>, Manifest)>,
}

impl Held {
    /// All of them as documents and blobs; none where something is damaged.
    pub(super) fn contents(self, image: Digest) -> Option<SignatureContents> {
        if self.damage.is_some() {
            return None;
        }
        let (bytes, document) = self.document?;
        let mut blobs = vec![document.config];
        blobs.extend(document.layers);
        // The same payload may have been signed by several.
        let mut seen = BTreeSet::new();
        blobs.retain(|blob| seen.insert(blob.digest));
        Some(SignatureContents {
            image,
            kind: SignatureKind::Image,
            manifest: self.manifest?,
            bytes,
            blobs,
        })
    }

    /// The blobs that it is known to consist of.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Digest> {
        let document = self.document.iter().map(|(_, document)| document);
        let blobs = document.flat_map(|document| document.layers.iter().chain([&document.config]));
        blobs.chain(&self.manifest).map(|blob| blob.digest)
    }
}

impl Store {
    pub(super) fn held_signatures(&self, image: &Digest) -> Result<Held, StoreError> {
        let damaged = |held: Held, what: &str| Held {
            damage: Some(format!(
                "{what} is damaged or missing; `gantry prune` removes what is left"
            )),
            ..held
        };
        let note = documents::read::<Descriptor>(&self.signatures_path(image));
        let Some(note) = or_damaged(note)? else {
            return Ok(damaged(Held::default(), "the note of them"));
        };
        let Some(target) = note else {
            return Ok(Held::default());
        };
        let mut held = Held {
            manifest: Some(target.clone()),
            ..Held::default()
        };
        let bytes = self.blobs().read(&target.digest, &what(image), MAX_MANIFEST_LEN);
        let Some(bytes) = or_damaged(bytes)? else {
            return Ok(damaged(held, "their manifest"));
        };
        let Some(document) = or_damaged(parse::<Manifest>(&bytes, &what(image)))? else {
            return Ok(damaged(held, "their manifest"));
        };
        for layer in &document.layers {
            held.readable.extend(read_candidate(self, layer)?);
        }
        let is_whole = held.readable.len() == document.layers.len() && self.has_config(&document)?;
        held.document = Some((bytes, document));
        Ok(if is_whole {
            held
        } else {
            damaged(held, "a payload or the config of them")
        })
    }

    /// Whether the config of a manifest of signatures is here, whole.
    pub(super) fn has_config(&self, manifest: &Manifest) -> Result<bool, StoreError> {
        let config = self
            .blobs()
            .read(&manifest.config.digest, "config of signatures", MAX_CONFIG_LEN);
        Ok(or_damaged(config)?.is_some_and(|bytes| bytes.len() as u64 == manifest.config.size))
    }

    /// Forgets what is damaged of signatures over the images of this store; what can be read of them stays. Says over how many.
    pub(crate) fn forget_damaged_signatures(&self) -> Result<usize, StoreError> {
        let _nothing_vanishes = self.share()?;
        let _alone = StoreLock::exclusive(&self.store_dir().join("images.lock"))?;
        let mut forgotten = 0;
        for image in self.images_with_signatures() {
            let held = self.held_signatures(&image)?;
            if held.damage.is_none() {
                continue;
            }
            forgotten += 1;
            let path = self.signatures_path(&image);
            if held.readable.is_empty() {
                std::fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            } else {
                let layers = held.readable.into_iter().map(|one| one.layer).collect();
                documents::write(&path, &self.put_signature_manifest(layers)?)?;
            }
        }
        Ok(forgotten)
    }

    /// The images that there are notes of signatures over.
    fn images_with_signatures(&self) -> Vec<Digest> {
        let notes = std::fs::read_dir(self.signatures_dir())
            .into_iter()
            .flatten()
            .flatten();
        let image = |name: &str| Digest::from_hex(name.strip_suffix(".json")?).ok();
        notes
            .filter_map(|note| image(note.file_name().to_str()?))
            .collect()
    }
}
