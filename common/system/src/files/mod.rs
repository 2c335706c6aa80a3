//! Files that survive a crash, locks between programs, removal that stays inside its root.

mod lock;
mod remove;

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

pub use lock::FileLock;
pub use remove::remove_tree;

/// Makes `path` hold `bytes` with permission bits `mode`: all of them or, after a crash, what was there before.
///
/// Written without a name, synced, named beside, renamed, and the folder synced. A program that is killed on the way leaves nothing
/// in the folder, but for one that dies between the last two calls; where the file system has no files without names, what it had
/// written stays beside.
///
/// # Errors
/// When the folder is missing or cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = parent(path);
    let mut file = match nameless(folder) {
        Ok(file) => file,
        // A file with a name would fail as well, and the error would speak of that name.
        Err(error) if is_of_the_folder(&error) => return Err(error),
        Err(_) => {
            let mut file = beside().tempfile_in(folder)?;
            write_whole(file.as_file_mut(), bytes, mode)?;
            file.persist(path).map_err(|error| error.error)?;
            return sync_dir(folder);
        }
    };
    write_whole(&mut file, bytes, mode)?;
    // open(2), `O_TMPFILE`: the way that needs no privilege.
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    let named = beside().make_in(folder, |name| {
        let follow = AtFlags::SYMLINK_FOLLOW;
        linkat(CWD, &opened, CWD, name, follow).map_err(io::Error::from)
    })?;
    named.persist(path).map_err(|error| error.error)?;
    sync_dir(folder)
}

/// A file that is in no folder yet, on the file system of `folder`.
fn nameless(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(open(folder, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Whether no file can be made in the folder, whatever its name.
fn is_of_the_folder(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(
        error.kind(),
        NotFound | NotADirectory | PermissionDenied | ReadOnlyFilesystem
    )
}

fn write_whole(file: &mut File, bytes: &[u8], mode: u32) -> io::Result<()> {
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Names of files that are about to get another.
fn beside() -> tempfile::Builder<'static, 'static> {
    let mut names = tempfile::Builder::new();
    names.prefix(".new-");
    names
}

/// Makes the entries of the folder `path` durable.
///
/// # Errors
/// When it cannot be opened or synced.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes `link` a symlink to `target`, by one rename, whatever link or file was there; a folder is not replaced.
///
/// # Errors
/// When the folder is missing or cannot be written, or `link` is a folder.
pub fn replace_symlink(target: &Path, link: &Path) -> io::Result<()> {
    let folder = parent(link);
    // Where nothing is there, one call makes it: whoever is killed leaves nothing beside.
    match std::os::unix::fs::symlink(target, link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.and_then(|()| sync_dir(folder)),
    }
    let mut name = OsString::from(".new-");
    name.push(link.file_name().unwrap_or_default());
    // Always the same name: what somebody who was killed left there goes now.
    let fresh = folder.join(name);
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &fresh)?;
    if let Err(error) = std::fs::rename(&fresh, link) {
        std::fs::remove_file(&fresh)?;
        return Err(error);
    }
    sync_dir(folder)
}

/// Space on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total: u64,
    /// Free for this program: what is reserved for root counts only for root.
    pub free: u64,
}

/// The space of the file system that holds `path`.
///
/// # Errors
/// When `path` does not exist.
pub fn space(path: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    let blocks = if rustix::process::geteuid().is_root() {
        stat.f_bfree
    } else {
        stat.f_bavail
    };
    Ok(Space {
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
        free: blocks.saturating_mul(stat.f_frsize),
    })
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_atomic_write_replaces_the_whole_file_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "a much longer old text").unwrap();
        write_atomically(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_whole_yet_is_in_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = nameless(folder.path()).unwrap();
        write_whole(&mut file, b"half of it", 0o600).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_failed_atomic_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write_atomically(&path, b"new", 0o644).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let absent = write_atomically(&folder.path().join("absent/key.pem"), b"new", 0o644).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        assert!(!absent.to_string().contains(".new-"), "{absent}");
    }

    #[test]
    fn a_symlink_is_switched_and_a_folder_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("rootfs");
        replace_symlink(Path::new("generations/1"), &link).unwrap();
        // What one that was killed left there.
        fs::write(folder.path().join(".new-rootfs"), "cut off").unwrap();
        replace_symlink(Path::new("generations/2"), &link).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("generations/2"));
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        assert!(replace_symlink(Path::new("generations/3"), &link).is_err());
        assert!(link.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn space_is_known() {
        let space = space(Path::new("/")).unwrap();
        assert!(space.total >= space.free && space.total > 0);
    }
}
