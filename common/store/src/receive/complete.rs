//! The last steps of a layer: everything but file content, in an order that makes each step possible, then the one
//! rename. Every step can be run twice, because a crash may come between any two.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use gantry_system::files;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::LayerReceiver;
use super::error::ReceiveError;
use crate::toc::names::{self, OPAQUE_NAME, WHITEOUT_PREFIX};
use crate::toc::{EntryKind, TocEntry};
use crate::verified::Verified;

/// Mark of an opaque folder for mounts by root.
const OPAQUE_TRUSTED: &str = "trusted.overlay.opaque";
/// Mark of an opaque folder for mounts with `userxattr`, inside user namespaces.
const OPAQUE_USER: &str = "user.overlay.opaque";

impl LayerReceiver {
    /// Gives every entry what it still lacks.
    pub(super) fn complete_tree(&self) -> Result<(), ReceiveError> {
        // Names of this layer's own hard links from an interrupted finish: without them, a file with several names is
        // one that belongs to other layers too.
        for link in self.entries(|kind| matches!(kind, EntryKind::HardLink { .. })) {
            self.step("remove", link, || self.tree.unlink(&link.path))?;
        }
        for file in self.entries(|kind| matches!(kind, EntryKind::File { .. })) {
            self.step("complete", file, || self.complete_file(file))?;
        }
        for entry in self.toc.entries() {
            match &entry.kind {
                EntryKind::Symlink { target } => {
                    self.step("link", entry, || self.make_symlink(entry, target))?;
                }
                EntryKind::HardLink { target } => {
                    let target = &self.toc.entries()[*target as usize];
                    self.step("link", entry, || self.make_hard_link(entry, target))?;
                }
                EntryKind::Whiteout => self.step("hide", entry, || self.make_whiteout(entry))?,
                EntryKind::Directory { .. } | EntryKind::File { .. } => {}
            }
        }
        self.complete_folders()
    }

    /// Deepest first: a folder gets its time after everything in it was made, and its mode after that.
    pub(super) fn complete_folders(&self) -> Result<(), ReceiveError> {
        for folder in self.toc.by_path().rev() {
            if let EntryKind::Directory { opaque } = folder.kind {
                self.step("complete", folder, || self.complete_folder(folder, opaque))?;
            }
        }
        if self.toc.entry("").is_none() {
            let root = TocEntry::implied_folder("");
            self.step("complete", &root, || self.complete_folder(&root, false))?;
        }
        Ok(())
    }

    /// Makes the complete tree durable, then visible, and remembers what of it was verified. From here on the layer is on this
    /// host.
    pub(super) fn publish(&self) -> Result<(), ReceiveError> {
        let (overlay2, dir) = (
            self.store.overlay2_dir(),
            self.store.layer_dir(&self.layer.digest),
        );
        let tree = self.tree.display("");
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| ReceiveError::io(self.layer.digest, action, path)(error)
        };
        // Without its folder in overlay2 a record means nothing, so the rename below is what counts.
        self.write_record()?;
        // Of a layer that was removed, and not to the end.
        self.store.remove_damage_mark(&self.layer.digest)?;
        fs::create_dir_all(&overlay2).map_err(io("create", &overlay2))?;
        // Without a record it was no layer: left by a removal that did not end.
        files::remove_tree(&dir).map_err(io("remove", &dir))?;
        // Everything at once: the record lies on the same file system, or the rename fails.
        rustix::fs::syncfs(self.tree.root()).map_err(|error| io("sync", &tree)(error.into()))?;
        fs::rename(&tree, &dir).map_err(io("rename to", &dir))?;
        files::sync_dir(&overlay2).map_err(io("sync", &overlay2))?;
        self.note_verified()
    }

    /// Writes what says which layer this is, and what is in it.
    pub(super) fn write_record(&self) -> Result<(), ReceiveError> {
        let record = self.store.record_dir(&self.layer.digest);
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| ReceiveError::io(self.layer.digest, action, path)(error)
        };
        fs::create_dir_all(&record).map_err(io("create", &record))?;
        let descriptor =
            serde_json::to_vec_pretty(&self.layer).map_err(|error| io("write", &record)(error.into()))?;
        for (name, bytes) in [("descriptor.json", &descriptor), ("toc", &self.compressed_toc)] {
            let path = record.join(name);
            fs::write(&path, bytes).map_err(io("write", &path))?;
        }
        Ok(())
    }

    /// Remembers how everything looks that was verified in this session.
    pub(super) fn note_verified(&self) -> Result<(), ReceiveError> {
        let layer = &self.layer.digest;
        let unread = |entry| self.unread.contains(&entry);
        let verified = Verified::all(&self.toc, &self.store.layer_dir(layer), unread);
        Ok(verified.write(&self.store.verified_path(layer), &self.layer.toc.digest)?)
    }

    fn entries(&self, wanted: impl Fn(&EntryKind) -> bool) -> impl Iterator<Item = &TocEntry> {
        self.toc.entries().iter().filter(move |entry| wanted(&entry.kind))
    }

    pub(super) fn step(
        &self,
        action: &'static str,
        entry: &TocEntry,
        work: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), ReceiveError> {
        work().map_err(ReceiveError::io(
            self.layer.digest,
            action,
            self.tree.display(&entry.path),
        ))
    }

    pub(super) fn complete_file(&self, entry: &TocEntry) -> io::Result<()> {
        let EntryKind::File { size, chunks, .. } = &entry.kind else {
            return Ok(());
        };
        let all = &self.toc.chunks()[chunks.start as usize..chunks.end as usize];
        let file: OwnedFd = if all.iter().all(|chunk| chunk.zeros) {
            // Nothing travelled: it may not exist yet.
            self.openable(entry)?;
            self.tree.file_for_writing(&entry.path, *size)?.into()
        } else {
            match self.tree.open_at(&entry.path, OFlags::RDONLY) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.openable(entry)?;
                    self.tree.open_at(&entry.path, OFlags::RDONLY)?
                }
                file => file?,
            }
        };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file any more"));
        }
        // Shared with another layer, which has the same owner, mode, time and attributes.
        if stat.st_nlink > 1 && self.repaired.is_none() {
            return Ok(());
        }
        if self.root && (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
            rustix::fs::fchown(
                &file,
                Some(Uid::from_raw(entry.uid)),
                Some(Gid::from_raw(entry.gid)),
            )?;
        }
        self.set_xattrs(&file, entry)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))?;
        Ok(rustix::fs::futimens(&file, &times(entry))?)
    }

    /// After an interrupted finish an ordinary user may not open a file that has its final mode.
    fn openable(&self, entry: &TocEntry) -> io::Result<()> {
        match self.tree.stat(&entry.path)? {
            Some(stat) if !self.root && stat.st_nlink == 1 => {
                let (folder, name) = self.tree.parent(&entry.path)?;
                Ok(rustix::fs::chmodat(
                    folder,
                    name,
                    Mode::RUSR | Mode::WUSR,
                    AtFlags::empty(),
                )?)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn make_symlink(&self, entry: &TocEntry, target: &str) -> io::Result<()> {
        self.tree.unlink(&entry.path)?;
        let (folder, name) = self.tree.parent(&entry.path)?;
        rustix::fs::symlinkat(target, &folder, name)?;
        if self.root {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(&folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(rustix::fs::utimensat(
            &folder,
            name,
            &times(entry),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    pub(super) fn make_hard_link(&self, entry: &TocEntry, target: &TocEntry) -> io::Result<()> {
        let (from, from_name) = self.tree.parent(&target.path)?;
        let (to, to_name) = self.tree.parent(&entry.path)?;
        Ok(rustix::fs::linkat(
            from,
            from_name,
            to,
            to_name,
            AtFlags::empty(),
        )?)
    }

    /// Overlay's whiteout: a character device 0:0. Where the kernel allows that to root only (before 5.8) and we are
    /// not root, the mark stays a file `.wh.NAME`, which mounts do not understand, but only root mounts there.
    pub(super) fn make_whiteout(&self, entry: &TocEntry) -> io::Result<()> {
        self.tree.unlink(&entry.path)?;
        let (folder, name) = self.tree.parent(&entry.path)?;
        match rustix::fs::mknodat(&folder, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::PERM) if !self.root => {
                let mark = names::join(names::parent(&entry.path).unwrap_or_default(), &mark_name(name));
                self.tree.file_for_writing(&mark, 0).map(drop)
            }
            result => Ok(result?),
        }
    }

    pub(super) fn complete_folder(&self, entry: &TocEntry, opaque: bool) -> io::Result<()> {
        let folder = self
            .tree
            .open_at(&entry.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if self.root {
            rustix::fs::fchown(
                &folder,
                Some(Uid::from_raw(entry.uid)),
                Some(Gid::from_raw(entry.gid)),
            )?;
        }
        self.set_xattrs(&folder, entry)?;
        if opaque {
            self.make_opaque(&folder, entry)?;
        }
        // An ordinary user can rename a folder only while it may write into it.
        let renamed = if entry.path.is_empty() && !self.root {
            0o700
        } else {
            0
        };
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(entry.mode | renamed))?;
        Ok(rustix::fs::futimens(&folder, &times(entry))?)
    }

    /// Root's mark where we may set it, else the one for user namespaces; on file systems that have neither, the file
    /// `.wh..wh..opq` stays as in the tar stream.
    fn make_opaque(&self, folder: &OwnedFd, entry: &TocEntry) -> io::Result<()> {
        for name in [OPAQUE_TRUSTED, OPAQUE_USER] {
            match rustix::fs::fsetxattr(folder, name, b"y", XattrFlags::empty()) {
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS)
                    if !self.root || name == OPAQUE_TRUSTED => {}
                result => return Ok(result?),
            }
        }
        self.tree
            .file_for_writing(&names::join(&entry.path, OPAQUE_NAME), 0)
            .map(drop)
    }

    fn set_xattrs(&self, file: impl AsFd, entry: &TocEntry) -> io::Result<()> {
        for (name, value) in &entry.xattrs {
            match rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty()) {
                // An ordinary user may not give a file capabilities; the table of contents still knows them.
                Err(Errno::PERM) if !self.root => {}
                Err(error) => return Err(io::Error::other(format!("cannot set {name}: {error}"))),
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

fn mark_name(name: &str) -> String {
    format!("{WHITEOUT_PREFIX}{name}")
}

fn times(entry: &TocEntry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime.seconds,
        tv_nsec: entry.mtime.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
