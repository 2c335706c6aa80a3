//! This module owns the folder of an interrupted transfer, `store/partial/<hex>`:
//!
//! ```text
//! tree/      the layer's files as they grow
//! received   which chunks of which table of contents are verified, written and synced
//! marks      which are verified and written since the host started
//! ```
//!
//! Whoever works in it holds a lock on the folder itself, so the lock goes when the folder goes.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gantry_model::Digest;
use gantry_system::files;

use super::error::ReceiveError;
use super::marks::Marks;
use super::received::Received;
use crate::Store;

/// Private to the store's owner.
const FILE_MODE: u32 = 0o600;

/// The folder of one transfer, locked.
#[derive(Debug)]
pub(crate) struct Partial {
    layer: Digest,
    dir: PathBuf,
    _lock: File,
}

impl Store {
    pub(crate) fn partial_dir(&self) -> PathBuf {
        self.store_dir().join("partial")
    }
}

impl Partial {
    /// Locks the folder of `layer`, made if it is not there.
    pub(crate) fn lock(store: &Store, layer: Digest) -> Result<Self, ReceiveError> {
        let dir = store.partial_dir().join(layer.hex());
        loop {
            fs::create_dir_all(&dir).map_err(ReceiveError::io(layer, "create", &dir))?;
            match Self::try_lock(&dir) {
                Ok(Some(lock)) => {
                    return Ok(Self {
                        layer,
                        dir,
                        _lock: lock,
                    });
                }
                // Whoever had it removed it at the end: a new folder is due.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ReceiveError::Busy { layer });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ReceiveError::io(layer, "lock", &dir)(error)),
            }
        }
    }

    /// The lock, if the locked folder is still the one at `dir`.
    fn try_lock(dir: &Path) -> io::Result<Option<File>> {
        let folder = File::open(dir)?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let (held, there) = (folder.metadata()?, fs::metadata(dir)?);
        Ok(((held.dev(), held.ino()) == (there.dev(), there.ino())).then_some(folder))
    }

    /// Where the layer's files grow.
    pub(super) fn tree_dir(&self) -> PathBuf {
        self.dir.join("tree")
    }

    /// Makes the folder ready. Gives the chunks that are there from before: those of the durable record and those
    /// marked since the host started, if they are about this table of contents; otherwise everything starts anew.
    pub(super) fn prepare(
        &self,
        toc: &Digest,
        chunks: u32,
    ) -> Result<(Option<Received>, Marks), ReceiveError> {
        let tree = self.tree_dir();
        let mut found = fs::read(self.received_path())
            .ok()
            .and_then(|bytes| Received::decode(&bytes, toc, chunks));
        let path = self.dir.join("marks");
        let (marks, marked) =
            Marks::open(&path, toc, chunks).map_err(ReceiveError::io(self.layer, "open", &path))?;
        if !marked.is_empty() {
            let known = found.get_or_insert_with(|| Received::none(chunks));
            for chunk in marked {
                known.set(chunk);
            }
        }
        if found.is_none() {
            files::remove_tree(&tree).map_err(ReceiveError::io(self.layer, "remove", &tree))?;
        }
        fs::create_dir_all(&tree).map_err(ReceiveError::io(self.layer, "create", &tree))?;
        Ok((found, marks))
    }

    /// Replaces the durable record of what was received.
    pub(super) fn save_received(&self, bytes: &[u8]) -> Result<(), ReceiveError> {
        let path = self.received_path();
        files::write_atomically(&path, bytes, FILE_MODE).map_err(ReceiveError::io(self.layer, "write", &path))
    }

    /// Removes the folder and what is left in it.
    pub(crate) fn discard(self) -> Result<(), ReceiveError> {
        files::remove_tree(&self.dir).map_err(ReceiveError::io(self.layer, "remove", &self.dir))
    }

    fn received_path(&self) -> PathBuf {
        self.dir.join("received")
    }
}
