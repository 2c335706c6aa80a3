//! Is an unpacked layer still what its table of contents says?

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use gantry_model::Digest;
use rustix::fs::OFlags;

use crate::layer_writer::xattrs;
use crate::limits::MAX_CHUNK_LEN;
use crate::receive::tree::Tree;
use crate::toc::names::{self, OPAQUE_NAME, WHITEOUT_PREFIX};
use crate::toc::{EntryKind, Toc, TocEntry};
use crate::{LayerError, Store};

/// Most findings of one layer: more say nothing new.
const MAX_FINDINGS: usize = 1000;

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
        let tree = Tree::open(&dir).map_err(LayerError::io("open", &dir))?;
        let mut check = Check {
            toc: &toc,
            dir: &dir,
            tree,
            root: rustix::process::geteuid().is_root(),
            findings: Vec::new(),
        };
        for entry in toc.by_path() {
            if check.findings.len() >= MAX_FINDINGS {
                break;
            }
            if let Err(reason) = check.entry(entry) {
                check.findings.push((entry.path.clone(), reason));
            }
        }
        check.strangers("");
        let damage = |(path, reason)| LayerDamage {
            layer: *layer,
            path,
            reason,
        };
        Ok(check
            .findings
            .into_iter()
            .take(MAX_FINDINGS)
            .map(damage)
            .collect())
    }
}

struct Check<'c> {
    toc: &'c Toc,
    dir: &'c Path,
    tree: Tree,
    root: bool,
    findings: Vec<(String, String)>,
}

impl Check<'_> {
    fn entry(&self, entry: &TocEntry) -> Result<(), String> {
        let path = self.dir.join(&entry.path);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.missing(entry),
            Err(error) => return Err(format!("it cannot be looked at: {error}")),
        };
        let kind = found.file_type();
        match &entry.kind {
            EntryKind::Whiteout if kind.is_char_device() && found.rdev() == 0 => return Ok(()),
            EntryKind::Whiteout => return Err("it should be a whiteout and is none".to_owned()),
            EntryKind::Symlink { target } => {
                let there = kind.is_symlink().then(|| fs::read_link(&path).ok()).flatten();
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
        self.metadata(entry, &path, &found)?;
        self.content(entry)
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

    fn content(&self, entry: &TocEntry) -> Result<(), String> {
        let EntryKind::File { chunks, .. } = &entry.kind else {
            return Ok(());
        };
        let unreadable = |error: io::Error| format!("it cannot be read: {error}");
        let file = self
            .tree
            .open_at(&entry.path, OFlags::RDONLY | OFlags::NONBLOCK)
            .map_err(unreadable)?;
        let (file, mut buffer) = (File::from(file), Vec::new());
        for index in chunks.clone() {
            let chunk = self.toc.chunks()[index as usize];
            let mut at = chunk.file_offset;
            let end = at + chunk.len;
            while at < end {
                let len = (end - at).min(u64::from(MAX_CHUNK_LEN)) as usize;
                buffer.resize(len, 0);
                file.read_exact_at(&mut buffer, at).map_err(unreadable)?;
                let right = if chunk.zeros {
                    buffer.iter().all(|byte| *byte == 0)
                } else {
                    chunk.digest.is_of(&buffer)
                };
                if !right {
                    return Err(format!("its bytes {at} to {} are damaged", at + len as u64));
                }
                at += len as u64;
            }
        }
        Ok(())
    }

    /// Finds what the table of contents does not list.
    fn strangers(&mut self, folder: &str) {
        let mut folders = vec![folder.to_owned()];
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
                if self.findings.len() >= MAX_FINDINGS {
                    return;
                }
                if !known.contains(path.as_str()) && !self.is_mark(&folder, &name, &known) {
                    self.findings
                        .push((path, "it does not belong to the layer".to_owned()));
                } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                }
            }
        }
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
