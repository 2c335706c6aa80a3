//! This module owns [`StoreLock`]: how commands that run at the same time share one store.
//!
//! Two lock files, both `flock`s, so a killed command never leaves one behind:
//!
//! - `store/lock`: held shared by whoever reads or adds content, held exclusively by whoever removes some.
//! - `store/images.lock`: held exclusively for the moment in which `images.json` changes. Whoever takes both takes
//!   `store/lock` first.

use std::fs;
use std::io;
use std::path::Path;

use gantry_system::files::FileLock;

use crate::StoreError;

/// A lock on the store; given back when dropped.
#[derive(Debug)]
pub struct StoreLock {
    _lock: FileLock,
}

impl StoreLock {
    /// Waits for `path` to be free of exclusive holders and holds it together with other readers.
    pub(crate) fn shared(path: &Path) -> Result<Self, StoreError> {
        take(path, FileLock::shared).map(|lock| Self { _lock: lock })
    }

    /// Waits for `path` to be free and holds it alone.
    pub(crate) fn exclusive(path: &Path) -> Result<Self, StoreError> {
        take(path, FileLock::exclusive).map(|lock| Self { _lock: lock })
    }

    /// Holds `path` alone if nobody else holds it; none otherwise.
    pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Self>, StoreError> {
        Ok(take(path, FileLock::try_exclusive)?.map(|lock| Self { _lock: lock }))
    }
}

fn take<T>(path: &Path, lock: impl Fn(&Path) -> io::Result<T>) -> Result<T, StoreError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
    }
    lock(path).map_err(StoreError::io("lock", path))
}
