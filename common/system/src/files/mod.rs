//! Files that survive a crash, locks between programs, removal that stays inside its root.

mod lock;
mod remove;

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

pub use lock::FileLock;
pub use remove::remove_tree;

/// Makes `path` hold `bytes` with permission bits `mode`: all of them or, after a crash, what was there before.
///
/// Written beside, synced, renamed, and the folder synced.
///
/// # Errors
/// When the folder is missing or cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = parent(path);
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_dir(folder)
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
    // A private folder gives the new link a name nobody else can take before the rename.
    let aside = tempfile::Builder::new().prefix(".new-").tempdir_in(folder)?;
    let fresh = aside.path().join("link");
    std::os::unix::fs::symlink(target, &fresh)?;
    std::fs::rename(&fresh, link)?;
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
    fn a_failed_atomic_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write_atomically(&path, b"new", 0o644).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_symlink_is_switched_and_a_folder_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("rootfs");
        replace_symlink(Path::new("generations/1"), &link).unwrap();
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
