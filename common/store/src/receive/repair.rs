//! A layer that is on this host and was found damaged: what is wrong is put right where it is, and only that travels.
//!
//! A rootfs may be mounted on it, so nothing that is right is made anew, and a damaged file stays the same file: whoever has it open, and
//! every layer that has it by hard link, sees the right bytes again.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::AtomicBool;

use gantry_system::files;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::LayerReceiver;
use super::error::ReceiveError;
use super::tree::PRIVATE_FOLDER;
use crate::check_layer::{Check, MAX_FINDINGS, is_right};
use crate::layer_writer::xattrs;
use crate::limits::MAX_CHUNK_LEN;
use crate::toc::names;
use crate::toc::{EntryKind, TocEntry};
use crate::verified::Verified;
use crate::verify_layer::examine;

impl LayerReceiver {
    /// Finds what is wrong, makes room for it, and counts everything else as here. Gives the entries that are wrong.
    pub(super) fn begin_repair(&self) -> Result<HashSet<u32>, ReceiveError> {
        let layer = &self.layer.digest;
        let dir = self.store.layer_dir(layer);
        let mut verified = Verified::read(
            &self.store.verified_path(layer),
            &self.toc,
            &self.layer.toc.digest,
        );
        let findings = examine(&self.toc, &dir, &mut verified, &AtomicBool::new(false))?;
        let wrong: HashSet<u32> = findings.entries.into_keys().collect();
        let mut strangers = findings.strangers;
        loop {
            for stranger in &strangers {
                let path = dir.join(stranger);
                files::remove_tree(&path).map_err(ReceiveError::io(*layer, "remove", &path))?;
            }
            if strangers.len() < MAX_FINDINGS {
                break;
            }
            let next = Check::open(&self.toc, &dir)?.strangers(MAX_FINDINGS);
            // Names that cannot be written here: whoever verifies the layer finds them again.
            if next == strangers {
                break;
            }
            strangers = next;
        }
        // Folders before what lies in them.
        for entry in self.toc.by_path() {
            self.step("make room for", entry, || self.make_room(entry))?;
        }
        for (index, entry) in self.toc.entries().iter().enumerate() {
            if let EntryKind::File { chunks, .. } = &entry.kind {
                if wrong.contains(&(index as u32)) {
                    self.step("read", entry, || self.count_right_chunks(entry))?;
                } else {
                    chunks.clone().for_each(|chunk| self.count(chunk, false));
                }
            }
        }
        Ok(wrong)
    }

    /// Puts right what is no content: links, owners, modes, times, whiteouts. Then the layer is whole again, as far as anybody knows:
    /// what was put right looks changed, so it is read once more before something is built on it.
    pub(super) fn complete_repair(&self, wrong: &HashSet<u32>) -> Result<(), ReceiveError> {
        let layer = self.layer.digest;
        let entries = || self.toc.entries().iter().enumerate();
        for (_, entry) in entries().filter(|(index, _)| wrong.contains(&(*index as u32))) {
            self.step("put right", entry, || match &entry.kind {
                EntryKind::Symlink { target } => self.make_symlink(entry, target),
                EntryKind::HardLink { target } => {
                    self.tree.unlink(&entry.path)?;
                    self.make_hard_link(entry, &self.toc.entries()[*target as usize])
                }
                EntryKind::Whiteout => self.make_whiteout(entry),
                EntryKind::File { .. } => {
                    self.remove_other_xattrs(entry)?;
                    self.complete_file(entry)
                }
                EntryKind::Directory { .. } => self.remove_other_xattrs(entry),
            })?;
        }
        self.complete_folders()?;
        self.write_record()?;
        let root = self.tree.display("");
        rustix::fs::syncfs(self.tree.root()).map_err(ReceiveError::io(layer, "sync", &root))?;
        Ok(self.store.remove_damage_mark(&layer)?)
    }

    /// Whatever is in the place of an entry and is none of its kind goes; a folder is there afterwards.
    fn make_room(&self, entry: &TocEntry) -> io::Result<()> {
        let kind = match &entry.kind {
            EntryKind::Directory { .. } => FileType::Directory,
            EntryKind::File { .. } | EntryKind::HardLink { .. } => FileType::RegularFile,
            EntryKind::Symlink { .. } => FileType::Symlink,
            EntryKind::Whiteout => FileType::CharacterDevice,
        };
        let found = self.tree.stat(&entry.path)?;
        let found = found.map(|stat| FileType::from_raw_mode(stat.st_mode));
        if entry.path.is_empty() || found == Some(kind) {
            return Ok(());
        }
        if found.is_some() {
            files::remove_tree(&self.tree.display(&entry.path))?;
        }
        if kind == FileType::Directory {
            let (folder, name) = self.tree.parent(&entry.path)?;
            rustix::fs::mkdirat(folder, name, PRIVATE_FOLDER)?;
        }
        Ok(())
    }

    /// Counts the chunks of a damaged file that are right. Of a hole nothing travels: it is made one again.
    fn count_right_chunks(&self, entry: &TocEntry) -> io::Result<()> {
        let EntryKind::File { size, chunks, .. } = &entry.kind else {
            return Ok(());
        };
        // Also one that is missing, or too long.
        let file = self.tree.shared_file_for_writing(&entry.path, *size)?;
        let mut buffer = Vec::new();
        for index in chunks.clone() {
            let chunk = &self.toc.chunks()[index as usize];
            let mut right = is_right(&file, chunk, &mut buffer)?;
            if !right && chunk.zeros {
                let zeros = vec![0; MAX_CHUNK_LEN as usize];
                let (mut at, end) = (chunk.file_offset, chunk.file_offset + chunk.len);
                while at < end {
                    let len = (end - at).min(zeros.len() as u64);
                    file.write_all_at(&zeros[..len as usize], at)?;
                    at += len;
                }
                right = true;
            }
            if right {
                self.count(index, false);
            }
        }
        Ok(())
    }

    /// Removes extended attributes that the layer does not have.
    fn remove_other_xattrs(&self, entry: &TocEntry) -> io::Result<()> {
        let path = self.tree.display(&entry.path);
        for (name, _) in xattrs(&path)? {
            let known = entry.xattrs.iter().any(|(known, _)| *known == name);
            if !known && names::carries_xattr(&name) {
                match rustix::fs::lremovexattr(&path, name.as_str()) {
                    Ok(()) | Err(Errno::NODATA) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}
