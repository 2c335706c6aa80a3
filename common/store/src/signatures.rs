//! This module owns signatures over images, as cosign keeps them in registries: a manifest of its own per image that was signed,
//! whose layers are the payloads, with the signature over each in an annotation (sigstore/cosign `specs/SIGNATURE_SPEC.md`).
//!
//! A signature belongs to a digest, not to a name: it is kept as long as the store has that manifest or index, and goes
//! wherever it goes. Manifests of signatures that came stay as they came, with what they hold beyond key pairs. Those that are for this
//! machine's own hosts go nowhere else.

mod candidates;
mod held;
mod own;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_model::{Digest, ImageSignature};

use crate::images::parse;
use crate::manifest::{MEDIA_TYPE_CONFIG, MEDIA_TYPE_MANIFEST, Manifest};
use crate::reachable::Reachable;
use crate::{Descriptor, ImageConfig, Store, StoreError, StoreLock, documents};

pub use candidates::{MAX_CANDIDATES, candidates};
use candidates::{Signed, read_candidate};

/// Media type of a payload.
pub const MEDIA_TYPE_PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Annotation of a payload: the signature over it, in base64.
pub const ANNOTATION_SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Most bytes of the config of a manifest of signatures: it says nothing but the payloads' digests.
pub const MAX_CONFIG_LEN: u64 = 64 << 10;

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureKind {
    /// The image itself.
    Image,
    /// Statements about it; see [`crate::attestations`].
    Attestation,
}

/// The signatures of one image, or statements about it, as an OCI image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureContents {
    /// Digest of what was signed.
    pub image: Digest,
    /// Which of the two.
    pub kind: SignatureKind,
    /// The manifest of the signatures.
    pub manifest: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its config and the payloads.
    pub blobs: Vec<Descriptor>,
}

impl SignatureContents {
    /// The tag that they have in the image's repository.
    #[must_use]
    pub fn tag(&self) -> String {
        self.kind.tag(&self.image)
    }
}

impl SignatureKind {
    /// The tag that what is signed of `image` has in its repository.
    #[must_use]
    pub fn tag(self, image: &Digest) -> String {
        let ending = match self {
            Self::Image => "sig",
            Self::Attestation => "att",
        };
        format!("sha256-{}.{ending}", image.hex())
    }
}

/// Whether a manifest is one of signatures.
#[must_use]
pub fn is_of_signatures(manifest: &Manifest) -> bool {
    let of_payloads = |layer: &Descriptor| layer.media_type == MEDIA_TYPE_PAYLOAD;
    !manifest.layers.is_empty() && manifest.layers.iter().all(of_payloads)
}

impl Store {
    /// The signatures over the manifest or index with this digest, own ones first. They are not verified. What is damaged of them
    /// counts as not being there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn signatures(&self, image: &Digest) -> Result<Vec<ImageSignature>, StoreError> {
        let mut all = self.own_signatures(image)?;
        let held = self.held_signatures(image)?;
        all.extend(held.readable.into_iter().map(|one| one.signature));
        Ok(all)
    }

    /// What is wrong with the signatures over the manifest or index with this digest, if something is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn signature_damage(&self, image: &Digest) -> Result<Option<String>, StoreError> {
        Ok(self.held_signatures(image)?.damage)
    }

    /// The signatures over the manifest or index with this digest that go wherever it goes, as documents and blobs; none where
    /// there are none, or where they are damaged.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn signature_contents(&self, image: &Digest) -> Result<Option<SignatureContents>, StoreError> {
        let held = self.held_signatures(image)?;
        Ok(held.contents(*image))
    }

    /// Adds a signature to those over the manifest or index with this digest, which is in the store.
    ///
    /// # Errors
    /// When there would be too many, and none is by a key that the guard does not know; when the store cannot be written.
    pub fn add_signature(&self, image: &Digest, signature: &ImageSignature) -> Result<(), StoreError> {
        let _nothing_vanishes = self.share()?;
        let layer = Descriptor {
            media_type: MEDIA_TYPE_PAYLOAD.to_owned(),
            digest: self.blobs().put_bytes(&signature.payload)?,
            size: signature.payload.len() as u64,
            platform: None,
            annotations: BTreeMap::from([(
                ANNOTATION_SIGNATURE.to_owned(),
                STANDARD.encode(&signature.signature),
            )]),
        };
        let signature = signature.clone();
        self.join_signatures(image, vec![Signed { layer, signature }], Arrived::Own)
    }

    /// Adds what the manifest `bytes` that came has of signatures over `image` to those that are here. Its payloads are in the
    /// store, as far as they could be had.
    ///
    /// Everybody who may write to a repository may write this manifest: what in it is no signature over this image is passed over,
    /// and where there are too many, those by keys that the guard knows are kept.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn add_signature_manifest(&self, image: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let _nothing_vanishes = self.share()?;
        let Ok(manifest) = parse::<Manifest>(bytes, &what(image)) else {
            return Ok(());
        };
        let mut more = Vec::new();
        for layer in candidates(&manifest) {
            more.extend(read_candidate(self, layer)?.filter(|one| one.is_over(image)));
        }
        let is_whole = more.len() == manifest.layers.len() && self.has_config(&manifest)?;
        let arrived = if is_whole {
            Arrived::Whole(bytes)
        } else {
            Arrived::InPart
        };
        self.join_signatures(image, more, arrived)
    }

    /// The digests of the images that a manifest of signatures is about.
    pub(crate) fn signed_images(&self, manifest: &Manifest) -> Result<Vec<Digest>, StoreError> {
        let mut images = Vec::new();
        for layer in candidates(manifest) {
            images.extend(candidates::image_of(self, layer)?);
        }
        images.sort_unstable();
        images.dedup();
        Ok(images)
    }

    /// Makes `more` part of the signatures over `image`. Where they are all there is, their manifest stays as it came.
    fn join_signatures(
        &self,
        image: &Digest,
        more: Vec<Signed>,
        arrived: Arrived<'_>,
    ) -> Result<(), StoreError> {
        let _alone = StoreLock::exclusive(&self.store_dir().join("images.lock"))?;
        let present = self.held_signatures(image)?.readable;
        if more.iter().all(|one| present.contains(one)) {
            return Ok(());
        }
        let all_there_is = present.iter().all(|one| more.contains(one));
        let target = match arrived {
            Arrived::Whole(bytes) if all_there_is && more.len() <= ImageSignature::MAX_SIGNATURES => {
                Descriptor {
                    media_type: parse::<Manifest>(bytes, &what(image))?.media_type_or_oci(),
                    digest: self.blobs().put_bytes(bytes)?,
                    size: bytes.len() as u64,
                    platform: None,
                    annotations: BTreeMap::new(),
                }
            }
            arrived => {
                let own = matches!(arrived, Arrived::Own).then(|| more.clone());
                let mut all = present;
                for one in more {
                    if !all.contains(&one) {
                        all.push(one);
                    }
                }
                let kept = self.kept(image, all, own.as_deref())?;
                self.put_signature_manifest(kept.into_iter().map(|one| one.layer).collect())?
            }
        };
        documents::write(&self.signatures_path(image), &target)
    }

    /// Those of `all` that there is room for: the ones in `own`, then those by keys that the guard knows, in their order.
    fn kept(
        &self,
        image: &Digest,
        all: Vec<Signed>,
        own: Option<&[Signed]>,
    ) -> Result<Vec<Signed>, StoreError> {
        let limit = ImageSignature::MAX_SIGNATURES;
        if all.len() <= limit {
            return Ok(all);
        }
        let known = self.known_signatures(image, all.iter().map(|one| &one.signature));
        if own.is_some() && known.iter().all(|known| *known) {
            let count = all.len();
            let reason = format!("there are {count}, more than the {limit} that are accepted");
            return Err(StoreError::malformed(what(image), reason));
        }
        let is_own = |one: &Signed| own.is_some_and(|own| own.contains(one));
        let mut weighed: Vec<(bool, Signed)> = known.into_iter().zip(all).collect();
        // Stable: among equals, who was first stays.
        weighed.sort_by_key(|(known, one)| (!is_own(one), !known));
        weighed.truncate(limit);
        Ok(weighed.into_iter().map(|(_, one)| one).collect())
    }

    /// Stores a manifest of these payloads, with the config that cosign gives it.
    pub(crate) fn put_signature_manifest(&self, layers: Vec<Descriptor>) -> Result<Descriptor, StoreError> {
        let mut config = ImageConfig::default();
        config.rootfs.kind = "layers".to_owned();
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.digest).collect();
        let config = serde_json::to_vec(&config).expect("a config is plain data");
        self.put_manifest(&Manifest {
            schema_version: 2,
            media_type: MEDIA_TYPE_MANIFEST.to_owned(),
            config: Descriptor {
                media_type: MEDIA_TYPE_CONFIG.to_owned(),
                digest: self.blobs().put_bytes(&config)?,
                size: config.len() as u64,
                platform: None,
                annotations: BTreeMap::new(),
            },
            layers,
            annotations: BTreeMap::new(),
        })
    }

    /// Adds what the signatures over `image` need.
    pub(crate) fn reach_signatures(
        &self,
        image: &Digest,
        reachable: &mut Reachable,
    ) -> Result<(), StoreError> {
        // Of what is damaged, what can be read: a removal must not take it for nobody's.
        reachable.blobs.extend(self.held_signatures(image)?.blobs());
        Ok(())
    }

    /// `ROOT/store/signatures`: what was signed -> the manifest of its signatures.
    pub(crate) fn signatures_dir(&self) -> PathBuf {
        self.store_dir().join("signatures")
    }

    fn signatures_path(&self, image: &Digest) -> PathBuf {
        self.signatures_dir().join(format!("{}.json", image.hex()))
    }
}

/// Where signatures come from.
#[derive(Clone, Copy)]
enum Arrived<'a> {
    /// From this machine.
    Own,
    /// In this manifest, which has nothing else.
    Whole(&'a [u8]),
    /// In a manifest that has other things, or things that could not be had.
    InPart,
}

fn what(image: &Digest) -> String {
    format!("signatures over image {}", image.short())
}
