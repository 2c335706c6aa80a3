//! Removal of a tree that never leaves it: no link is followed, no mount is crossed.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, StatxAttributes, StatxFlags, fchmod, openat, statat, statx, unlinkat,
};
use rustix::io::Errno;

/// Removes `path` and everything below it. What does not exist is removed already.
///
/// A symlink is removed, not followed. A mount point below (or at) `path` stops the removal before anything
/// inside the mount is touched.
///
/// # Errors
/// When something cannot be removed, or a mount point was met ([`io::ErrorKind::CrossesDevices`]).
pub fn remove_tree(path: &Path) -> io::Result<()> {
    // The parent is the caller's own path and may contain links; from the last name on nothing is followed.
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} has no name to remove", path.display()),
        ));
    };
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let parent = match openat(
        CWD,
        parent,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let name = std::ffi::CString::new(name.as_encoded_bytes())?;
    let device = match statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat.st_dev,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    remove_tree_at(parent.as_fd(), &name, device)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot remove {}: {error}", path.display())))
}

/// One folder on the way down: where it hangs, its open descriptor, its names still to do.
struct Level {
    name: std::ffi::CString,
    folder: OwnedFd,
    names: Vec<std::ffi::CString>,
}

/// Depth is bounded by the heap, not by the stack: hostile trees are deep.
fn remove_tree_at(parent: BorrowedFd<'_>, name: &CStr, device: u64) -> io::Result<()> {
    let mut levels: Vec<Level> = Vec::new();
    let mut next = Some(name.to_owned());
    loop {
        let above = levels.last().map_or(parent, |level| level.folder.as_fd());
        if let Some(name) = next.take() {
            match unlinkat(above, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                // Linux says EISDIR for a folder, some file systems EPERM.
                Err(Errno::ISDIR | Errno::PERM) => {
                    let folder = open_folder(above, &name, device)?;
                    let names = names_in(folder.as_fd())?;
                    levels.push(Level { name, folder, names });
                }
                Err(error) => return Err(named(&name, error.into())),
            }
        }
        let Some(level) = levels.last_mut() else {
            return Ok(());
        };
        next = level.names.pop();
        if next.is_none() {
            let done = levels.pop().expect("the level was just seen");
            drop(done.folder);
            let above = levels.last().map_or(parent, |level| level.folder.as_fd());
            match unlinkat(above, &done.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(named(&done.name, error.into())),
            }
        }
    }
}

fn open_folder(above: BorrowedFd<'_>, name: &CStr, device: u64) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let stat = statat(above, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_dev != device || is_mount_root(above, name) {
        return Err(io::Error::new(
            io::ErrorKind::CrossesDevices,
            format!("{} is a mount point; unmount it first", name.to_string_lossy()),
        ));
    }
    match openat(above, name, flags, Mode::empty()) {
        // An ordinary user's own folder without read permission (0o000 in an image).
        Err(Errno::ACCESS) => {
            let handle = openat(
                above,
                name,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW,
                Mode::empty(),
            )?;
            make_accessible(&handle).map_err(|error| named(name, error))?;
            openat(above, name, flags, Mode::empty()).map_err(|error| named(name, error.into()))
        }
        Ok(folder) => {
            // Emptying needs write and search permission too.
            if Mode::from_raw_mode(stat.st_mode) & Mode::RWXU != Mode::RWXU {
                fchmod(&folder, Mode::RWXU)
                    .or_else(|error| if error == Errno::PERM { Ok(()) } else { Err(error) })?;
            }
            Ok(folder)
        }
        Err(error) => Err(named(name, error.into())),
    }
}

fn make_accessible(folder: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
    rustix::fs::chmod(path, Mode::RWXU).map_err(Into::into)
}

/// A bind mount of the same file system has the same device; the kernel marks mount roots since 5.8.
fn is_mount_root(above: BorrowedFd<'_>, name: &CStr) -> bool {
    statx(
        above,
        name,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        StatxFlags::TYPE,
    )
    .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn names_in(folder: BorrowedFd<'_>) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn named(name: &CStr, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", name.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_tree_is_removed_and_what_its_links_lead_to_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, outside) = (folder.path().join("tree"), folder.path().join("outside"));
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        fs::write(tree.join("a/file"), "x").unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("kept").exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_link_in_the_place_of_the_tree_is_removed_itself() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink(&outside, folder.path().join("tree")).unwrap();
        remove_tree(&folder.path().join("tree")).unwrap();
        assert!(outside.exists() && fs::symlink_metadata(folder.path().join("tree")).is_err());
    }

    #[test]
    fn folders_without_permissions_and_deep_folders_are_no_obstacle() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("closed/inner")).unwrap();
        fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        let mut deep = tree.join("deep");
        for _ in 0..300 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
