//! This module owns [`SourceDigest`]: whether files of this host would make the same layer again.

use std::collections::HashMap;
use std::fs::{self, File, Metadata as FileMetadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use gantry_model::Digest;
use rustix::fs::OFlags;
use serde_json::json;

use super::tree::xattrs;
use crate::LayerError;

/// Most threads: above that, the disk is the limit.
const MAX_THREADS: usize = 8;

/// What a layer would be made of, in the order in which [`super::TreeLayer`] would be given it.
#[derive(Debug, Default)]
pub struct SourceDigest {
    /// Everything but the bytes of files.
    text: String,
    files: Vec<SourceFile>,
    /// First name of each file with several names, by device and inode.
    names: HashMap<(u64, u64), String>,
}

#[derive(Debug)]
struct SourceFile {
    path: PathBuf,
    stamp: Stamp,
}

/// What changes when a file is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    len: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &FileMetadata) -> Self {
        Self {
            inode: (found.dev(), found.ino()),
            len: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

impl SourceDigest {
    /// Adds what is at `file`, as `path` in the layer. Of a folder only itself, not what lies in it.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn add(&mut self, file: &Path, path: &str) -> Result<(), LayerError> {
        let found = fs::symlink_metadata(file).map_err(LayerError::io("look at", file))?;
        let xattrs = xattrs(file).map_err(LayerError::io("read the extended attributes of", file))?;
        let kind = found.file_type();
        let target = if kind.is_symlink() {
            let target = fs::read_link(file).map_err(LayerError::io("read link", file))?;
            Some(target.to_string_lossy().into_owned())
        } else {
            None
        };
        let mut other_name = None;
        if kind.is_file() {
            let stamp = Stamp::of(&found);
            if found.nlink() > 1 {
                other_name = self.names.get(&stamp.inode).cloned();
                self.names.entry(stamp.inode).or_insert_with(|| path.to_owned());
            }
            if other_name.is_none() {
                self.files.push(SourceFile {
                    path: file.to_owned(),
                    stamp,
                });
            }
        }
        self.note(
            &json!([
                path,
                found.mode(),
                found.len() * u64::from(kind.is_file()),
                xattrs,
                target,
                other_name
            ])
            .to_string(),
        );
        Ok(())
    }

    /// Adds something that is not on this host, as one line.
    pub fn note(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// Reads every file, on all cores, and gives the digest of it all.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn digest(&self) -> Result<Digest, LayerError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut digests = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(file) = self.files.get(at) else {
                    return Ok(digests);
                };
                digests.push((
                    at,
                    content(&file.path).map_err(LayerError::io("read", &file.path))?,
                ));
            }
        };
        let threads = thread::available_parallelism()
            .map_or(2, usize::from)
            .min(MAX_THREADS)
            .min(self.files.len().max(1));
        let results: Vec<Result<Vec<(usize, String)>, LayerError>> = thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let joined = running.into_iter().map(thread::ScopedJoinHandle::join);
            joined
                .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let mut digests = Vec::new();
        for result in results {
            digests.extend(result?);
        }
        digests.sort_unstable();
        let mut text = self.text.clone();
        for (_, digest) in digests {
            text.push_str(&digest);
            text.push('\n');
        }
        Ok(Digest::of(text.as_bytes()))
    }

    /// Whether nobody has written to a file since it was added.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let unchanged = |file: &SourceFile| {
            fs::symlink_metadata(&file.path).is_ok_and(|found| Stamp::of(&found) == file.stamp)
        };
        self.files.iter().all(unchanged)
    }
}

fn content(path: &Path) -> io::Result<String> {
    // As when the layer is made: not followed, not waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn everything_that_a_layer_has_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::write(&one, "content").unwrap();
        fs::write(&two, "content").unwrap();
        let digest = |names: &[(&Path, &str)]| {
            let mut source = SourceDigest::default();
            names
                .iter()
                .for_each(|(file, path)| source.add(file, path).unwrap());
            source.digest().unwrap()
        };
        let before = digest(&[(&one, "a"), (&two, "b")]);
        assert_eq!(before, digest(&[(&two, "a"), (&one, "b")]));
        assert_ne!(before, digest(&[(&one, "a"), (&two, "c")]));
        fs::set_permissions(&two, fs::Permissions::from_mode(0o600)).unwrap();
        let other_mode = digest(&[(&one, "a"), (&two, "b")]);
        assert_ne!(before, other_mode);
        fs::remove_file(&two).unwrap();
        fs::hard_link(&one, &two).unwrap();
        assert_ne!(before, digest(&[(&one, "a"), (&two, "b")]));
        fs::remove_file(&two).unwrap();
        std::os::unix::fs::symlink("one", &two).unwrap();
        let link = digest(&[(&two, "b")]);
        fs::remove_file(&two).unwrap();
        std::os::unix::fs::symlink("other", &two).unwrap();
        assert_ne!(link, digest(&[(&two, "b")]));
    }

    #[test]
    fn a_file_that_is_written_to_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "content").unwrap();
        let mut source = SourceDigest::default();
        source.add(&file, "file").unwrap();
        assert!(source.is_unchanged());
        fs::write(&file, "content, and more").unwrap();
        assert!(!source.is_unchanged());
        fs::remove_file(&file).unwrap();
        assert!(!source.is_unchanged());
    }
}
