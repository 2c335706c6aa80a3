//! This module owns [`Store`] and the places of everything in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_system::files::{remove_tree, space};

use crate::{Blobs, Guard, StoreError, StoreLock};

/// The image store below one root folder. Cheap to clone; safe to use from many threads and processes.
///
/// ```text
/// ROOT/store/blobs/sha256/<hex>     OCI blobs
/// ROOT/store/images.json            reference -> manifest digest
/// ROOT/store/chunked/<hex>.json     layer that arrived in another form -> its chunked form
/// ROOT/store/signatures/<hex>.json  manifest or index -> the manifest of the signatures over it
/// ROOT/store/build-cache/<hex>.json  key of a build's step -> the layer it made
/// ROOT/store/layers/<hex>/          descriptor.json and toc of each unpacked layer
/// ROOT/store/partial/<hex>/         layers whose transfer was interrupted
/// ROOT/store/arriving/<hex>         beginnings of blobs that registries send; see [`crate::PartialBlob`]
/// ROOT/store/parts/<hex>/           archives that come in parts, not complete yet; see [`crate::PartsIndex`]
/// ROOT/store/mounts/<hex>.json      images that are mounted; see [`crate::MountedImage`]
/// ROOT/store/origins.json           blob -> repositories that hold it
/// ROOT/store/{lock,images.lock}     see [`StoreLock`]
/// ROOT/store/tmp/                   what is being written
/// ROOT/data/overlay2/<hex>/         unpacked layers
/// ```
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
    pub(crate) guard: Option<Guard>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    blobs: Blobs,
}

impl Store {
    /// Opens the store below `root`. Folders are made when something is first put into them.
    ///
    /// What a killed command left in `store/tmp` is removed here, if no other command uses the store.
    ///
    /// # Errors
    /// When left-overs are there and cannot be removed.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store_dir = root.join("store");
        let blobs = Blobs::new(
            store_dir.join("blobs/sha256"),
            store_dir.join("tmp"),
            store_dir.join("lock"),
        );
        let store = Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                blobs,
            }),
            guard: None,
        };
        store.remove_left_overs()?;
        Ok(store)
    }

    /// The root folder, e.g. `/var/lib/gantry`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The blobs.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// `ROOT/store`.
    #[must_use]
    pub fn store_dir(&self) -> PathBuf {
        self.inner.root.join("store")
    }

    /// `ROOT/store/tmp`: things being written; on the same file system as where they will be renamed to.
    ///
    /// Whoever writes there holds [`Store::share`], or it may be cleaned away.
    #[must_use]
    pub fn tmp_dir(&self) -> PathBuf {
        self.store_dir().join("tmp")
    }

    /// `ROOT/data/overlay2`: the unpacked layers.
    #[must_use]
    pub fn overlay2_dir(&self) -> PathBuf {
        self.inner.root.join("data/overlay2")
    }

    /// While the lock is held, nothing is removed from the store. Waits while somebody removes something.
    ///
    /// # Errors
    /// When the lock file cannot be opened or made.
    pub fn share(&self) -> Result<StoreLock, StoreError> {
        StoreLock::shared(&self.lock_path())
    }

    /// The right to remove things, if no other command uses the store right now; none otherwise.
    ///
    /// # Errors
    /// When the lock file cannot be opened or made.
    pub fn try_exclusive(&self) -> Result<Option<StoreLock>, StoreError> {
        StoreLock::try_exclusive(&self.lock_path())
    }

    /// Whether there is room for `needed` more bytes.
    ///
    /// # Errors
    /// When there is not, or nobody can say.
    pub fn check_room(&self, needed: u64, what: &str) -> Result<(), StoreError> {
        let dir = self.store_dir();
        fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        let free = space(&dir).map_err(StoreError::io("look at", &dir))?.free;
        if needed < free {
            return Ok(());
        }
        Err(StoreError::NoSpace {
            what: what.to_owned(),
            needed,
            free,
            path: dir,
        })
    }

    pub(crate) fn blobs_dir(&self) -> PathBuf {
        self.store_dir().join("blobs/sha256")
    }

    fn lock_path(&self) -> PathBuf {
        self.store_dir().join("lock")
    }

    fn remove_left_overs(&self) -> Result<(), StoreError> {
        let tmp = self.tmp_dir();
        let empty = fs::read_dir(&tmp).map_or(true, |mut entries| entries.next().is_none());
        if empty {
            return Ok(());
        }
        // Whoever may not write here may still read, and leaves the cleaning to others.
        let Ok(Some(_lock)) = self.try_exclusive() else {
            return Ok(());
        };
        remove_tree(&tmp).map_err(StoreError::io("remove left-overs in", &tmp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn what_a_killed_command_left_is_removed_when_nobody_uses_the_store() {
        let test = testing::store();
        let left_over = test.store.tmp_dir().join("blob-killed");
        fs::create_dir_all(test.store.tmp_dir()).unwrap();
        fs::write(&left_over, "half a blob").unwrap();
        let in_use = test.store.share().unwrap();
        Store::open(test.store.root()).unwrap();
        assert!(left_over.exists());
        drop(in_use);
        Store::open(test.store.root()).unwrap();
        assert!(!left_over.exists());
    }
}
