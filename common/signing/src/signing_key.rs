//! This module owns [`SigningKey`]: the private half of a pair of keys.

use std::fmt;
use std::str::FromStr;

use gantry_model::{Digest, ImageSignature, SignedPayload};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

use crate::{KeyError, VerificationKey};

/// The algorithm of a pair of keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256 with SHA-256, which is what cosign makes.
    #[default]
    EcdsaP256,
    /// Ed25519.
    Ed25519,
}

/// A private key. It is shown nowhere: `Debug` gives its public half.
pub struct SigningKey {
    pair: Pair,
}

enum Pair {
    EcdsaP256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// What stands before the 32 bytes of an Ed25519 key in PKCS#8, version 1 (RFC 8410 §7): the form that every OpenSSL reads.
const ED25519_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

impl SigningKey {
    /// Makes a key. Gives it, and its text: PKCS#8 in PEM.
    ///
    /// # Errors
    /// When the kernel gives no random numbers.
    pub fn generate(kind: KeyKind) -> Result<(Self, String), KeyError> {
        let random = SystemRandom::new();
        let der = match kind {
            KeyKind::EcdsaP256 => {
                let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
                document.map_err(|_| KeyError::NoRandomness)?.as_ref().to_vec()
            }
            KeyKind::Ed25519 => {
                let mut seed = [0; 32];
                random.fill(&mut seed).map_err(|_| KeyError::NoRandomness)?;
                [ED25519_PREFIX.as_slice(), &seed].concat()
            }
        };
        let key = Self::from_pkcs8(&der)?;
        Ok((key, crate::verification_key::to_pem("PRIVATE KEY", der)))
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random) {
            return Ok(Self {
                pair: Pair::EcdsaP256(pair),
            });
        }
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| KeyError::OtherAlgorithm)?;
        Ok(Self {
            pair: Pair::Ed25519(pair),
        })
    }

    /// Its public half.
    ///
    /// # Panics
    /// Never: the public half of a key has the form that is expected of it.
    #[must_use]
    pub fn verification_key(&self) -> VerificationKey {
        match &self.pair {
            Pair::EcdsaP256(pair) => {
                VerificationKey::of_point(KeyKind::EcdsaP256, pair.public_key().as_ref())
            }
            Pair::Ed25519(pair) => VerificationKey::of_point(KeyKind::Ed25519, pair.public_key().as_ref()),
        }
    }

    /// Signs `image`, as an image of the repository `identity`.
    ///
    /// # Errors
    /// When the kernel gives no random numbers.
    pub fn sign(&self, image: Digest, identity: &str) -> Result<ImageSignature, KeyError> {
        self.sign_payload(&SignedPayload {
            image,
            identity: identity.to_owned(),
            layers: None,
        })
    }

    /// Signs what `payload` says of an image.
    ///
    /// # Errors
    /// When the kernel gives no random numbers.
    pub fn sign_payload(&self, payload: &SignedPayload) -> Result<ImageSignature, KeyError> {
        let payload = payload.to_bytes();
        let signature = self.sign_bytes(&payload)?;
        Ok(ImageSignature { payload, signature })
    }

    /// Signs bytes whose form says what they are for: the envelope of a statement.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn sign_bytes(&self, bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(match &self.pair {
            Pair::EcdsaP256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), bytes);
                signature.map_err(|_| KeyError::NoRandomness)?.as_ref().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(bytes).as_ref().to_vec(),
        })
    }
}

/// Reads the first private key of a PEM text.
impl FromStr for SigningKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let blocks = pem::parse_many(text).map_err(|_| KeyError::NoPem)?;
        // OpenSSL writes the curve before a key of the older form.
        let block = blocks
            .iter()
            .find(|block| block.tag() != "EC PARAMETERS")
            .ok_or(KeyError::NoPem)?;
        match block.tag() {
            "PRIVATE KEY" => Self::from_pkcs8(block.contents()),
            "EC PRIVATE KEY" | "RSA PRIVATE KEY" => Err(KeyError::OldForm),
            "ENCRYPTED PRIVATE KEY" => Err(KeyError::Encrypted),
            "ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY" => Err(KeyError::Cosign),
            "PUBLIC KEY" => Err(KeyError::Public),
            other => Err(KeyError::OtherPem(other.to_owned())),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.verification_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_is_not_shown() {
        for kind in [KeyKind::EcdsaP256, KeyKind::Ed25519] {
            let (key, text) = SigningKey::generate(kind).unwrap();
            let again: SigningKey = text.parse().unwrap();
            assert_eq!(again.verification_key(), key.verification_key());
            let secret = text.lines().nth(1).unwrap();
            assert!(!format!("{key:?}").contains(secret));
        }
    }

    #[test]
    fn what_is_no_private_key_says_what_makes_it_one() {
        let (key, _) = SigningKey::generate(KeyKind::Ed25519).unwrap();
        let public = key.verification_key().to_pem();
        let block = |tag: &str| public.replace("PUBLIC KEY", tag);
        for (text, error) in [
            ("not a key", KeyError::NoPem),
            (&public, KeyError::Public),
            (&block("ENCRYPTED SIGSTORE PRIVATE KEY"), KeyError::Cosign),
            (&block("ENCRYPTED PRIVATE KEY"), KeyError::Encrypted),
            (&block("EC PRIVATE KEY"), KeyError::OldForm),
            (
                &block("CERTIFICATE"),
                KeyError::OtherPem("CERTIFICATE".to_owned()),
            ),
            (&block("PRIVATE KEY"), KeyError::OtherAlgorithm),
        ] {
            assert_eq!(text.parse::<SigningKey>().unwrap_err(), error, "{text}");
        }
    }
}
