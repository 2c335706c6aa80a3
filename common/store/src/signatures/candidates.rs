//! What in a manifest of signatures may be one. Whoever may write to a repository may write anything there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_model::{Digest, ImageSignature, SignedPayload};

use super::{ANNOTATION_SIGNATURE, MEDIA_TYPE_PAYLOAD};
use crate::manifest::Manifest;
use crate::{Descriptor, Store, StoreError};

/// Most entries of one manifest that are looked at: some times as many as are kept.
pub const MAX_CANDIDATES: usize = 4 * ImageSignature::MAX_SIGNATURES;

/// A signature, and the entry of a manifest that it stands in.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) layer: Descriptor,
    pub(super) signature: ImageSignature,
}

/// The same signature over the same payload, whatever others wrote beside it.
impl PartialEq for Signed {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

/// The entries that may be signatures, by what they say of themselves.
pub fn candidates(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    let layers = manifest.layers.iter();
    layers
        .filter(|layer| signature_of(layer).is_some())
        .take(MAX_CANDIDATES)
}

/// The signature that an entry of a manifest has, without what it is over.
fn signature_of(layer: &Descriptor) -> Option<Vec<u8>> {
    if layer.media_type != MEDIA_TYPE_PAYLOAD || layer.size > ImageSignature::MAX_PAYLOAD_LEN {
        return None;
    }
    let text = layer.annotations.get(ANNOTATION_SIGNATURE)?;
    // Four characters are three bytes.
    if text.len() > ImageSignature::MAX_SIGNATURE_LEN / 3 * 4 + 4 {
        return None;
    }
    let signature = STANDARD.decode(text).ok()?;
    (signature.len() <= ImageSignature::MAX_SIGNATURE_LEN).then_some(signature)
}

impl Signed {
    /// Whether its payload says that it is over `image`.
    pub(super) fn is_over(&self, image: &Digest) -> bool {
        SignedPayload::parse(&self.signature.payload).is_ok_and(|signed| signed.image == *image)
    }
}

/// The signature that an entry is; none when it is something else, or its payload is not here.
pub(super) fn read_candidate(store: &Store, layer: &Descriptor) -> Result<Option<Signed>, StoreError> {
    let Some(signature) = signature_of(layer) else {
        return Ok(None);
    };
    let payload = payload(store, layer)?;
    Ok(payload.map(|payload| Signed {
        layer: layer.clone(),
        signature: ImageSignature { payload, signature },
    }))
}

/// The image that an entry says it is a signature over.
pub(super) fn image_of(store: &Store, layer: &Descriptor) -> Result<Option<Digest>, StoreError> {
    let payload = payload(store, layer)?;
    let signed = payload.and_then(|payload| SignedPayload::parse(&payload).ok());
    Ok(signed.map(|signed| signed.image))
}

/// The payload, whole; none when it is not here, damaged, or not as long as its entry says.
fn payload(store: &Store, layer: &Descriptor) -> Result<Option<Vec<u8>>, StoreError> {
    let read = store.blobs().read(
        &layer.digest,
        "payload of a signature",
        ImageSignature::MAX_PAYLOAD_LEN,
    );
    let payload = or_damaged(read)?;
    Ok(payload.filter(|payload| payload.len() as u64 == layer.size))
}

/// None in the place of what is missing or damaged.
pub(super) fn or_damaged<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(
            StoreError::MissingBlob { .. }
            | StoreError::WrongDigest { .. }
            | StoreError::WrongSize { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Malformed { .. },
        ) => Ok(None),
        Err(error) => Err(error),
    }
}
