//! This module owns [`ArrivingSnapshot`]: a snapshot of etcd on its way to this host's disk.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use gantry_model::{Digest, SnapshotCheck};
use gantry_system::files::sync_dir;
use tempfile::NamedTempFile;

use super::EtcdError;
use super::kept::{KeepError, failed};

/// What the name of its file begins with.
pub(super) const ARRIVING: &str = ".new-";

/// A snapshot on its way to this host's disk. Dropped before it is kept, it leaves nothing.
pub(crate) struct ArrivingSnapshot {
    file: NamedTempFile,
    path: PathBuf,
    check: SnapshotCheck,
}

impl ArrivingSnapshot {
    /// One that comes to `folder` and is to be called `path`.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn new(folder: &Path, path: PathBuf) -> Result<Self, KeepError> {
        // tempfile makes it with mode 0600.
        let file = tempfile::Builder::new()
            .prefix(ARRIVING)
            .tempfile_in(folder)
            .map_err(failed(&path))?;
        Ok(Self {
            file,
            path,
            check: SnapshotCheck::default(),
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn write(&mut self, part: &Bytes) -> Result<(), KeepError> {
        self.check.add(part);
        self.file.write_all(part).map_err(failed(&self.path))
    }

    /// Bytes that came so far.
    pub(crate) const fn len(&self) -> u64 {
        self.check.len()
    }

    /// Gives it its name, now that everything came, if its database has the digest `database`.
    ///
    /// # Errors
    /// When it has another one, is not whole, or the disk fails.
    pub(crate) fn keep_as(self, database: Digest) -> Result<(), KeepError> {
        let came = self.check.clone().finish().map_err(EtcdError::Snapshot)?;
        if came != database {
            return Err(KeepError::Other { came, database });
        }
        self.keep()
    }

    /// The same, whatever its digest.
    ///
    /// # Errors
    /// When it is not whole, or the disk fails.
    pub(super) fn keep(self) -> Result<(), KeepError> {
        let digest = self.check.finish().map_err(EtcdError::Snapshot)?;
        self.file.as_file().sync_all().map_err(failed(&self.path))?;
        self.file
            .persist(&self.path)
            .map_err(|error| failed(&self.path)(error.error))?;
        if let Some(folder) = self.path.parent() {
            sync_dir(folder).map_err(failed(folder))?;
        }
        tracing::info!("snapshot of etcd at {}: {digest}", self.path.display());
        Ok(())
    }
}
