//! Signatures over images, as cosign makes them with a pair of keys: made and verified here, without a transparency log
//! and without a network.
//!
//! - [`SigningKey`]: a private key, ECDSA on P-256 or Ed25519, from PKCS#8
//! - [`VerificationKey`]: its public half, from SubjectPublicKeyInfo
//! - [`Policy`]: which images are accepted, by their names and by whose signatures
//!
//! What is signed is in [`gantry_model::SignedPayload`], where signatures lie in `gantry-store`.

mod error;
mod policy;
mod signing_key;
mod verification_key;

pub use error::KeyError;
pub use policy::{
    Accepted, DEFAULT_POLICY_PATH, HOST_KEYS_PATH, MAX_POLICY_LEN, Policy, PolicyError, Rejection,
    is_signed_as,
};
pub use signing_key::{KeyKind, SigningKey};
pub use verification_key::{NotVerified, VerificationKey};

/// Most bytes of a key file: a key, and what people write around it.
pub const MAX_KEY_FILE_LEN: u64 = 64 << 10;
/// Most public keys of one file: each is tried on every signature of an image.
pub const MAX_KEYS_OF_FILE: usize = 16;
