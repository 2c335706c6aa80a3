//! This module owns [`Blobs`]: content by digest. [`BlobWriter`] is the only way in.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use gantry_model::Digest;
use gantry_system::files::sync_dir;
use sha2::{Digest as _, Sha256};

use crate::{BlobWriter, StoreError, StoreLock};

/// Content by digest: `store/blobs/sha256/<hex>`.
///
/// A blob is there whole or not at all: it is written beside, hashed on the way, synced and renamed.
#[derive(Debug)]
pub struct Blobs {
    dir: PathBuf,
    tmp: PathBuf,
    lock: PathBuf,
}

impl Blobs {
    pub(crate) const fn new(dir: PathBuf, tmp: PathBuf, lock: PathBuf) -> Self {
        Self { dir, tmp, lock }
    }

    /// Where the blob lies, or would lie.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// Whether the blob is there.
    #[must_use]
    pub fn exists(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Opens a blob; `what` says in an error what it is for. The content is not verified here.
    ///
    /// # Errors
    /// When it is missing or cannot be opened.
    pub fn open(&self, digest: &Digest, what: &str) -> Result<File, StoreError> {
        let path = self.path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::MissingBlob {
                digest: *digest,
                what: what.to_owned(),
            },
            _ => StoreError::io("open", path)(source),
        })
    }

    /// Size in bytes; none when the blob is missing.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::io("look at", path)(source)),
        }
    }

    /// Reads a small blob whole, verified.
    ///
    /// # Errors
    /// When it is missing, larger than `limit` bytes, or not what its digest says.
    pub fn read(&self, digest: &Digest, what: &str, limit: u64) -> Result<Vec<u8>, StoreError> {
        let file = self.open(digest, what)?;
        let path = self.path(digest);
        let mut bytes = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(StoreError::io("read", &path))?;
        if bytes.len() as u64 > limit {
            return Err(StoreError::TooLarge {
                what: what.to_owned(),
                limit,
            });
        }
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(StoreError::WrongDigest {
                what: path.display().to_string(),
                expected: *digest,
                found,
            });
        }
        Ok(bytes)
    }

    /// Starts a new blob.
    ///
    /// # Errors
    /// When the temporary file cannot be made.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        // Taken first: from here on nobody cleans the temporary folder.
        let lock = StoreLock::shared(&self.lock)?;
        BlobWriter::new(&self.tmp, &self.dir, lock)
    }

    /// Stores `bytes`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if self.read(&digest, "blob", bytes.len() as u64).is_ok() {
            return Ok(digest);
        }
        let mut writer = self.writer()?;
        let path = writer.path().to_owned();
        writer.write_all(bytes).map_err(StoreError::io("write", path))?;
        writer.finish().map(|(digest, _)| digest)
    }

    /// Stores what `reader` gives, if it has exactly this digest and size. Never reads more than `size` + 1 bytes.
    ///
    /// # Errors
    /// When digest or size differ, or reading or writing fails; nothing is kept then.
    pub fn put(&self, reader: impl Read, expected: &Digest, size: u64, what: &str) -> Result<(), StoreError> {
        let mut writer = self.writer()?;
        let mut reader = reader.take(size.saturating_add(1));
        let mut buffer = vec![0; COPY_BUFFER];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(StoreError::Read {
                        what: what.to_owned(),
                        source,
                    });
                }
            };
            if writer.len() + read as u64 > size {
                let found = "there is more".to_owned();
                return Err(StoreError::WrongSize {
                    what: what.to_owned(),
                    expected: size,
                    found,
                });
            }
            let path = writer.path().to_owned();
            writer
                .write_all(&buffer[..read])
                .map_err(StoreError::io("write", path))?;
        }
        writer.finish_as(expected, size, what)
    }

    /// Makes a blob that `other` verified one of these, without a copy where both lie on one disk.
    ///
    /// # Errors
    /// When it is not there, has another size, or cannot be had.
    pub fn take_from(&self, other: &Self, digest: &Digest, size: u64, what: &str) -> Result<(), StoreError> {
        if self.size(digest)? == Some(size) {
            return Ok(());
        }
        let file = other.open(digest, what)?;
        if other.size(digest)? == Some(size) && self.adopt(&other.path(digest), digest).is_ok() {
            return Ok(());
        }
        self.put(file, digest, size, what)
    }

    /// Makes the file at `path`, which has this digest and lies in the store, a blob as well, without a copy.
    pub(crate) fn adopt(&self, path: &Path, digest: &Digest) -> Result<(), StoreError> {
        use std::os::unix::fs::PermissionsExt as _;
        let target = self.path(digest);
        fs::create_dir_all(&self.dir).map_err(StoreError::io("create", &self.dir))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))
            .map_err(StoreError::io("set the mode of", path))?;
        if target.exists() {
            if self.verify(digest, "blob").is_ok() {
                return Ok(());
            }
            fs::remove_file(&target).map_err(StoreError::io("remove", &target))?;
        }
        fs::hard_link(path, &target).map_err(StoreError::io("link to", &target))?;
        sync_dir(&self.dir).map_err(StoreError::io("sync", &self.dir))
    }

    /// Reads the whole blob and compares it with its digest. Gives its size in bytes.
    ///
    /// # Errors
    /// When it is missing, unreadable or different.
    pub fn verify(&self, digest: &Digest, what: &str) -> Result<u64, StoreError> {
        let path = self.path(digest);
        let mut file = self.open(digest, what)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; COPY_BUFFER];
        let mut len = 0;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    hasher.update(&buffer[..read]);
                    len += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StoreError::io("read", path)(source)),
            }
        }
        let found = Digest::from_bytes(hasher.finalize().into());
        if found == *digest {
            Ok(len)
        } else {
            Err(StoreError::WrongDigest {
                what: path.display().to_string(),
                expected: *digest,
                found,
            })
        }
    }

    /// The digests of all blobs, in order. Files with other names are none of ours and left out.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Digest>, StoreError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::io("list", &self.dir)(source)),
        };
        let mut digests = Vec::new();
        for entry in entries {
            let entry = entry.map_err(StoreError::io("list", &self.dir))?;
            digests.extend(
                entry
                    .file_name()
                    .to_str()
                    .and_then(|name| Digest::from_hex(name).ok()),
            );
        }
        digests.sort_unstable();
        Ok(digests)
    }

    /// Removes a blob. The caller holds the store alone.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        fs::remove_file(&path).map_err(StoreError::io("remove", path))
    }
}

const COPY_BUFFER: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_blob_is_kept_only_with_its_digest_and_size() {
        let test = testing::store();
        let blobs = test.store.blobs();
        let (bytes, digest) = (b"content".as_slice(), Digest::of(b"content"));
        let error = blobs.put(bytes, &Digest::of(b"other"), 7, "layer").unwrap_err();
        assert!(matches!(error, StoreError::WrongDigest { .. }), "{error}");
        for size in [6, 8] {
            let error = blobs.put(bytes, &digest, size, "layer").unwrap_err();
            assert!(matches!(error, StoreError::WrongSize { .. }), "{error}");
        }
        assert_eq!(blobs.list().unwrap(), []);
        blobs.put(bytes, &digest, 7, "layer").unwrap();
        assert_eq!(blobs.read(&digest, "layer", 7).unwrap(), bytes);
        assert!(matches!(
            blobs.read(&digest, "layer", 6).unwrap_err(),
            StoreError::TooLarge { .. }
        ));
        assert_eq!(fs::read_dir(test.store.tmp_dir()).unwrap().count(), 0);
    }

    #[test]
    fn an_endless_stream_ends_at_the_announced_size() {
        let test = testing::store();
        let error = test
            .store
            .blobs()
            .put(io::repeat(0), &Digest::of(b""), 1 << 20, "layer")
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("announced size of 1048576 bytes: there is more"),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_blob_is_found_and_replaced() {
        let test = testing::store();
        let blobs = test.store.blobs();
        let digest = blobs.put_bytes(b"content").unwrap();
        fs::write(blobs.path(&digest), "c0ntent").unwrap();
        assert!(matches!(
            blobs.verify(&digest, "x").unwrap_err(),
            StoreError::WrongDigest { .. }
        ));
        assert!(blobs.read(&digest, "x", 100).is_err());
        blobs.put_bytes(b"content").unwrap();
        assert_eq!(blobs.verify(&digest, "x").unwrap(), 7);
    }
}
