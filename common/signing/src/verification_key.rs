//! This module owns [`VerificationKey`]: the public half of a pair of keys.

use std::fmt;
use std::str::FromStr;

use gantry_model::{Digest, ImageSignature, PayloadError, SignedPayload};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};

use crate::{KeyError, KeyKind, MAX_KEYS_OF_FILE};

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct VerificationKey {
    kind: KeyKind,
    /// P-256: the uncompressed point, 65 bytes (SEC 1 §2.3.3); Ed25519: 32 bytes.
    point: Vec<u8>,
}

/// Why a signature is not one over an image by a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// Another key made it, or its payload was changed.
    #[error("it is not by this key, or its payload was changed")]
    Signature,
    /// It is by the key, but over something else.
    #[error("it is over another image, {0}")]
    OtherImage(Digest),
    /// It is by the key, and what was signed is not understood.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// SubjectPublicKeyInfo up to the point: an elliptic curve, namely P-256 (RFC 5480 §2).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Bytes of an uncompressed point of P-256.
const P256_POINT_LEN: usize = 65;
/// The same for Ed25519 (RFC 8410 §4).
const ED25519_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// Bytes of a public key of Ed25519.
const ED25519_POINT_LEN: usize = 32;

impl VerificationKey {
    pub(crate) fn of_point(kind: KeyKind, point: &[u8]) -> Self {
        Self {
            kind,
            point: point.to_vec(),
        }
    }

    /// Whether `signature` is by this key and over these bytes.
    #[must_use]
    pub fn is_signature(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.kind {
            KeyKind::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
            KeyKind::Ed25519 => &ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.point)
            .verify(bytes, signature)
            .is_ok()
    }

    /// Whether `signature` is by this key and over `image`: then what its payload says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, image: &Digest, signature: &ImageSignature) -> Result<SignedPayload, NotVerified> {
        // Nothing of the payload is read before it is known whose it is.
        if !self.is_signature(&signature.payload, &signature.signature) {
            return Err(NotVerified::Signature);
        }
        let payload = SignedPayload::parse(&signature.payload)?;
        if payload.image == *image {
            Ok(payload)
        } else {
            Err(NotVerified::OtherImage(payload.image))
        }
    }

    /// The keys of a PEM text, one at least; what people write around them is passed over.
    ///
    /// # Errors
    /// When there is none, something else, or more than [`MAX_KEYS_OF_FILE`].
    pub fn parse_all(text: &str) -> Result<Vec<Self>, KeyError> {
        let blocks = pem::parse_many(text).map_err(|_| KeyError::NoPem)?;
        match blocks.len() {
            0 => Err(KeyError::NoPem),
            count if count > MAX_KEYS_OF_FILE => Err(KeyError::TooMany),
            _ => blocks.iter().map(Self::of_block).collect(),
        }
    }

    fn of_block(block: &pem::Pem) -> Result<Self, KeyError> {
        match block.tag() {
            "PUBLIC KEY" => {}
            tag if tag.ends_with("PRIVATE KEY") => return Err(KeyError::Private),
            other => return Err(KeyError::OtherPem(other.to_owned())),
        }
        let der = block.contents();
        let known = [
            (KeyKind::EcdsaP256, P256_PREFIX.as_slice(), P256_POINT_LEN),
            (KeyKind::Ed25519, ED25519_PREFIX.as_slice(), ED25519_POINT_LEN),
        ];
        known
            .into_iter()
            .find_map(|(kind, prefix, len)| {
                let point = der.strip_prefix(prefix)?;
                (point.len() == len).then(|| Self::of_point(kind, point))
            })
            .ok_or(KeyError::OtherAlgorithm)
    }

    /// SubjectPublicKeyInfo in PEM, what cosign calls `cosign.pub`.
    #[must_use]
    pub fn to_pem(&self) -> String {
        to_pem("PUBLIC KEY", self.to_der())
    }

    fn to_der(&self) -> Vec<u8> {
        match self.kind {
            KeyKind::EcdsaP256 => [P256_PREFIX.as_slice(), &self.point].concat(),
            KeyKind::Ed25519 => [ED25519_PREFIX.as_slice(), &self.point].concat(),
        }
    }

    /// What people compare: the digest of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.to_der())
    }
}

pub(crate) fn to_pem(tag: &str, der: Vec<u8>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), config)
}

/// Reads a PEM text with one public key in it.
impl FromStr for VerificationKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let blocks = pem::parse_many(text).map_err(|_| KeyError::NoPem)?;
        Self::of_block(blocks.first().ok_or(KeyError::NoPem)?)
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    const KINDS: [KeyKind; 2] = [KeyKind::EcdsaP256, KeyKind::Ed25519];

    #[test]
    fn a_signature_holds_for_its_key_and_its_image_alone() {
        let image = Digest::of(b"manifest");
        for kind in KINDS {
            let (key, _) = SigningKey::generate(kind).unwrap();
            let (other, _) = SigningKey::generate(kind).unwrap();
            let signature = key.sign(image, "hub/demo").unwrap();
            let public: VerificationKey = key.verification_key().to_pem().parse().unwrap();
            assert_eq!(public.verify(&image, &signature).unwrap().identity, "hub/demo");
            assert_eq!(
                other.verification_key().verify(&image, &signature),
                Err(NotVerified::Signature)
            );
            assert_eq!(
                public.verify(&Digest::of(b"other"), &signature),
                Err(NotVerified::OtherImage(image))
            );
        }
    }

    #[test]
    fn a_file_may_have_several_keys_and_what_people_write_around_them() {
        let keys: Vec<VerificationKey> = (0..=MAX_KEYS_OF_FILE)
            .map(|_| {
                SigningKey::generate(KeyKind::Ed25519)
                    .unwrap()
                    .0
                    .verification_key()
            })
            .collect();
        let text = |keys: &[VerificationKey]| -> String {
            let texts = keys.iter().map(|key| format!("Operator: ann\n{}", key.to_pem()));
            texts.collect()
        };
        let most = &keys[..MAX_KEYS_OF_FILE];
        assert_eq!(VerificationKey::parse_all(&text(most)).unwrap(), most);
        assert_eq!(VerificationKey::parse_all(&text(&keys)), Err(KeyError::TooMany));
        assert_eq!(VerificationKey::parse_all("Operator: ann"), Err(KeyError::NoPem));
        let other = text(&keys[..2]).replace("PUBLIC KEY", "CERTIFICATE");
        assert_eq!(
            VerificationKey::parse_all(&other),
            Err(KeyError::OtherPem("CERTIFICATE".to_owned()))
        );
    }

    #[test]
    fn no_byte_of_a_signature_or_its_payload_can_be_changed() {
        let image = Digest::of(b"manifest");
        for kind in KINDS {
            let (key, _) = SigningKey::generate(kind).unwrap();
            let good = key.sign(image, "hub/demo").unwrap();
            let public = key.verification_key();
            for at in 0..good.payload.len() {
                let mut bad = good.clone();
                bad.payload[at] ^= 1;
                assert_eq!(public.verify(&image, &bad), Err(NotVerified::Signature), "{at}");
            }
            for at in 0..good.signature.len() {
                let mut bad = good.clone();
                bad.signature[at] ^= 1;
                assert_eq!(public.verify(&image, &bad), Err(NotVerified::Signature), "{at}");
            }
        }
    }

    #[test]
    fn keys_of_other_kinds_are_named() {
        let (key, private) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        assert_eq!(private.parse::<VerificationKey>(), Err(KeyError::Private));
        let mut der = key.verification_key().to_der();
        der.push(0);
        let longer = to_pem("PUBLIC KEY", der);
        assert_eq!(longer.parse::<VerificationKey>(), Err(KeyError::OtherAlgorithm));
    }
}
