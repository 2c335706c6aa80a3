//! This module owns what every sandbox has in its root, and how it is entered.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use nix::mount::{MntFlags, umount2};
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};

/// What every mount of a kernel's own files has.
pub(crate) const CLOSED: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// What a system is made of, as this machine has it: programs, libraries, configuration, and which packages they are of.
pub(crate) const OF_THIS_MACHINE: &[&str] = &[
    "usr",
    "etc",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "var/lib/dpkg",
    "var/lib/apt",
    "var/lib/rpm",
];

/// Devices that commands may rely on; none of them leads to this machine's disks.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Mounts `/proc` and `/sys` below `root`, to read.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn mount_kernel(root: &Path) -> io::Result<()> {
    let (proc, sys) = (root.join("proc"), root.join("sys"));
    named("/proc", mount("proc", &proc, "proc", CLOSED, None))?;
    make_read_only("/proc", &proc)?;
    named(
        "/sys",
        mount("sysfs", &sys, "sysfs", CLOSED | MountFlags::RDONLY, None),
    )
}

/// Puts [`DEVICES`] into `dev` below `root`, where they can be written to, and neither their modes nor their owners changed.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn mount_devices(root: &Path) -> io::Result<()> {
    let dev = root.join("dev");
    for name in DEVICES {
        let device = Path::new("/dev").join(name);
        if device.exists() {
            let place = dev.join(name);
            File::create(&place)?;
            named(name, mount_bind(&device, &place))?;
            // Not `CLOSED`: they are devices.
            let read_only = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
            named(name, mount_remount(&place, read_only, ""))?;
        }
    }
    fs::create_dir(dev.join("shm"))?;
    fs::set_permissions(dev.join("shm"), fs::Permissions::from_mode(0o1777))?;
    for (name, target) in [
        ("fd", "fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        symlink(format!("/proc/self/{target}"), dev.join(name))?;
    }
    Ok(())
}

/// Makes the mount at `place`, which is called `name`, one that is only read.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn make_read_only(name: &str, place: &Path) -> io::Result<()> {
    named(
        name,
        mount_remount(place, CLOSED | MountFlags::BIND | MountFlags::RDONLY, ""),
    )
}

/// Makes devices below the mount at `place`, which is called `name`, files like any other: no image brings one, and nothing in a
/// sandbox can make one.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn forbid_devices(name: &str, place: &Path) -> io::Result<()> {
    named(
        name,
        mount_remount(place, MountFlags::BIND | MountFlags::NODEV, ""),
    )
}

/// Makes `root`, which is a mount, the root. After this no path leads to the machine's own: it is no longer mounted.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn become_root(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    named("the new root", rustix::process::pivot_root(".", "."))?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}

/// An error says what was to be mounted.
///
/// # Errors
/// That of `result`.
pub(crate) fn named<T>(place: &str, result: rustix::io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("cannot mount {place}: {error}")))
}
