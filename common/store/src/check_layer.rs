//! Is an unpacked layer still what its table of contents says?

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use gantry_model::Digest;
use rustix::fs::OFlags;

use crate::layer_writer::xattrs;
use crate::limits::MAX_CHUNK_LEN;
use crate::receive::tree::Tree;
use crate::toc::names::{self, OPAQUE_NAME, WHITEOUT_PREFIX};
use crate::toc::{Chunk, EntryKind, Toc, TocEntry};
use crate::{LayerError, Store};

/// Most findings of one layer: more say nothing new.
pub(crate) const MAX_FINDINGS: usize = 1000;

/// Something about an unpacked layer that is not as its table of contents says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDamage {
    /// The layer.
    pub layer: Digest,
    /// Path below the layer's folder.
    pub path: String,
    /// What is wrong, in words.
    pub reason: String,
}

impl Store {
    /// Compares everything in an unpacked layer with its table of contents: bytes, modes, links, what is missing and
    /// what should not be there. Gives what is wrong, at most a thousand findings.
    ///
    /// # Errors
    /// When the layer is not here or cannot be read at all.
    pub fn check_layer(&self, layer: &Digest) -> Result<Vec<LayerDamage>, LayerError> {
        let toc = self.layer_toc(layer)?;
        let dir = self.layer_dir(layer);
        let check = Check::open(&toc, &dir)?;
        let wrong = toc.by_path().filter_map(|entry| {
            let reason = check.entry(entry).err()?;
            Some((entry.path.clone(), reason))
        });
        let mut findings: Vec<_> = wrong.take(MAX_FINDINGS).collect();
        findings.extend(
            check
                .strangers(MAX_FINDINGS - findings.len())
                .into_iter()
                .map(stranger),
        );
        Ok(LayerDamage::all(*layer, findings))
    }
}

impl LayerDamage {
    pub(crate) fn all(layer: Digest, findings: impl IntoIterator<Item = (String, String)>) -> Vec<Self> {
        let damage = |(path, reason)| Self { layer, path, reason };
        findings.into_iter().map(damage).collect()
    }
}

/// What is wrong with something that the table of contents does not list.
pub(crate) fn stranger(path: String) -> (String, String) {
    (path, "it does not belong to the layer".to_owned())
}

/// An unpacked layer beside its table of contents.
pub(crate) struct Check<'c> {
    toc: &'c Toc,
    dir: &'c Path,
    tree: Tree,
    root: bool,
}

impl<'c> Check<'c> {
    /// The layer in `dir`.
    pub(crate) fn open(toc: &'c Toc, dir: &'c Path) -> Result<Self, LayerError> {
        Ok(Self {
            toc,
            dir,
            tree: Tree::open(dir).map_err(LayerError::io("open", dir))?,
            root: rustix::process::geteuid().is_root(),
        })
    }

    fn entry(&self, entry: &TocEntry) -> Result<(), String> {
        let all = match &entry.kind {
            EntryKind::File { chunks, .. } => chunks.clone(),
            _ => 0..0,
        };
        self.beginning(entry, all, &mut Vec::new())
    }

    /// Whether an entry is what it should be, but for bytes after its first `chunks`. `buffer` is memory to read into.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn beginning(
        &self,
        entry: &TocEntry,
        chunks: Range<u32>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), String> {
        let path = self.dir.join(&entry.path);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.missing(entry),
            Err(error) => return Err(format!("it cannot be looked at: {error}")),
        };
        self.kind(entry, &path, &found)?;
        if matches!(entry.kind, EntryKind::Whiteout | EntryKind::HardLink { .. }) {
            return Ok(());
        }
        // The bytes first: that they are others says more than that the time is another one.
        if !chunks.is_empty() {
            self.chunks(entry, chunks, buffer)?;
        }
        self.metadata(entry, &path, &found)
    }

    fn kind(&self, entry: &TocEntry, path: &Path, found: &fs::Metadata) -> Result<(), String> {
        let kind = found.file_type();
        match &entry.kind {
            EntryKind::Whiteout if kind.is_char_device() && found.rdev() == 0 => return Ok(()),
            EntryKind::Whiteout => return Err("it should be a whiteout and is none".to_owned()),
            EntryKind::Symlink { target } => {
                let there = kind.is_symlink().then(|| fs::read_link(path).ok()).flatten();
                if there.as_deref() != Some(Path::new(target)) {
                    return Err(format!("it should be a symbolic link to {target:?} and is not"));
                }
            }
            EntryKind::HardLink { target } => {
                let target = &self.toc.entries()[*target as usize].path;
                let same = fs::symlink_metadata(self.dir.join(target))
                    .is_ok_and(|other| (other.dev(), other.ino()) == (found.dev(), found.ino()));
                return if same {
                    Ok(())
                } else {
                    Err(format!("it should be the same file as {target:?} and is not"))
                };
            }
            EntryKind::Directory { .. } if !kind.is_dir() => {
                return Err("it should be a folder and is none".to_owned());
            }
            EntryKind::File { .. } if !kind.is_file() => {
                return Err("it should be a regular file and is none".to_owned());
            }
            EntryKind::File { size, .. } if *size != found.len() => {
                return Err(format!("it has {} bytes, it should have {size}", found.len()));
            }
            _ => {}
        }
        Ok(())
    }

    /// Where an ordinary user could not make a whiteout, its mark is there instead.
    fn missing(&self, entry: &TocEntry) -> Result<(), String> {
        let mark = self.dir.join(names::parent(&entry.path).unwrap_or_default());
        let mark = mark.join(format!("{WHITEOUT_PREFIX}{}", names::base(&entry.path)));
        if entry.kind == EntryKind::Whiteout && mark.is_file() {
            Ok(())
        } else {
            Err("it is missing".to_owned())
        }
    }

    fn metadata(&self, entry: &TocEntry, path: &Path, found: &fs::Metadata) -> Result<(), String> {
        let link = matches!(entry.kind, EntryKind::Symlink { .. });
        // See `complete_folder`: an ordinary user keeps access to the layer's root.
        let added = if entry.path.is_empty() && !self.root {
            0o700
        } else {
            0
        };
        let (mode, wanted) = (found.mode() & 0o7777, entry.mode | added);
        if !link && mode != wanted {
            return Err(format!("its mode is {mode:04o}, it should be {wanted:04o}"));
        }
        if self.root && (found.uid(), found.gid()) != (entry.uid, entry.gid) {
            let wanted = (entry.uid, entry.gid);
            return Err(format!(
                "it belongs to {}:{}, not to {}:{}",
                found.uid(),
                found.gid(),
                wanted.0,
                wanted.1
            ));
        }
        if found.mtime() != entry.mtime.seconds {
            return Err("it was changed: its time is another one".to_owned());
        }
        if link || !self.root {
            return Ok(());
        }
        let mut there =
            xattrs(path).map_err(|error| format!("its extended attributes cannot be read: {error}"))?;
        there.retain(|(name, _)| names::carries_xattr(name));
        if there == entry.xattrs {
            Ok(())
        } else {
            Err("its extended attributes are others".to_owned())
        }
    }

    /// Whether the bytes of some chunks of a file are what they should be. `buffer` is memory to read into.
    ///
    /// # Errors
    /// Which bytes are not.
    pub(crate) fn chunks(
        &self,
        entry: &TocEntry,
        chunks: Range<u32>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), String> {
        let unreadable = |error: io::Error| format!("it cannot be read: {error}");
        let file = self.file(entry).map_err(unreadable)?;
        for chunk in &self.toc.chunks()[chunks.start as usize..chunks.end as usize] {
            if !is_right(&file, chunk, buffer).map_err(unreadable)? {
                let (from, to) = (chunk.file_offset, chunk.file_offset + chunk.len);
                return Err(format!("its bytes {from} to {to} are damaged"));
            }
        }
        Ok(())
    }

    /// The file of an entry, to be read; no link is followed to it.
    fn file(&self, entry: &TocEntry) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        Ok(self.tree.open_at(&entry.path, flags)?.into())
    }

    /// What the table of contents does not list, at most `limit` paths.
    pub(crate) fn strangers(&self, limit: usize) -> Vec<String> {
        let (mut strangers, mut folders) = (Vec::new(), vec![String::new()]);
        let known: HashSet<&str> = self
            .toc
            .entries()
            .iter()
            .map(|entry| entry.path.as_str())
            .collect();
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(self.dir.join(&folder)) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let path = names::join(&folder, &name.to_string_lossy());
                if strangers.len() >= limit {
                    return strangers;
                }
                if !known.contains(path.as_str()) && !self.is_mark(&folder, &name, &known) {
                    strangers.push(path);
                } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                }
            }
        }
        strangers
    }

    /// Marks that stand where an ordinary user could not make overlay's own ones.
    fn is_mark(&self, folder: &str, name: &OsStr, known: &HashSet<&str>) -> bool {
        let Some(name) = name.to_str() else { return false };
        if name == OPAQUE_NAME {
            let entry = self.toc.entry(folder);
            return entry.is_some_and(|entry| matches!(entry.kind, EntryKind::Directory { opaque: true }));
        }
        let hidden = name
            .strip_prefix(WHITEOUT_PREFIX)
            .map(|hidden| names::join(folder, hidden));
        hidden.is_some_and(|hidden| known.contains(hidden.as_str()))
    }
}

/// Whether the bytes of `chunk` in `file` are what the table of contents says. `buffer` is memory to read into.
pub(crate) fn is_right(file: &File, chunk: &Chunk, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut at = chunk.file_offset;
    let end = at + chunk.len;
    while at < end {
        // A hole may be longer than what is read at a time; other chunks are not.
        let len = (end - at).min(u64::from(MAX_CHUNK_LEN)) as usize;
        buffer.resize(len, 0);
        match file.read_exact_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        let right = if chunk.zeros {
            buffer.iter().all(|byte| *byte == 0)
        } else {
            chunk.digest.is_of(buffer)
        };
        if !right {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}
