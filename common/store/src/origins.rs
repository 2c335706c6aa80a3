//! This module owns which repositories are known to hold a blob: from there a registry can take it without its being
//! sent again (OCI distribution-spec, "Mounting a blob from another repository").

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use gantry_model::Digest;

use crate::{Store, StoreError, StoreLock, documents};

/// Most repositories that are remembered of one blob.
const MAX_ORIGINS: usize = 8;

/// `origins.json`: what is known of each blob, `REGISTRY/REPOSITORY`.
type Origins = BTreeMap<Digest, BTreeSet<String>>;

impl Store {
    /// Repositories that held the blob, `REGISTRY/REPOSITORY`. They may have lost it since.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn origins(&self, blob: &Digest) -> Result<BTreeSet<String>, StoreError> {
        let origins: Origins = documents::read(&self.origins_path())?.unwrap_or_default();
        Ok(origins.get(blob).cloned().unwrap_or_default())
    }

    /// Remembers that `repository` holds these blobs, and forgets blobs that are no longer in the store.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn add_origin(
        &self,
        repository: &str,
        blobs: impl IntoIterator<Item = Digest>,
    ) -> Result<(), StoreError> {
        let _alone = StoreLock::exclusive(&self.store_dir().join("images.lock"))?;
        let mut origins: Origins = documents::read(&self.origins_path())?.unwrap_or_default();
        for blob in blobs {
            let known = origins.entry(blob).or_default();
            if known.len() < MAX_ORIGINS {
                known.insert(repository.to_owned());
            }
        }
        origins.retain(|blob, _| self.blobs().exists(blob));
        documents::write(&self.origins_path(), &origins)
    }

    fn origins_path(&self) -> PathBuf {
        self.store_dir().join("origins.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_blob_that_is_gone_is_forgotten() {
        let test = testing::store();
        let (here, gone) = (
            test.store.blobs().put_bytes(b"here").unwrap(),
            Digest::of(b"gone"),
        );
        test.store.add_origin("hub:5000/a", [here, gone]).unwrap();
        test.store.add_origin("hub:5000/b", [here]).unwrap();
        let origins = test.store.origins(&here).unwrap();
        assert_eq!(
            origins.into_iter().collect::<Vec<_>>(),
            ["hub:5000/a", "hub:5000/b"]
        );
        assert!(test.store.origins(&gone).unwrap().is_empty());
    }
}
