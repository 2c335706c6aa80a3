//! This module owns [`Tree`]: files below one folder, and nothing else. No link is followed, no path leads out.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::toc::names;

/// Mode of files and folders while their layer is not complete.
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
pub(super) const PRIVATE_FOLDER: Mode = Mode::RWXU;

/// The files below one folder. Paths are those of a checked table of contents.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    path: PathBuf,
    /// `openat2` came with Linux 5.6; below that every folder on the way is opened in turn.
    one_step: AtomicBool,
}

impl Tree {
    /// The tree below `path`, which must be a folder and no link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self {
            root,
            path: path.to_owned(),
            one_step: AtomicBool::new(true),
        })
    }

    /// Where `path` of this tree lies on the host, for messages.
    pub(crate) fn display(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens what is at `path`, which is no link and not reached through one.
    pub(crate) fn open_at(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = if path.is_empty() { "." } else { path };
        if self.one_step.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Old kernels do not know it, some sandboxes forbid it.
                Err(Errno::NOSYS | Errno::PERM) => self.one_step.store(false, Ordering::Relaxed),
                Err(Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
        if path.split('/').any(|part| part == "..") {
            return Err(Errno::XDEV.into());
        }
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at: Option<OwnedFd> = None;
        let (way, name) = path
            .rsplit_once('/')
            .map_or((None, path), |(way, name)| (Some(way), name));
        for part in way.into_iter().flat_map(|way| way.split('/')) {
            let next = rustix::fs::openat(
                at.as_ref().map_or(self.root(), AsFd::as_fd),
                part,
                folder,
                Mode::empty(),
            )?;
            at = Some(next);
        }
        Ok(rustix::fs::openat(
            at.as_ref().map_or(self.root(), AsFd::as_fd),
            name,
            flags,
            Mode::empty(),
        )?)
    }

    /// The folder that `path` lies in, and the name of `path` in it.
    pub(crate) fn parent<'p>(&self, path: &'p str) -> io::Result<(OwnedFd, &'p str)> {
        let folder = self.open_at(
            names::parent(path).unwrap_or_default(),
            OFlags::PATH | OFlags::DIRECTORY,
        )?;
        Ok((folder, names::base(path)))
    }

    /// What is at `path`, without following it. None when nothing is.
    pub(crate) fn stat(&self, path: &str) -> io::Result<Option<Stat>> {
        let found = self
            .parent(path)
            .and_then(|(folder, name)| Ok(rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?));
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes sure that `path` is a folder its owner can work in.
    pub(crate) fn make_folder(&self, path: &str) -> io::Result<()> {
        if !path.is_empty() {
            let (folder, name) = self.parent(path)?;
            match rustix::fs::mkdirat(&folder, name, PRIVATE_FOLDER) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            // From an interrupted finish: it may have got its final mode, which keeps ordinary users out.
            let found = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
                return Err(Errno::NOTDIR.into());
            }
            return Ok(rustix::fs::chmodat(
                &folder,
                name,
                PRIVATE_FOLDER,
                AtFlags::empty(),
            )?);
        }
        Ok(rustix::fs::fchmod(&self.root, PRIVATE_FOLDER)?)
    }

    /// Opens the regular file at `path` for writing, made with `size` bytes of hole if it is not there.
    ///
    /// A file that has another name somewhere is refused: it may belong to another layer.
    pub(crate) fn file_for_writing(&self, path: &str, size: u64) -> io::Result<File> {
        let (file, stat) = self.open_for_writing(path)?;
        if stat.st_nlink != 1 {
            return Err(io::Error::other("it is not a file of this transfer alone"));
        }
        sized(file, &stat, size)
    }

    /// As [`Self::file_for_writing`], also where other layers have the same file: what is right here is right there.
    pub(crate) fn shared_file_for_writing(&self, path: &str, size: u64) -> io::Result<File> {
        let (file, stat) = self.open_for_writing(path)?;
        sized(file, &stat, size)
    }

    fn open_for_writing(&self, path: &str) -> io::Result<(OwnedFd, Stat)> {
        let (folder, name) = self.parent(path)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            match rustix::fs::openat(&folder, name, flags | OFlags::CREATE | OFlags::EXCL, PRIVATE_FILE) {
                Err(Errno::EXIST) => {
                    rustix::fs::openat(&folder, name, flags | OFlags::NONBLOCK, Mode::empty())?
                }
                result => result?,
            };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok((file, stat))
    }

    /// Removes the name `path` unless it is a folder's. What is not there is removed already.
    pub(crate) fn unlink(&self, path: &str) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn sized(file: OwnedFd, stat: &Stat, size: u64) -> io::Result<File> {
    if stat.st_size.cast_unsigned() != size {
        rustix::fs::ftruncate(&file, size)?;
    }
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn both_ways(check: impl Fn(&Tree, &Path)) {
        for one_step in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("tree");
            fs::create_dir(&root).unwrap();
            fs::create_dir(dir.path().join("outside")).unwrap();
            let tree = Tree::open(&root).unwrap();
            tree.one_step.store(one_step, Ordering::Relaxed);
            check(&tree, dir.path());
        }
    }

    #[test]
    fn files_are_made_below_the_root_as_holes() {
        both_ways(|tree, dir| {
            tree.make_folder("a").unwrap();
            tree.make_folder("a/b").unwrap();
            tree.make_folder("a/b").unwrap();
            drop(tree.file_for_writing("a/b/c", 10_000).unwrap());
            assert_eq!(fs::read(dir.join("tree/a/b/c")).unwrap(), vec![0; 10_000]);
            tree.unlink("a/b/c").unwrap();
            tree.unlink("a/b/c").unwrap();
            assert!(tree.stat("a/b/c").unwrap().is_none());
        });
    }

    #[test]
    fn no_link_is_followed_out_or_inside() {
        both_ways(|tree, dir| {
            tree.make_folder("in").unwrap();
            symlink("../outside", dir.join("tree/out")).unwrap();
            symlink("in", dir.join("tree/alias")).unwrap();
            fs::write(dir.join("outside/file"), "theirs").unwrap();
            symlink("../outside/file", dir.join("tree/file")).unwrap();
            for path in ["out/new", "alias/new", "../outside/new", "file"] {
                assert!(tree.file_for_writing(path, 0).is_err(), "{path}");
            }
            assert_eq!(fs::read(dir.join("outside/file")).unwrap(), b"theirs");
            assert!(!dir.join("outside/new").exists());
        });
    }

    #[test]
    fn a_file_with_a_second_name_is_not_written_to() {
        both_ways(|tree, dir| {
            fs::write(dir.join("outside/file"), "theirs").unwrap();
            fs::hard_link(dir.join("outside/file"), dir.join("tree/file")).unwrap();
            assert!(tree.file_for_writing("file", 0).is_err());
        });
    }
}
