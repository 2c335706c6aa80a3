//! This module owns what goes into an archive, and writing it as one OCI archive: what `skopeo` calls `oci-archive:`.
//!
//! The same images give the same bytes. Documents come first, so that a reader knows early what is coming.

use std::collections::BTreeSet;
use std::io::Write;

use gantry_model::{Digest, ImageReference};

use super::tar_stream::TarStream;
use super::{
    ANNOTATION_KIND, ANNOTATION_SIGNED, KIND_ATTESTATIONS, KIND_IMAGE, KIND_INDEX, KIND_SIGNATURES,
    LAYOUT_FILE, LAYOUT_TEXT, blob_path,
};
use crate::images::is_index;
use crate::manifest::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Index, MEDIA_TYPE_INDEX};
use crate::signatures::SignatureKind;
use crate::{Descriptor, Platform, SignatureContents, Store, StoreError};

/// How far writing an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveEvent {
    /// A layer is decompressed, to see how large it is.
    Measuring {
        /// Digest of the layer.
        layer: Digest,
        /// Its size in bytes as it is stored.
        size: u64,
    },
    /// So many bytes will be written in all.
    Planned {
        /// Bytes.
        total: u64,
    },
    /// So many bytes more were written, or were there already.
    Written {
        /// Bytes.
        len: u64,
    },
}

impl Store {
    /// Writes the images, with everything they need, as one OCI archive; of images for several platforms the one for
    /// `platform`, if one is given. Every blob is verified on its way out.
    ///
    /// # Errors
    /// When an image is not there or damaged, or `out` cannot be written. What was written so far is useless then.
    pub fn save(
        &self,
        references: &[ImageReference],
        platform: Option<&Platform>,
        out: impl Write,
        event: &mut dyn FnMut(SaveEvent),
    ) -> Result<(), StoreError> {
        let _nothing_vanishes = self.share()?;
        self.outgoing(references, platform)?
            .oci_archive()
            .write(self, out, event)
    }

    /// What the images consist of.
    pub(super) fn outgoing(
        &self,
        references: &[ImageReference],
        platform: Option<&Platform>,
    ) -> Result<Outgoing, StoreError> {
        let (mut outgoing, mut seen) = (Outgoing::default(), BTreeSet::new());
        for reference in references {
            let contents = self.contents(reference, platform)?;
            let (target, _) = contents.manifests.last().expect("every image has a manifest");
            let mut image = named(target, &reference.to_string());
            if contents.signatures.iter().any(|one| one.image == image.digest) {
                let kind = if is_index(&image.media_type) {
                    KIND_INDEX
                } else {
                    KIND_IMAGE
                };
                image
                    .annotations
                    .insert(ANNOTATION_KIND.to_owned(), kind.to_owned());
            }
            outgoing.images.push(image);
            let documents = contents.manifests.into_iter();
            outgoing.documents.extend(
                documents
                    .map(|(target, bytes)| (target.digest, bytes))
                    .filter(|(digest, _)| seen.insert(*digest)),
            );
            outgoing
                .blobs
                .extend(contents.blobs.into_iter().filter(|blob| seen.insert(blob.digest)));
            for signatures in contents.signatures {
                if !seen.insert(signatures.manifest.digest) {
                    continue;
                }
                outgoing.signatures.push(signatures_entry(&signatures, reference));
                outgoing
                    .documents
                    .push((signatures.manifest.digest, signatures.bytes));
                let blobs = signatures.blobs.into_iter();
                outgoing
                    .blobs
                    .extend(blobs.filter(|blob| seen.insert(blob.digest)));
            }
        }
        Ok(outgoing)
    }
}

/// What goes into an archive.
#[derive(Default)]
pub(super) struct Outgoing {
    /// The images, with their names as annotations.
    pub(super) images: Vec<Descriptor>,
    /// Signatures over them, each with the tag that it has in registries.
    pub(super) signatures: Vec<Descriptor>,
    /// Manifests and indexes.
    pub(super) documents: Vec<(Digest, Vec<u8>)>,
    /// Configs and layers.
    pub(super) blobs: Vec<Descriptor>,
}

impl Outgoing {
    pub(super) fn oci_archive(&self) -> TarStream {
        let index = Index {
            schema_version: 2,
            media_type: MEDIA_TYPE_INDEX.to_owned(),
            manifests: [self.images.clone(), self.signatures.clone()].concat(),
        };
        let mut archive = TarStream::default();
        archive.file(LAYOUT_FILE, LAYOUT_TEXT.as_bytes().to_vec());
        let index = serde_json::to_vec(&index).expect("an index is plain data");
        archive.file("index.json", index);
        archive.folder("blobs/");
        archive.folder("blobs/sha256/");
        for (digest, bytes) in &self.documents {
            archive.file(&blob_path(digest), bytes.clone());
        }
        for blob in &self.blobs {
            archive.blob(&blob_path(&blob.digest), blob.digest, blob.size);
        }
        archive.end();
        archive
    }
}

fn named(target: &Descriptor, name: &str) -> Descriptor {
    let mut target = target.clone();
    for annotation in [ANNOTATION_REF_NAME, ANNOTATION_IMAGE_NAME] {
        target.annotations.insert(annotation.to_owned(), name.to_owned());
    }
    target
}

fn signatures_entry(signatures: &SignatureContents, reference: &ImageReference) -> Descriptor {
    let name = format!("{}:{}", reference.name(), signatures.tag());
    let mut entry = named(&signatures.manifest, &name);
    let kind = match signatures.kind {
        SignatureKind::Image => KIND_SIGNATURES,
        SignatureKind::Attestation => KIND_ATTESTATIONS,
    };
    entry
        .annotations
        .insert(ANNOTATION_KIND.to_owned(), kind.to_owned());
    entry
        .annotations
        .insert(ANNOTATION_SIGNED.to_owned(), reference.to_string());
    entry
}
