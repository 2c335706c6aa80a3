//! This module owns [`SnapshotCheck`]: whether what came is a whole snapshot of etcd; and [`SnapshotName`]: which one.
//!
//! A snapshot is etcd's database file, whose length is a multiple of 512 bytes, and the SHA-256 of it behind it. etcd adds
//! the digest itself, so a snapshot that was cut or changed on its way, or later in its file, is found out.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Digest;

/// Length of the digest behind the database, in bytes.
const DIGEST_LEN: usize = 32;
/// What the database's length is a multiple of, in bytes.
const SECTOR_LEN: u64 = 512;

/// Why bytes are no snapshot of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The end is missing, or it never was a snapshot.
    #[error("it is cut, or no snapshot: {0} bytes, which is no database with a digest behind it")]
    Length(u64),
    /// Something in it is not as etcd wrote it.
    #[error("it is damaged: its content does not have the digest that etcd wrote behind it")]
    Digest,
}

/// What the name of a snapshot begins with that is kept before a restore; a word follows that tells restores apart.
pub const BEFORE_RESTORE: &str = "restore-";

/// One of the snapshots on a control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotName {
    /// One that an operator gave, by the digest of its database.
    Given(Digest),
    /// One that was kept before something: a version the cluster was taken to, or `restore`.
    Before(String),
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(database) => write!(f, "given-{}", &database.hex()[..16]),
            Self::Before(before) => write!(f, "before-{before}"),
        }
    }
}

/// A snapshot that is being looked through.
#[derive(Debug, Clone, Default)]
pub struct SnapshotCheck {
    database: Sha256,
    /// The last bytes so far: the digest, once everything came.
    tail: Vec<u8>,
    len: u64,
}

impl SnapshotCheck {
    /// Takes the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        let surplus = self.tail.len().saturating_sub(DIGEST_LEN);
        self.database.update(&self.tail[..surplus]);
        self.tail.drain(..surplus);
    }

    /// Bytes that came so far.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing came so far.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The digest of the database, now that everything came.
    ///
    /// # Errors
    /// When it is not whole.
    pub fn finish(self) -> Result<Digest, SnapshotError> {
        let database = self.len.saturating_sub(DIGEST_LEN as u64);
        if database == 0 || !database.is_multiple_of(SECTOR_LEN) {
            return Err(SnapshotError::Length(self.len));
        }
        let digest = Digest::from_bytes(self.database.finalize().into());
        if digest.as_bytes() != self.tail.as_slice() {
            return Err(SnapshotError::Digest);
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Vec<u8> {
        let database: Vec<u8> = (0..4096_u32).map(|n| (n % 251) as u8).collect();
        let digest = Digest::of(&database);
        [&database[..], digest.as_bytes()].concat()
    }

    fn check(bytes: &[u8], piece: usize) -> Result<Digest, SnapshotError> {
        let mut check = SnapshotCheck::default();
        bytes.chunks(piece).for_each(|piece| check.add(piece));
        check.finish()
    }

    #[test]
    fn a_whole_snapshot_is_known_however_it_comes() {
        let snapshot = snapshot();
        for piece in [1, 7, 31, 32, 33, 4096, 10_000] {
            assert_eq!(
                check(&snapshot, piece),
                Ok(Digest::of(&snapshot[..4096])),
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_found_out() {
        let mut snapshot = snapshot();
        let whole = snapshot.len();
        assert_eq!(
            check(&snapshot[..whole - 1], 512),
            Err(SnapshotError::Length(whole as u64 - 1))
        );
        // Cut by whole sectors, the length alone says nothing.
        assert_eq!(check(&snapshot[..whole - 512], 512), Err(SnapshotError::Digest));
        snapshot[100] ^= 1;
        assert_eq!(check(&snapshot, 512), Err(SnapshotError::Digest));
        for nothing in [0, 5, 32] {
            assert_eq!(
                check(&snapshot[..nothing], 512),
                Err(SnapshotError::Length(nothing as u64))
            );
        }
    }
}
