//! This module owns [`BlobWriter`]: how bytes become a blob, whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gantry_model::Digest;
use gantry_system::files::sync_dir;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::{StoreError, StoreLock};

/// A blob being written: hashes and counts what goes through. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    file: NamedTempFile,
    hasher: Sha256,
    len: u64,
    dir: PathBuf,
    _lock: StoreLock,
}

impl BlobWriter {
    /// A new temporary file in `tmp` for a blob of the folder `dir`.
    pub(crate) fn new(tmp: &Path, dir: &Path, lock: StoreLock) -> Result<Self, StoreError> {
        fs::create_dir_all(tmp).map_err(StoreError::io("create", tmp))?;
        let file = tempfile::Builder::new()
            .prefix("blob-")
            .tempfile_in(tmp)
            .map_err(StoreError::io("create a file in", tmp))?;
        Ok(Self {
            file,
            hasher: Sha256::new(),
            len: 0,
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The temporary file, for error messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Makes the blob durable under its digest. Gives digest and size.
    ///
    /// # Errors
    /// When it cannot be synced or renamed.
    pub fn finish(self) -> Result<(Digest, u64), StoreError> {
        let digest = Digest::from_bytes(self.hasher.clone().finalize().into());
        let len = self.len;
        self.persist(&digest)?;
        Ok((digest, len))
    }

    /// Makes the blob durable, if it has this digest and size.
    ///
    /// # Errors
    /// When it has not; nothing is kept then.
    pub fn finish_as(self, expected: &Digest, size: u64, what: &str) -> Result<(), StoreError> {
        if self.len != size {
            let found = format!("{} bytes", self.len);
            return Err(StoreError::WrongSize {
                what: what.to_owned(),
                expected: size,
                found,
            });
        }
        let found = Digest::from_bytes(self.hasher.clone().finalize().into());
        if found != *expected {
            return Err(StoreError::WrongDigest {
                what: what.to_owned(),
                expected: *expected,
                found,
            });
        }
        self.persist(&found)
    }

    fn persist(self, digest: &Digest) -> Result<(), StoreError> {
        use std::os::unix::fs::PermissionsExt as _;
        let Self { file, dir, .. } = self;
        let path = dir.join(digest.hex());
        // A blob that is there already is replaced: if it was damaged, it is whole now.
        fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o644))
            .map_err(StoreError::io("set the mode of", file.path()))?;
        file.as_file()
            .sync_data()
            .map_err(StoreError::io("sync", file.path()))?;
        file.persist(&path)
            .map_err(|error| StoreError::io("rename to", &path)(error.error))?;
        sync_dir(&dir).map_err(StoreError::io("sync", &dir))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
