//! This module owns [`Database`]: a snapshot of etcd, read without etcd.
//!
//! A snapshot is the file of a bbolt database (`pages`). In its bucket `key` etcd keeps every change of every key, by
//! revision (etcd.io, "Data model"); what a key held when the snapshot was taken is its last change there (`change`).
//! The file comes from outside: every number in it is held against the file before it is used.

mod change;
mod pages;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use change::Change;
use pages::Pages;

/// etcd's bucket of changes.
const KEYS: &[u8] = b"key";
/// Most keys: far more than any cluster has; each costs the memory of its name.
const MAX_KEYS: usize = 4 << 20;
/// Longest name of a key, in bytes. Kubernetes' own are far below.
const MAX_NAME_LEN: usize = 4096;
/// Largest value, in bytes: etcd takes requests up to 1.5 MiB unless told otherwise.
const MAX_VALUE_LEN: u64 = 32 << 20;

/// Why a file is no database of etcd.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The disk fails, or the file ends early.
    #[error("cannot read the snapshot: {0}")]
    Io(#[from] io::Error),
    /// What is in it makes no sense.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
    /// It is larger than a cluster's data can be.
    #[error("the snapshot has more than {0}")]
    TooMuch(String),
}

fn damaged<T>(what: impl Into<String>) -> Result<T, DatabaseError> {
    Err(DatabaseError::Damaged(what.into()))
}

/// Where a value stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    offset: u64,
    len: u64,
}

/// A snapshot that is read.
#[derive(Debug)]
pub struct Database {
    pages: Pages,
}

impl Database {
    /// The one in the file at `path`. Whoever opens it has compared it with its digest.
    ///
    /// # Errors
    /// When it is no database.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self {
            pages: Pages::open(path)?,
        })
    }

    /// Every key there was, and where its value stands. Keys with a lease (events, for one) are left out: they would end
    /// by themselves.
    ///
    /// # Errors
    /// When the database is damaged, or larger than a cluster's data can be.
    pub fn keys(&self) -> Result<BTreeMap<Vec<u8>, Place>, DatabaseError> {
        let mut keys = BTreeMap::new();
        self.pages.walk(KEYS, |revision, place| {
            match Change::read(revision, &self.pages.read(place)?)? {
                Change::Gone { key } => {
                    keys.remove(&key);
                }
                Change::Put {
                    key, leased: true, ..
                } => {
                    keys.remove(&key);
                }
                Change::Put { key, value, .. } => {
                    if key.len() > MAX_NAME_LEN {
                        return damaged(format!("a key of {} bytes", key.len()));
                    }
                    let value = Place {
                        offset: place.offset + value.start as u64,
                        len: value.len() as u64,
                    };
                    keys.insert(key, value);
                    if keys.len() > MAX_KEYS {
                        return Err(DatabaseError::TooMuch(format!("{MAX_KEYS} keys")));
                    }
                }
            }
            Ok(())
        })?;
        Ok(keys)
    }

    /// The value at `place`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn value(&self, place: Place) -> Result<Vec<u8>, DatabaseError> {
        self.pages.read(place)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// What etcd 3.4 handed out after these changes: 200 keys, a third of them changed, 51 removed and one of these set
    /// again; a value of several pages; a key with a lease; then old revisions compacted and the file defragmented.
    fn snapshot() -> Vec<u8> {
        zstd::decode_all(&include_bytes!("test-snapshot.zst")[..]).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<BTreeMap<String, String>, DatabaseError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        fs::write(&path, bytes).unwrap();
        let database = Database::open(&path)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let keys = database.keys()?.into_iter();
        keys.map(|(key, place)| Ok((text(key), text(database.value(place)?))))
            .collect()
    }

    #[test]
    fn every_key_is_what_it_was_when_the_snapshot_was_taken() {
        let keys = read(&snapshot()).unwrap();
        assert_eq!(keys.len(), 152);
        let pod = |name: &str| {
            keys.get(&format!("/registry/pods/default/pod-{name}"))
                .map(String::as_str)
        };
        assert_eq!(pod("001"), Some("pod 001, second version"));
        assert_eq!(pod("002"), Some("pod 002, first version"));
        assert_eq!(pod("110"), None, "it was removed");
        assert_eq!(pod("120"), Some("pod 120, back again"));
        assert_eq!(keys.get("/registry/events/default/one"), None, "it has a lease");
        let large = &keys["/registry/configmaps/default/large"];
        assert!(large.starts_with("large 0123456789abcdef") && large.len() > 24_000);
    }

    #[test]
    fn what_is_no_database_is_refused() {
        for odd in [&b""[..], b"no database", &[0; 16384]] {
            assert!(read(odd).is_err());
        }
        let whole = snapshot();
        // Without its end, pages are missing; without its first pages, nothing says where the others are.
        assert!(read(&whole[..whole.len() / 2]).is_err());
        assert!(read(&whole[8192..]).is_err());
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_another_value_and_never_the_end_of_the_agent(
            changes in prop::collection::vec((0_usize..73_760, any::<u8>()), 1..40)
        ) {
            let mut bytes = snapshot();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            let _ = read(&bytes);
        }
    }
}
