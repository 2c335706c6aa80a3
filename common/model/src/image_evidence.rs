//! This module owns [`ImageEvidence`]: what whoever uses an image is shown, to decide by a policy of its own.

use serde::{Deserialize, Serialize};

use crate::{Digest, ImageReference, ImageSignature};

/// An image for one platform, with everything that speaks for it. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEvidence {
    /// The name it is used by.
    pub name: ImageReference,
    /// Its manifest; the digest of these bytes is the image.
    pub manifest: Vec<u8>,
    /// The index that names the manifest, where it came in one: whoever signed that signed what it names.
    pub index: Option<Vec<u8>>,
    /// Signatures over either.
    pub signatures: Vec<ImageSignature>,
}

impl ImageEvidence {
    /// Most signatures: those over the manifest, and those over the index.
    pub const MAX_SIGNATURES: usize = 2 * ImageSignature::MAX_SIGNATURES;

    /// Most bytes of signatures, with their payloads, that are shown of an image: a quarter of a message, and room for some hundred.
    pub const MAX_SIGNATURE_BYTES: usize = 256 << 10;

    /// Digest of its manifest.
    #[must_use]
    pub fn image(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Whether it is within bounds.
    ///
    /// # Errors
    /// What is too much of it.
    pub fn check(&self) -> Result<(), String> {
        let count = self.signatures.len();
        if count > Self::MAX_SIGNATURES {
            return Err(format!(
                "there are {count} signatures, more than the {} that are accepted",
                Self::MAX_SIGNATURES
            ));
        }
        let too_long = |one: &ImageSignature| {
            one.payload.len() as u64 > ImageSignature::MAX_PAYLOAD_LEN
                || one.signature.len() > ImageSignature::MAX_SIGNATURE_LEN
        };
        if self.signatures.iter().any(too_long) {
            return Err("one of the signatures is longer than any is".to_owned());
        }
        Ok(())
    }
}
