//! This module owns [`StoreLock`]: how commands that run at the same time share one store.
//!
//! Two lock files, both `flock`s, so a killed command never leaves one behind:
//!
//! - `store/lock`: held shared by whoever reads or adds content, held exclusively by whoever removes some.
//! - `store/images.lock`: held exclusively for the moment in which `images.json` changes.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use crate::StoreError;

/// A lock on the store; given back when dropped.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Waits for `path` to be free of exclusive holders and holds it together with other readers.
    pub(crate) fn shared(path: &Path) -> Result<Self, StoreError> {
        let file = open(path)?;
        file.lock_shared().map_err(StoreError::io("lock", path))?;
        Ok(Self { _file: file })
    }

    /// Waits for `path` to be free and holds it alone.
    pub(crate) fn exclusive(path: &Path) -> Result<Self, StoreError> {
        let file = open(path)?;
        file.lock().map_err(StoreError::io("lock", path))?;
        Ok(Self { _file: file })
    }

    /// Holds `path` alone if nobody else holds it; none otherwise.
    pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(StoreError::io("lock", path)(source)),
        }
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(StoreError::io("open", path))
}
