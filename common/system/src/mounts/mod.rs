//! Overlay mounts, unmounting, and the kernel's mount table.

mod overlay;
mod table;

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

pub use overlay::{MAX_LOWER, OverlayMount};
pub use table::{MountPoint, parse_mountinfo};

/// Every mount of this thread's mount namespace, in the order they were made.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn table() -> io::Result<Vec<MountPoint>> {
    Ok(parse_mountinfo(&std::fs::read("/proc/thread-self/mountinfo")?))
}

/// Mount points at or below `path`, in the order they were made. Stacked mounts are named as often as they are there.
///
/// # Errors
/// When the mount table cannot be read.
pub fn below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let path = real(path);
    Ok(table()?
        .into_iter()
        .map(|mount| mount.target)
        .filter(|target| target.starts_with(&path))
        .collect())
}

/// Whether something is mounted at `path` itself.
///
/// # Errors
/// When the mount table cannot be read.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let path = real(path);
    Ok(table()?.iter().any(|mount| mount.target == path))
}

/// Lets nobody gain rights by what is mounted at `target`: it is read-only, its programs give nobody another user's rights, and
/// it has no devices.
///
/// # Errors
/// When nothing is mounted there, or the kernel refuses.
pub fn harmless(target: &Path) -> io::Result<()> {
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount(target, flags, "").map_err(|error| {
        let reason = io::Error::from(error);
        io::Error::new(
            reason.kind(),
            format!("cannot take rights away from {}: {reason}", target.display()),
        )
    })
}

/// Unmounts what is on top at `target`; links are not followed.
///
/// # Errors
/// When nothing is mounted there, or it is busy.
pub fn unmount(target: &Path) -> io::Result<()> {
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW).map_err(|error| named(target, error.into()))
}

/// Unmounts everything at and below `path`, the last mounted first.
///
/// A busy mount is detached: it vanishes from the tree now and is gone when its last user lets go. The
/// targets of those are returned.
///
/// # Errors
/// When the mount table cannot be read or a mount can be neither unmounted nor detached.
pub fn unmount_all(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut detached = Vec::new();
    for target in below(path)?.into_iter().rev() {
        match rustix::mount::unmount(&target, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Gone with a mount above it, or unmounted by another mount namespace's propagation.
            Err(Errno::INVAL | Errno::NOENT) if !is_mount_point(&target)? => {}
            Err(Errno::BUSY) => {
                rustix::mount::unmount(&target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
                    .map_err(|error| named(&target, error.into()))?;
                detached.push(target);
            }
            Err(error) => return Err(named(&target, error.into())),
        }
    }
    Ok(detached)
}

/// The mount table shows real paths: links in the way have to be resolved before comparing.
fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn named(target: &Path, error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot unmount {}: {error}", target.display()),
    )
}
