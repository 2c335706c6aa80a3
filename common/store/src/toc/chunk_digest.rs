//! This module owns [`ChunkDigest`]: by what a chunk is known and verified.
//!
//! Every chunk has a SHA-256 in the table of contents, for the readers of the `zstd:chunked` format. Where a chunk is
//! large enough for it to pay, Gantry's layers carry a BLAKE3 digest beside it, and then that one counts: it takes
//! half the time of SHA-256 where processors have instructions for SHA, and a fifth to a tenth where they have not,
//! as on most servers built before 2021. Both are in the same table, whose own SHA-256 is in the manifest.

use std::fmt;
use std::str::FromStr;

use gantry_model::Digest;
use sha2::{Digest as _, Sha256};

/// From this many bytes on a chunk gets a BLAKE3 digest: smaller ones do not fill its wide instructions.
pub(crate) const BLAKE3_FROM: usize = 64 << 10;

/// The digest of a chunk's uncompressed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkDigest {
    /// What every `zstd:chunked` layer has.
    Sha256(Digest),
    /// What large chunks of Gantry's layers have as well.
    Blake3(Blake3),
}

/// A BLAKE3 digest of 32 bytes, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blake3([u8; 32]);

impl ChunkDigest {
    /// The digest of the same kind of `pieces`, one after the other.
    #[must_use]
    pub fn same_kind_of<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        match self {
            Self::Sha256(_) => {
                let mut hasher = Sha256::new();
                pieces.into_iter().for_each(|piece| hasher.update(piece));
                Self::Sha256(Digest::from_bytes(hasher.finalize().into()))
            }
            Self::Blake3(_) => {
                let mut hasher = blake3::Hasher::new();
                pieces.into_iter().for_each(|piece| {
                    hasher.update(piece);
                });
                Self::Blake3(Blake3(hasher.finalize().into()))
            }
        }
    }

    /// Whether `bytes` are those of the chunk.
    #[must_use]
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        self.same_kind_of([bytes]) == *self
    }

    /// The raw bytes, which say nothing without the kind.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        match self {
            Self::Sha256(digest) => digest.as_bytes(),
            Self::Blake3(Blake3(bytes)) => bytes,
        }
    }
}

impl Blake3 {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }
}

impl FromStr for Blake3 {
    type Err = blake3::HexError;

    fn from_str(hex: &str) -> Result<Self, Self::Err> {
        Ok(Self(blake3::Hash::from_hex(hex)?.into()))
    }
}

impl fmt::Display for Blake3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from(self.0).to_hex())
    }
}

impl fmt::Debug for Blake3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ChunkDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(f),
            Self::Blake3(digest) => write!(f, "blake3:{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_know_their_bytes_however_they_come_in_pieces() {
        let bytes = [7; 100_000];
        for digest in [
            ChunkDigest::Sha256(Digest::of(&bytes)),
            ChunkDigest::Blake3(Blake3::of(&bytes)),
        ] {
            assert!(digest.is_of(&bytes));
            assert!(!digest.is_of(&bytes[1..]));
            assert_eq!(digest.same_kind_of(bytes.chunks(999)), digest);
        }
    }

    /// The first test vector of the BLAKE3 reference (`test_vectors.json`): no input.
    #[test]
    fn blake3_is_what_others_compute() {
        let nothing = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Blake3::of(b"").to_string(), nothing);
        assert_eq!(nothing.parse::<Blake3>().unwrap(), Blake3::of(b""));
        assert!("af13".parse::<Blake3>().is_err());
    }
}
