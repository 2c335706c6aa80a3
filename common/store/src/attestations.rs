//! This module owns attestations: signed statements about images, as cosign keeps them in registries: a manifest of its own per
//! image, whose layers are envelopes (sigstore/cosign `specs/ATTESTATION_SPEC.md`). And it owns what a build said about the image
//! it made, which is no attestation before somebody signs it.
//!
//! They belong to a digest as signatures do, go where it goes, and count for nothing where it is asked whether an image is trusted.

mod envelope;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use gantry_model::Digest;

use crate::images::parse;
use crate::manifest::{MAX_MANIFEST_LEN, Manifest};
use crate::reachable::Reachable;
use crate::signatures::{ANNOTATION_SIGNATURE, SignatureKind};
use crate::{Descriptor, SignatureContents, Store, StoreError, StoreLock, documents};

pub use envelope::{About, Envelope, EnvelopeSignature, MEDIA_TYPE_STATEMENT, Statement, Subject};

/// What is read, in errors that nobody sees.
const ATTESTATION: &str = "attestation";
/// Media type of an envelope (DSSE).
pub const MEDIA_TYPE_ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// Annotation of an envelope: what kind of statement is in it.
pub const ANNOTATION_PREDICATE_TYPE: &str = "predicateType";
/// What statements are kept begin with: others about an image (scans, SBOMs) may be large, and come every day.
const KEPT: &str = "https://slsa.dev/provenance/";
/// Most bytes of an envelope: how an image was built takes a few thousand.
pub const MAX_ENVELOPE_LEN: u64 = 1 << 20;
/// Most attestations of one image.
pub const MAX_ATTESTATIONS: usize = 64;
/// Most entries of one manifest that are looked at: some times as many as are kept.
const MAX_CANDIDATES: usize = 4 * MAX_ATTESTATIONS;

/// Whether a manifest is one of attestations.
#[must_use]
pub fn is_of_attestations(manifest: &Manifest) -> bool {
    let of_envelopes = |layer: &Descriptor| layer.media_type == MEDIA_TYPE_ENVELOPE;
    !manifest.layers.is_empty() && manifest.layers.iter().all(of_envelopes)
}

/// The entries of a manifest that may be attestations of how an image was built, by what they say of themselves.
pub fn candidates(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    let fits = |layer: &&Descriptor| {
        let kind = layer.annotations.get(ANNOTATION_PREDICATE_TYPE);
        layer.media_type == MEDIA_TYPE_ENVELOPE
            && layer.size <= MAX_ENVELOPE_LEN
            && kind.is_none_or(|kind| kind.starts_with(KEPT))
    };
    manifest.layers.iter().filter(fits).take(MAX_CANDIDATES)
}

impl Store {
    /// The attestations about the manifest or index with this digest. They are not verified. What is damaged of them counts as
    /// not being there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn attestations(&self, image: &Digest) -> Result<Vec<Envelope>, StoreError> {
        let Some((_, manifest)) = self.held_attestations(image)? else {
            return Ok(Vec::new());
        };
        let envelopes = candidates(&manifest).filter_map(|layer| self.envelope_about(layer, image));
        Ok(envelopes.collect())
    }

    /// Adds an attestation about the manifest or index with this digest, which is in the store. Where there are too many, the last
    /// of those that came makes room.
    ///
    /// # Errors
    /// When it is about something else, nobody signed it, or the store cannot be written.
    pub fn add_attestation(&self, image: &Digest, envelope: &Envelope) -> Result<(), StoreError> {
        let _nothing_vanishes = self.share()?;
        let about = envelope.about(&what(image))?;
        if !is_kept(envelope, &about, image) {
            let reason = "it is about something else, or not signed";
            return Err(StoreError::malformed(what(image), reason));
        }
        let bytes = serde_json::to_vec(envelope).expect("an envelope is plain data");
        let layer = Descriptor {
            media_type: MEDIA_TYPE_ENVELOPE.to_owned(),
            digest: self.blobs().put_bytes(&bytes)?,
            size: bytes.len() as u64,
            platform: None,
            // cosign asks for the first, and leaves it empty: the signature is in the envelope.
            annotations: BTreeMap::from([
                (ANNOTATION_SIGNATURE.to_owned(), String::new()),
                (ANNOTATION_PREDICATE_TYPE.to_owned(), about.predicate_type),
            ]),
        };
        self.join_attestations(image, |held| [vec![layer], held].concat())
    }

    /// Adds what the manifest `bytes` that came has of attestations about `image` to those that are here. Its envelopes are in the
    /// store, as far as they could be had; what in it is none about this image is passed over, and so is what there is no room for.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn add_attestation_manifest(&self, image: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let _nothing_vanishes = self.share()?;
        let Ok(manifest) = parse::<Manifest>(bytes, &what(image)) else {
            return Ok(());
        };
        let about = candidates(&manifest).filter(|layer| self.envelope_about(layer, image).is_some());
        let about: Vec<Descriptor> = about.cloned().collect();
        self.join_attestations(image, |held| [held, about].concat())
    }

    /// The attestations about the manifest or index with this digest as documents and blobs; none where there are none. Whatever
    /// the manifest `theirs` has stays in it: others attest more than is kept here.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn attestation_contents(
        &self,
        image: &Digest,
        theirs: Option<&[u8]>,
    ) -> Result<Option<SignatureContents>, StoreError> {
        let Some((mut target, mut manifest)) = self.held_attestations(image)? else {
            return Ok(None);
        };
        let ours = manifest.layers.clone();
        let theirs = theirs.and_then(|bytes| parse::<Manifest>(bytes, &what(image)).ok());
        if let Some(theirs) = theirs {
            let mut layers = theirs.layers;
            let new = ours
                .iter()
                .filter(|one| layers.iter().all(|known| known.digest != one.digest));
            let new: Vec<Descriptor> = new.cloned().collect();
            layers.extend(new);
            target = self.put_signature_manifest(layers)?;
            let bytes = self
                .blobs()
                .read(&target.digest, &what(image), MAX_MANIFEST_LEN)?;
            manifest = parse(&bytes, &what(image))?;
        }
        let mut blobs = ours;
        blobs.push(manifest.config);
        if blobs.iter().any(|blob| !self.blobs().exists(&blob.digest)) {
            return Ok(None);
        }
        let bytes = self
            .blobs()
            .read(&target.digest, &what(image), MAX_MANIFEST_LEN)?;
        Ok(Some(SignatureContents {
            image: *image,
            kind: SignatureKind::Attestation,
            manifest: target,
            bytes,
            blobs,
        }))
    }

    /// What was said about the image with this manifest when it was built here: the predicate of a statement.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn provenance(&self, image: &Digest) -> Result<Option<serde_json::Value>, StoreError> {
        documents::read(&note(self.provenance_dir(), image))
    }

    /// Notes what is said about the image with this manifest, which was built just now.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn set_provenance(&self, image: &Digest, predicate: &serde_json::Value) -> Result<(), StoreError> {
        documents::write(&note(self.provenance_dir(), image), predicate)
    }

    /// Keeps what `join` makes of the attestations that are here: each once, the first of them.
    fn join_attestations(
        &self,
        image: &Digest,
        join: impl FnOnce(Vec<Descriptor>) -> Vec<Descriptor>,
    ) -> Result<(), StoreError> {
        let _alone = StoreLock::exclusive(&self.store_dir().join("images.lock"))?;
        let held = self.held_attestations(image)?;
        let before = held.map(|(_, manifest)| manifest.layers).unwrap_or_default();
        let mut held = before.clone();
        held.retain(|layer| self.envelope_about(layer, image).is_some());
        let (mut all, mut seen) = (join(held), BTreeSet::new());
        all.retain(|layer| seen.insert(layer.digest));
        all.truncate(MAX_ATTESTATIONS);
        if all == before {
            return Ok(());
        }
        let target = self.put_signature_manifest(all)?;
        documents::write(&note(self.attestations_dir(), image), &target)
    }

    /// The manifest of the attestations that are here, if it can be read.
    fn held_attestations(&self, image: &Digest) -> Result<Option<(Descriptor, Manifest)>, StoreError> {
        let path = note(self.attestations_dir(), image);
        let target = match documents::read::<Descriptor>(&path) {
            Ok(Some(target)) => target,
            Ok(None) | Err(StoreError::Malformed { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = self.blobs().read(&target.digest, &what(image), MAX_MANIFEST_LEN);
        let manifest = bytes
            .ok()
            .and_then(|bytes| parse::<Manifest>(&bytes, &what(image)).ok());
        Ok(manifest.map(|manifest| (target, manifest)))
    }

    /// The envelope, if it is here, whole, signed and about how `image` was built.
    fn envelope_about(&self, layer: &Descriptor, image: &Digest) -> Option<Envelope> {
        let (envelope, about) = self.envelope(layer)?;
        is_kept(&envelope, &about, image).then_some(envelope)
    }

    fn envelope(&self, layer: &Descriptor) -> Option<(Envelope, About)> {
        let bytes = self
            .blobs()
            .read(&layer.digest, ATTESTATION, MAX_ENVELOPE_LEN)
            .ok()?;
        let envelope: Envelope = parse(&bytes, ATTESTATION).ok()?;
        let about = envelope.about(ATTESTATION).ok()?;
        Some((envelope, about))
    }

    /// The images that a manifest of attestations is about.
    pub(crate) fn attested_images(&self, manifest: &Manifest) -> Vec<Digest> {
        let mut images: Vec<Digest> = candidates(manifest)
            .filter_map(|layer| self.envelope(layer))
            .flat_map(|(_, about)| about.subjects())
            .collect();
        images.sort_unstable();
        images.dedup();
        images
    }

    /// Adds what the attestations about `image` need.
    pub(crate) fn reach_attestations(
        &self,
        image: &Digest,
        reachable: &mut Reachable,
    ) -> Result<(), StoreError> {
        if let Some((target, manifest)) = self.held_attestations(image)? {
            let blobs = manifest.layers.iter().chain([&manifest.config, &target]);
            reachable.blobs.extend(blobs.map(|blob| blob.digest));
        }
        Ok(())
    }

    /// `ROOT/store/attestations`: what is attested -> the manifest of its attestations.
    pub(crate) fn attestations_dir(&self) -> PathBuf {
        self.store_dir().join("attestations")
    }

    /// `ROOT/store/provenance`: what was built here -> what was said about it then.
    pub(crate) fn provenance_dir(&self) -> PathBuf {
        self.store_dir().join("provenance")
    }
}

/// Whether it is signed, and about how `image` was built.
fn is_kept(envelope: &Envelope, about: &About, image: &Digest) -> bool {
    !envelope.signatures.is_empty()
        && about.predicate_type.starts_with(KEPT)
        && about.subjects().contains(image)
}

fn note(folder: PathBuf, image: &Digest) -> PathBuf {
    folder.join(format!("{}.json", image.hex()))
}

fn what(image: &Digest) -> String {
    format!("attestation about image {}", image.short())
}
