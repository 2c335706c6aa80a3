//! The seam between a rootfs and the kernel's mounts.

use std::io;
use std::path::{Path, PathBuf};

use gantry_system::mounts::{self, OverlayMount};

/// What a rootfs asks of the kernel.
pub trait Mounter: Clone + Send + Sync + 'static {
    /// Mounts an overlay of `lower` (top first) with its writable folder at `target`.
    ///
    /// # Errors
    /// When the kernel refuses; the text names `target`.
    fn mount(&self, lower: Vec<PathBuf>, upper: &Path, work: &Path, target: &Path) -> io::Result<()>;

    /// Whether something is mounted at `target`.
    ///
    /// # Errors
    /// When the mount table cannot be read.
    fn is_mounted(&self, target: &Path) -> io::Result<bool>;

    /// Unmounts everything at and below `folder`; gives what was busy and was detached.
    ///
    /// # Errors
    /// When something can be neither unmounted nor detached.
    fn unmount_all(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The mounts of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostMounts;

impl Mounter for HostMounts {
    fn mount(&self, lower: Vec<PathBuf>, upper: &Path, work: &Path, target: &Path) -> io::Result<()> {
        let upper = Some((upper.to_owned(), work.to_owned()));
        OverlayMount {
            lower,
            upper,
            target: target.to_owned(),
        }
        .mount()
    }

    fn is_mounted(&self, target: &Path) -> io::Result<bool> {
        mounts::is_mount_point(target)
    }

    fn unmount_all(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        mounts::unmount_all(folder)
    }
}
