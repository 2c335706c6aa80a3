//! This module owns [`PartialBlob`]: a blob that arrives in several attempts, also of several commands.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gantry_model::Digest;
use gantry_system::files::sync_dir;
use sha2::{Digest as _, Sha256};

use crate::{Store, StoreError, StoreLock};

/// The beginning of a blob whose digest and size are known. What is there stays there when the command ends, and the
/// next one goes on behind it. Only a blob with the right digest ever leaves this place.
#[derive(Debug)]
pub struct PartialBlob {
    file: File,
    path: PathBuf,
    dir: PathBuf,
    hasher: Sha256,
    len: u64,
    resumed: u64,
    digest: Digest,
    size: u64,
    _lock: StoreLock,
}

impl Store {
    /// `ROOT/store/arriving`: the beginnings of blobs.
    pub(crate) fn arriving_dir(&self) -> PathBuf {
        self.store_dir().join("arriving")
    }

    /// The beginning of the blob `digest` of `size` bytes. None when the blob is here.
    ///
    /// Waits while another command fetches the same blob, and reads what is there of it.
    ///
    /// # Errors
    /// When there is no room for it, or the file cannot be made or read.
    pub fn partial_blob(
        &self,
        digest: &Digest,
        size: u64,
        what: &str,
    ) -> Result<Option<PartialBlob>, StoreError> {
        let lock = self.share()?;
        let dir = self.arriving_dir();
        fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        let path = dir.join(digest.hex());
        let file = open_locked(&path)?;
        if self.blobs().size(digest)? == Some(size) {
            // Another command was faster. What was opened here is empty, or an older beginning.
            let _ = fs::remove_file(&path);
            return Ok(None);
        }
        let mut partial = PartialBlob {
            file,
            path,
            dir: self.blobs_dir(),
            hasher: Sha256::new(),
            len: 0,
            resumed: 0,
            digest: *digest,
            size,
            _lock: lock,
        };
        partial.read_beginning()?;
        self.check_room(size - partial.len, what)?;
        Ok(Some(partial))
    }

    /// Removes the beginnings of blobs that nobody fetches now. Gives the bytes that were freed.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove_partial_blobs(&self) -> Result<u64, StoreError> {
        let dir = self.arriving_dir();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(source) => return Err(StoreError::io("list", dir)(source)),
        };
        let mut freed = 0;
        for entry in entries {
            let path = entry.map_err(StoreError::io("list", &dir))?.path();
            let file = File::open(&path).map_err(StoreError::io("open", &path))?;
            if file.try_lock().is_ok() {
                freed += file.metadata().map_err(StoreError::io("look at", &path))?.len();
                fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            }
        }
        Ok(freed)
    }
}

impl PartialBlob {
    /// Bytes that are here.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is here yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether all bytes are here.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.len == self.size
    }

    /// Bytes of it that an earlier command had brought.
    #[must_use]
    pub const fn resumed(&self) -> u64 {
        self.resumed
    }

    /// Adds what follows.
    ///
    /// # Errors
    /// When there are more bytes than announced, nothing is kept then; or when they cannot be written.
    pub fn write(&mut self, bytes: &[u8], what: &str) -> Result<(), StoreError> {
        if bytes.len() as u64 > self.size - self.len {
            let _ = fs::remove_file(&self.path);
            return Err(StoreError::WrongSize {
                what: what.to_owned(),
                expected: self.size,
                found: "there is more".to_owned(),
            });
        }
        self.file
            .write_all(bytes)
            .map_err(StoreError::io("write", &self.path))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Forgets everything that is here, to start again.
    ///
    /// # Errors
    /// When the file cannot be changed.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        let cannot = || StoreError::io("shorten", &self.path);
        self.file.set_len(0).map_err(cannot())?;
        self.file.seek(SeekFrom::Start(0)).map_err(cannot())?;
        (self.hasher, self.len, self.resumed) = (Sha256::new(), 0, 0);
        Ok(())
    }

    /// Whether the bytes have the announced digest.
    #[must_use]
    pub fn matches(&self) -> bool {
        Digest::from_bytes(self.hasher.clone().finalize().into()) == self.digest
    }

    /// Makes it a blob of the store, durable, if it is what was announced.
    ///
    /// # Errors
    /// When size or digest differ, nothing is kept then; or when it cannot be synced or renamed.
    pub fn finish(self, what: &str) -> Result<(), StoreError> {
        use std::os::unix::fs::PermissionsExt as _;
        if self.len != self.size {
            return Err(StoreError::WrongSize {
                what: what.to_owned(),
                expected: self.size,
                found: format!("{} bytes", self.len),
            });
        }
        let found = Digest::from_bytes(self.hasher.clone().finalize().into());
        if found != self.digest {
            let _ = fs::remove_file(&self.path);
            return Err(StoreError::WrongDigest {
                what: what.to_owned(),
                expected: self.digest,
                found,
            });
        }
        fs::create_dir_all(&self.dir).map_err(StoreError::io("create", &self.dir))?;
        self.file
            .set_permissions(fs::Permissions::from_mode(0o644))
            .map_err(StoreError::io("set the mode of", &self.path))?;
        self.file
            .sync_data()
            .map_err(StoreError::io("sync", &self.path))?;
        let target = self.dir.join(self.digest.hex());
        fs::rename(&self.path, &target).map_err(StoreError::io("rename to", target))?;
        sync_dir(&self.dir).map_err(StoreError::io("sync", &self.dir))
    }

    /// Hashes what an earlier command left. More than there may be is worth nothing.
    fn read_beginning(&mut self) -> Result<(), StoreError> {
        let read = || StoreError::io("read", &self.path);
        let found = self.file.metadata().map_err(read())?.len();
        if found > self.size {
            return self.restart();
        }
        let mut buffer = vec![0; READ_BUFFER];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    self.hasher.update(&buffer[..read]);
                    self.len += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StoreError::io("read", &self.path)(source)),
            }
        }
        self.resumed = self.len;
        Ok(())
    }
}

/// Bytes read at a time.
const READ_BUFFER: usize = 256 << 10;

/// Opens the file and holds it alone. Whoever held it before may have renamed it away meanwhile: then there is a new one.
fn open_locked(path: &Path) -> Result<File, StoreError> {
    loop {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(StoreError::io("open", path))?;
        file.lock().map_err(StoreError::io("lock", path))?;
        let held = file.metadata().map_err(StoreError::io("look at", path))?;
        match fs::metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::io("look at", path)(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn what_arrived_is_kept_until_the_rest_comes() {
        let test = testing::store();
        let digest = Digest::of(b"beginning and end");
        let mut partial = test.store.partial_blob(&digest, 17, "blob").unwrap().unwrap();
        partial.write(b"beginning ", "blob").unwrap();
        drop(partial);
        assert!(!test.store.blobs().exists(&digest));
        let mut partial = test.store.partial_blob(&digest, 17, "blob").unwrap().unwrap();
        assert_eq!((partial.len(), partial.resumed()), (10, 10));
        partial.write(b"and end", "blob").unwrap();
        partial.finish("blob").unwrap();
        assert_eq!(test.store.blobs().verify(&digest, "blob").unwrap(), 17);
        assert!(test.store.partial_blob(&digest, 17, "blob").unwrap().is_none());
        assert_eq!(fs::read_dir(test.store.arriving_dir()).unwrap().count(), 0);
    }

    #[test]
    fn wrong_bytes_and_too_many_bytes_are_not_kept() {
        let test = testing::store();
        let digest = Digest::of(b"content");
        let mut partial = test.store.partial_blob(&digest, 7, "blob").unwrap().unwrap();
        partial.write(b"c0ntent", "blob").unwrap();
        assert!(!partial.matches());
        assert!(matches!(
            partial.finish("blob").unwrap_err(),
            StoreError::WrongDigest { .. }
        ));
        let mut partial = test.store.partial_blob(&digest, 7, "blob").unwrap().unwrap();
        assert!(partial.is_empty());
        assert!(matches!(
            partial.write(b"content and more", "blob").unwrap_err(),
            StoreError::WrongSize { .. }
        ));
        drop(partial);
        assert!(!test.store.blobs().exists(&digest));
        assert_eq!(test.store.remove_partial_blobs().unwrap(), 0);
    }

    #[test]
    fn two_commands_that_want_one_blob_share_the_work() {
        let test = testing::store();
        let digest = Digest::of(b"content");
        let mut first = test.store.partial_blob(&digest, 7, "blob").unwrap().unwrap();
        let store = test.store.clone();
        let second = std::thread::spawn(move || store.partial_blob(&digest, 7, "blob").unwrap().is_none());
        first.write(b"content", "blob").unwrap();
        first.finish("blob").unwrap();
        assert!(
            second.join().unwrap(),
            "the second command fetches the blob again"
        );
        assert_eq!(test.store.blobs().verify(&digest, "blob").unwrap(), 7);
    }
}
