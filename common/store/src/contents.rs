//! This module owns [`ImageContents`]: everything an image consists of, in the order in which a reader can check it.

use std::collections::BTreeSet;

use gantry_model::{Digest, ImageReference};

use crate::images::{is_index, parse};
use crate::manifest::{Index, MAX_MANIFEST_LEN, Manifest};
use crate::{Descriptor, Platform, SignatureContents, Store, StoreError};

/// The documents and blobs of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageContents {
    /// Manifests and indexes; each comes after everything it names. The last is the image.
    pub manifests: Vec<(Descriptor, Vec<u8>)>,
    /// Configs and layers, each once.
    pub blobs: Vec<Descriptor>,
    /// What an index names and the store does not have.
    pub absent: Vec<Descriptor>,
    /// Signatures over the manifests and indexes that were signed, and statements about them.
    pub signatures: Vec<SignatureContents>,
}

impl Store {
    /// What the image of this name consists of; of an index only the manifest for `platform`, if one is given.
    ///
    /// # Errors
    /// When there is no such image or platform, or a document of it is damaged.
    pub fn contents(
        &self,
        reference: &ImageReference,
        platform: Option<&Platform>,
    ) -> Result<ImageContents, StoreError> {
        let target = self.target(reference)?;
        let target = match platform {
            Some(platform) if is_index(&target.media_type) => {
                let image = self.image_for(reference, platform)?;
                let manifest: Manifest = parse(&image.manifest_bytes, &format!("manifest of {reference}"))?;
                Descriptor {
                    media_type: manifest.media_type_or_oci(),
                    digest: image.manifest_digest,
                    size: image.manifest_bytes.len() as u64,
                    platform: None,
                    annotations: std::collections::BTreeMap::new(),
                }
            }
            _ => target,
        };
        let (mut contents, mut seen) = (ImageContents::default(), BTreeSet::new());
        self.collect(&target, &mut contents, &mut seen)?;
        Ok(contents)
    }

    /// What a name leads to: a manifest or an index.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn target(&self, reference: &ImageReference) -> Result<Descriptor, StoreError> {
        self.leads_to(reference)
    }

    fn collect(
        &self,
        target: &Descriptor,
        contents: &mut ImageContents,
        seen: &mut BTreeSet<Digest>,
    ) -> Result<(), StoreError> {
        if !seen.insert(target.digest) {
            return Ok(());
        }
        let what = format!("image manifest {}", target.digest);
        let bytes = self.blobs().read(&target.digest, &what, MAX_MANIFEST_LEN)?;
        if is_index(&target.media_type) {
            let index: Index = parse(&bytes, &what)?;
            for entry in &index.manifests {
                if self.blobs().exists(&entry.digest) {
                    self.collect(entry, contents, seen)?;
                } else {
                    contents.absent.push(entry.clone());
                }
            }
        } else {
            let manifest: Manifest = parse(&bytes, &what)?;
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                if seen.insert(blob.digest) {
                    contents.blobs.push(blob.clone());
                }
            }
        }
        contents
            .signatures
            .extend(self.signature_contents(&target.digest)?);
        contents
            .signatures
            .extend(self.attestation_contents(&target.digest, None)?);
        contents.manifests.push((target.clone(), bytes));
        Ok(())
    }
}
