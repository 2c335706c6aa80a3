//! This module owns [`Place`]: where a regular file is, or is to be, in an open folder; and [`Tree`], which finds that
//! folder below the top of a rootfs. No link is followed and no mount is crossed.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

/// Beside the file that is written, until it is whole.
const FRESH: &str = ".gantry-fresh";
/// Mode of folders that are made.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Whose a file is, and what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ownership {
    /// Mode, kind of file included.
    pub(crate) mode: u32,
    /// User.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

impl From<&Stat> for Ownership {
    fn from(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }
}

/// A name in an open folder.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    folder: BorrowedFd<'a>,
    name: String,
}

impl<'a> Place<'a> {
    pub(crate) fn new(folder: BorrowedFd<'a>, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { folder, name }
    }

    /// What is there; nothing when nothing is.
    pub(crate) fn stat(&self) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The regular file that is there, unless it is longer than `most`.
    pub(crate) fn read(&self, most: usize) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(self.folder, &self.name, flags, Mode::empty())?);
        let mut bytes = Vec::new();
        file.take(most as u64 + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() <= most).then_some(bytes))
    }

    /// Makes it a file of its own with this content: written beside, synced, renamed, and the folder synced.
    pub(crate) fn put(&self, content: &[u8], ownership: Ownership) -> io::Result<()> {
        let fresh = format!("{}{FRESH}", self.name);
        match rustix::fs::unlinkat(self.folder, &fresh, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(self.folder, &fresh, flags, Mode::RUSR)?);
        file.write_all(content)?;
        if rustix::process::geteuid().is_root() {
            let (uid, gid) = (Uid::from_raw(ownership.uid), Gid::from_raw(ownership.gid));
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(ownership.mode))?;
        file.sync_all()?;
        rustix::fs::renameat(self.folder, &fresh, self.folder, &self.name)?;
        Ok(rustix::fs::fsync(self.folder)?)
    }

    /// Removes the file, if there is one.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match rustix::fs::unlinkat(self.folder, &self.name, AtFlags::empty()) {
            Ok(()) => Ok(rustix::fs::fsync(self.folder)?),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether `stat` is that of a regular file.
pub(crate) fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// The top folder of a rootfs.
#[derive(Debug)]
pub(crate) struct Tree {
    top: OwnedFd,
    device: u64,
}

impl Tree {
    /// Opens the folder at `path`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let device = rustix::fs::fstat(&top)?.st_dev;
        Ok(Self { top, device })
    }

    /// The folder in which the last name of `path` stands, and that name; none when there is no such folder.
    pub(crate) fn find<'p>(&self, path: &'p str) -> io::Result<Option<(OwnedFd, &'p str)>> {
        match self.walk(path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// As [`Self::find`]; folders that are not there are made.
    pub(crate) fn make<'p>(&self, path: &'p str) -> io::Result<(OwnedFd, &'p str)> {
        self.walk(path, true)
    }

    fn walk<'p>(&self, path: &'p str, make: bool) -> io::Result<(OwnedFd, &'p str)> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder = self.top.try_clone()?;
        for next in folders.split('/').filter(|next| !next.is_empty()) {
            let made = make
                && match rustix::fs::mkdirat(&folder, next, FOLDER_MODE) {
                    Ok(()) => true,
                    Err(Errno::EXIST) => false,
                    Err(error) => return Err(error.into()),
                };
            let inner = match rustix::fs::openat(folder.as_fd(), next, FOLDER, Mode::empty()) {
                Ok(inner) => inner,
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Err(io::Error::other(format!("{next} above it is not a folder")));
                }
                Err(error) => return Err(error.into()),
            };
            if rustix::fs::fstat(&inner)?.st_dev != self.device {
                return Err(io::Error::other(format!(
                    "something is mounted at {next} above it"
                )));
            }
            if made {
                // Whatever the umask is.
                rustix::fs::fchmod(&inner, FOLDER_MODE)?;
                rustix::fs::fsync(&folder)?;
            }
            folder = inner;
        }
        Ok((folder, name))
    }
}
