//! This module owns what an unfinished build has fetched: blobs that no image has yet, so that the build may go on from them.
//!
//! They live like the steps of such a build: until one of its name ends well, or `gantry prune`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use gantry_model::Digest;
use serde::{Deserialize, Serialize};

use crate::reachable::Reachable;
use crate::{Store, StoreError, documents};

/// What one unfinished build has fetched, or is about to.
#[derive(Debug, Serialize, Deserialize)]
struct Fetched {
    /// What is built.
    build: String,
    /// Blobs, here or not.
    blobs: BTreeSet<Digest>,
}

impl Store {
    /// Remembers that the build called `build` fetches these blobs, and forgets what it fetched before. Those that are here then stay.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn keep_fetched(&self, build: &str, blobs: BTreeSet<Digest>) -> Result<(), StoreError> {
        let build = build.to_owned();
        documents::write(&self.fetched_path(&build), &Fetched { build, blobs })
    }

    /// Forgets what the build called `build` fetched.
    pub(crate) fn forget_fetched(&self, build: &str) -> Result<(), StoreError> {
        gone(&self.fetched_path(build))
    }

    /// Forgets what every build fetched.
    pub(crate) fn forget_all_fetched(&self) -> Result<(), StoreError> {
        self.fetched_notes().iter().try_for_each(gone)
    }

    /// Adds what unfinished builds have fetched.
    pub(crate) fn reach_fetched(&self, reachable: &mut Reachable) -> Result<(), StoreError> {
        for path in self.fetched_notes() {
            match documents::read::<Fetched>(&path) {
                Ok(fetched) => reachable
                    .blobs
                    .extend(fetched.into_iter().flat_map(|one| one.blobs)),
                // Damaged: it is worth nothing.
                Err(_) => gone(&path)?,
            }
        }
        Ok(())
    }

    fn fetched_notes(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.fetched_dir()).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
            .collect()
    }

    fn fetched_path(&self, build: &str) -> PathBuf {
        self.fetched_dir()
            .join(format!("{}.json", Digest::of(build.as_bytes()).hex()))
    }

    fn fetched_dir(&self) -> PathBuf {
        self.store_dir().join("build-fetched")
    }
}

fn gone(path: &PathBuf) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn what_a_build_fetched_stays_until_it_ends_well_or_is_pruned() {
        let test = testing::store();
        let store = &test.store;
        let fetch = |build: &str, content: &str| {
            let digest = store.blobs().put_bytes(content.as_bytes()).unwrap();
            store.keep_fetched(build, [digest].into()).unwrap();
            digest
        };
        let (first, other) = (fetch("a:1", "first"), fetch("b:1", "other"));
        store.end_build("a:1", &BTreeSet::new(), false).unwrap();
        assert_eq!(store.sweep([]).unwrap().blobs, []);
        // The same build wants something else by now.
        let second = fetch("a:1", "second");
        assert_eq!(store.sweep([]).unwrap().blobs, [first]);
        store.end_build("a:1", &BTreeSet::new(), true).unwrap();
        assert_eq!(store.sweep([]).unwrap().blobs, [second]);
        assert_eq!(store.prune([]).unwrap().blobs, [other]);
        assert_eq!(store.fetched_notes(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_damaged_note_keeps_nothing() {
        let test = testing::store();
        test.store.keep_fetched("a:1", BTreeSet::new()).unwrap();
        fs::write(test.store.fetched_path("a:1"), "{").unwrap();
        test.store.sweep([]).unwrap();
        assert_eq!(test.store.fetched_notes(), Vec::<PathBuf>::new());
    }
}
