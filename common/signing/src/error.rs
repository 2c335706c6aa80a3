//! This module owns [`KeyError`]: why a text is no key, and what makes it one.

use crate::MAX_KEYS_OF_FILE;

/// Why a text is not a key that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no PEM in it.
    #[error("there is no PEM block in it")]
    NoPem,
    /// A public key where a private one is needed.
    #[error("it is a public key; signing needs the private one")]
    Public,
    /// A private key where a public one is needed.
    #[error("it is a private key; verifying needs the public one: openssl pkey -in FILE -pubout")]
    Private,
    /// cosign's own form of private keys.
    #[error(
        "it is a private key in cosign's own encrypted form, which is not read; keys are shared the other way round: \
         `gantry keys generate`, then `cosign import-key-pair --key FILE`"
    )]
    Cosign,
    /// PKCS#8 with a passphrase.
    #[error("it is encrypted; without a passphrase: openssl pkcs8 -in FILE -out NEW")]
    Encrypted,
    /// An older form of private keys.
    #[error("it is in an older form; as PKCS#8: openssl pkcs8 -topk8 -nocrypt -in FILE -out NEW")]
    OldForm,
    /// Another kind of PEM.
    #[error("its PEM block is {0:?}, which is no key")]
    OtherPem(String),
    /// Another algorithm, or damaged.
    #[error("it is neither an ECDSA key on the curve P-256 nor an Ed25519 key")]
    OtherAlgorithm,
    /// More keys than are read of one file.
    #[error("it has more than {MAX_KEYS_OF_FILE} keys")]
    TooMany,
    /// The source of random numbers failed.
    #[error("the kernel gives no random numbers")]
    NoRandomness,
}
