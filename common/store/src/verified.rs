//! This module owns [`Verified`]: how everything in an unpacked layer looked when it was verified.
//!
//! Whatever is changed in a file system gets another time of change (ctime), which no program can set back. So what has the same
//! inode and the same time still is what was verified, and need not be read again; about everything else nothing is known. Bytes
//! that a disk loses by itself are not seen this way.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gantry_model::Digest;
use gantry_system::files;

use crate::receive::received::sealed;
use crate::toc::{EntryKind, Toc};
use crate::{LayerError, Store};

const MAGIC: [u8; 8] = *b"GANTRYV1";
/// Magic and digest of the table of contents.
const HEADER_LEN: usize = MAGIC.len() + 32;
/// Inode, seconds and nanoseconds of the time of change.
const STAMP_LEN: usize = 8 + 8 + 4;
/// Private to the store's owner.
const FILE_MODE: u32 = 0o600;

/// How something looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed_s: i64,
    changed_ns: u32,
}

impl From<&fs::Metadata> for Stamp {
    fn from(found: &fs::Metadata) -> Self {
        Self {
            inode: found.ino(),
            changed_s: found.ctime(),
            changed_ns: u32::try_from(found.ctime_nsec()).unwrap_or(u32::MAX),
        }
    }
}

/// How every entry of a layer, and last its folder, looked when it was verified; nothing for what was not.
#[derive(Debug)]
pub(crate) struct Verified {
    stamps: Vec<Option<Stamp>>,
}

impl Verified {
    /// Nothing of a layer with this table of contents.
    pub(crate) fn nothing(toc: &Toc) -> Self {
        Self {
            stamps: vec![None; toc.entries().len() + 1],
        }
    }

    /// What is recorded in `path`; nothing where that is damaged or about another table of contents.
    pub(crate) fn read(path: &Path, toc: &Toc, toc_digest: &Digest) -> Self {
        let decoded = fs::read(path)
            .ok()
            .and_then(|bytes| Self::decode(&bytes, toc_digest));
        decoded
            .filter(|found| found.stamps.len() == toc.entries().len() + 1)
            .unwrap_or_else(|| Self::nothing(toc))
    }

    /// Records it in `path`.
    pub(crate) fn write(&self, path: &Path, toc_digest: &Digest) -> Result<(), LayerError> {
        let written = files::write_atomically(path, &self.encode(toc_digest), FILE_MODE);
        written.map_err(LayerError::io("write", path))
    }

    /// Whether an entry of the layer in `dir` looks as it did.
    pub(crate) fn holds(&self, toc: &Toc, dir: &Path, entry: u32) -> bool {
        let look = |entry: u32| fs::symlink_metadata(dir.join(&toc.entries()[entry as usize].path)).ok();
        let Some(found) = look(entry) else {
            return false;
        };
        match toc.entries()[entry as usize].kind {
            // Both names, as they are now: one of them may lead to another file meanwhile.
            EntryKind::HardLink { target } => {
                self.is(target, &found) && look(target).is_some_and(|file| self.is(target, &file))
            }
            _ => self.is(entry, &found),
        }
    }

    /// Whether the layer's folder looks as it did.
    pub(crate) fn folder_holds(&self, dir: &Path) -> bool {
        fs::symlink_metadata(dir).is_ok_and(|found| self.stamps.last() == Some(&Some(Stamp::from(&found))))
    }

    /// Whether an entry that looks like `found` looks as it did.
    pub(crate) fn is(&self, entry: u32, found: &fs::Metadata) -> bool {
        self.stamps[entry as usize] == Some(Stamp::from(found))
    }

    /// An entry was verified, and looked like `found` before that.
    pub(crate) fn set(&mut self, entry: u32, found: &fs::Metadata) {
        self.stamps[entry as usize] = Some(Stamp::from(found));
    }

    /// The layer's folder was looked at, and looked like `found` before that.
    pub(crate) fn set_folder(&mut self, found: &fs::Metadata) {
        if let Some(stamp) = self.stamps.last_mut() {
            *stamp = Some(Stamp::from(found));
        }
    }

    /// Everything in the layer in `dir` was verified, but for what `unread` says.
    pub(crate) fn all(toc: &Toc, dir: &Path, unread: impl Fn(u32) -> bool) -> Self {
        let look = |path: &Path| fs::symlink_metadata(path).ok().map(|found| Stamp::from(&found));
        let stamp = |(index, entry): (usize, &crate::TocEntry)| {
            (!unread(index as u32))
                .then(|| look(&dir.join(&entry.path)))
                .flatten()
        };
        let mut stamps: Vec<_> = toc.entries().iter().enumerate().map(stamp).collect();
        stamps.push(look(dir));
        Self { stamps }
    }

    fn encode(&self, toc_digest: &Digest) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + self.stamps.len() * STAMP_LEN + 32);
        bytes.extend(MAGIC);
        bytes.extend(toc_digest.as_bytes());
        for stamp in &self.stamps {
            // No file has the inode 0.
            let (inode, changed_s, changed_ns) = stamp.map_or((0, 0, 0), |stamp| {
                (stamp.inode, stamp.changed_s, stamp.changed_ns)
            });
            bytes.extend(inode.to_le_bytes());
            bytes.extend(changed_s.to_le_bytes());
            bytes.extend(changed_ns.to_le_bytes());
        }
        let digest = Digest::of(&bytes);
        bytes.extend(digest.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8], toc_digest: &Digest) -> Option<Self> {
        let body = sealed(bytes, &MAGIC, HEADER_LEN)?;
        let (stamps, rest) = body[HEADER_LEN..].as_chunks::<STAMP_LEN>();
        if body[MAGIC.len()..HEADER_LEN] != *toc_digest.as_bytes() || !rest.is_empty() {
            return None;
        }
        let stamps = stamps.iter().map(|bytes| {
            let stamp = Stamp {
                inode: u64::from_le_bytes(bytes[..8].try_into().ok()?),
                changed_s: i64::from_le_bytes(bytes[8..16].try_into().ok()?),
                changed_ns: u32::from_le_bytes(bytes[16..].try_into().ok()?),
            };
            (stamp.inode != 0).then_some(stamp)
        });
        Some(Self {
            stamps: stamps.collect(),
        })
    }
}

impl Store {
    /// Whether everything in a layer on this host looks as it did when it was verified. Reads no content: takes a few
    /// microseconds for each file.
    #[must_use]
    pub fn is_layer_unchanged(&self, layer: &Digest) -> bool {
        if self.is_layer_damaged(layer) {
            return false;
        }
        let (Ok(toc), Ok(descriptor)) = (self.layer_toc(layer), self.layer_descriptor(layer)) else {
            return false;
        };
        let dir = self.layer_dir(layer);
        let verified = Verified::read(&self.verified_path(layer), &toc, &descriptor.toc.digest);
        verified.folder_holds(&dir)
            && (0..toc.entries().len() as u32).all(|entry| verified.holds(&toc, &dir, entry))
    }

    /// Whether damage was found in a layer on this host, which has to be put right before it is used again.
    #[must_use]
    pub fn is_layer_damaged(&self, layer: &Digest) -> bool {
        self.damage_mark(layer).exists()
    }

    /// Where it is recorded how a layer looked when it was verified.
    pub(crate) fn verified_path(&self, layer: &Digest) -> PathBuf {
        self.record_dir(layer).join("verified")
    }

    /// Stands beside the record of a layer in which damage was found.
    pub(crate) fn damage_mark(&self, layer: &Digest) -> PathBuf {
        self.record_dir(layer).join("damaged")
    }
}
