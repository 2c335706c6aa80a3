//! This module owns what a RUN command sees: the rootfs to write to, a host to read from, scratch space, few devices.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use gantry_system::mounts::{self, OverlayMount};
use nix::sys::resource::{Resource, setrlimit};
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_remount,
};

use super::{ROOTFS, RunSpec};
use crate::confinement::root::{
    CLOSED, OF_THIS_MACHINE, become_root, forbid_devices, make_read_only, mount_devices, mount_kernel, named,
};

/// What is there of this machine beside [`OF_THIS_MACHINE`], where it has it: tools, and whose certificates are trusted.
const TOOLS: &[&str] = &["opt", "nix", "gnu", "var/lib/ca-certificates"];
/// Secrets of this machine and of its people: a layer would carry them away. Folders are empty, files hold nothing.
const SECRET: &[&str] = &[
    "etc/shadow",
    "etc/shadow-",
    "etc/gshadow",
    "etc/gshadow-",
    "etc/ssh",
    "etc/ssl/private",
    "etc/pki/tls/private",
    "etc/krb5.keytab",
    "etc/gantry",
    "etc/kubernetes",
    "etc/docker",
    "etc/NetworkManager/system-connections",
    "etc/wireguard",
];
/// Empty, and writable for as long as the command runs.
const SCRATCH: &[&str] = &[
    "dev", "home", "media", "mnt", "proc", "root", "run", "srv", "sys", "tmp", "var", "var/lib", "var/tmp",
];
/// For everybody to write to.
const SHARED: &[&str] = &["tmp", "var/tmp"];
/// All scratch space together, in memory.
const SCRATCH_SPACE: &CStr = c"mode=0755,size=50%";

/// Address space of a program that runs alone, in bytes: programs in Go reserve more than they use.
const MAX_MEMORY: u64 = 4 << 30;
/// Seconds of CPU time of a program that runs alone.
const MAX_SECONDS: u64 = 20;

/// Turns this process's own mount namespace into what the command sees.
pub(super) fn enter(spec: &RunSpec) -> io::Result<()> {
    keep_mounts_here()?;
    let root = &spec.root;
    // What changes the root has to be a mount, and so does what space is measured of.
    let scratch = MountFlags::NOSUID | MountFlags::NODEV;
    named(
        "the new root",
        mount("tmpfs", root, "tmpfs", scratch, Some(SCRATCH_SPACE)),
    )?;
    for folder in SCRATCH {
        fs::create_dir(root.join(folder))?;
    }
    for folder in SHARED {
        fs::set_permissions(root.join(folder), fs::Permissions::from_mode(0o1777))?;
    }
    symlink("/run", root.join("var/run"))?;
    symlink("/run/lock", root.join("var/lock"))?;
    for path in OF_THIS_MACHINE.iter().chain(TOOLS) {
        show(path, root)?;
    }
    for path in SECRET {
        hide(path, root)?;
    }
    let rootfs = root.join(ROOTFS.trim_start_matches('/'));
    fs::create_dir_all(&rootfs)?;
    mount_rootfs(spec, &rootfs)?;
    mount_kernel(root)?;
    mount_devices(root)?;
    if spec.network {
        show_resolver(root)?;
    }
    become_root(root)
}

/// Turns this process's own mount namespace into one that holds nothing but the rootfs: what runs then comes from an image that
/// somebody only looks at.
pub(super) fn enter_alone(spec: &RunSpec) -> io::Result<()> {
    keep_mounts_here()?;
    let root = &spec.root;
    mount_rootfs(spec, root)?;
    for folder in ["dev", "proc", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let null = root.join("dev/null");
    File::create(&null)?;
    named("/dev/null", mount_bind("/dev/null", &null))?;
    named("/proc", mount("proc", root.join("proc"), "proc", CLOSED, None))?;
    make_read_only("/proc", &root.join("proc"))?;
    for (resource, limit) in [
        (Resource::RLIMIT_AS, MAX_MEMORY),
        (Resource::RLIMIT_CPU, MAX_SECONDS),
    ] {
        setrlimit(resource, limit, limit)?;
    }
    become_root(root)
}

/// Nothing that happens from here on reaches the host's mounts.
fn keep_mounts_here() -> io::Result<()> {
    Ok(mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?)
}

fn mount_rootfs(spec: &RunSpec, target: &Path) -> io::Result<()> {
    OverlayMount {
        lower: spec.lower.clone(),
        upper: Some((spec.upper.clone(), spec.work.clone())),
        target: target.to_owned(),
    }
    .mount()?;
    forbid_devices("the rootfs", target)
}

/// Puts what this machine has at `path` below `root`, to read, with all that is mounted there.
fn show(path: &str, root: &Path) -> io::Result<()> {
    let here = Path::new("/").join(path);
    let target = root.join(path);
    let Ok(found) = fs::symlink_metadata(&here) else {
        return Ok(());
    };
    if found.is_symlink() {
        return symlink(fs::read_link(&here)?, target);
    }
    fs::create_dir_all(&target)?;
    named(path, mount_bind_recursive(&here, &target))?;
    let below = mounts::table()?.into_iter().map(|mount| mount.target);
    for target in below.filter(|mounted| mounted.starts_with(&target)) {
        // A mount that lies below another one cannot be reached, by us or by the command.
        let Ok(found) = rustix::fs::statvfs(&target) else {
            continue;
        };
        let flags = kept(found.f_flag) | MountFlags::BIND | MountFlags::RDONLY;
        match mount_remount(&target, flags, "") {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return named(path, Err(error)),
        }
    }
    Ok(())
}

/// A remount sets all flags anew: what is forbidden on a mount stays forbidden. Devices are in `/dev` alone.
fn kept(flags: StatVfsMountFlags) -> MountFlags {
    [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ]
    .into_iter()
    .filter(|(found, _)| flags.contains(*found))
    .fold(MountFlags::NODEV, |kept, (_, flag)| kept | flag)
}

/// Puts something empty over what is there.
fn hide(path: &str, root: &Path) -> io::Result<()> {
    let place = root.join(path);
    let Ok(found) = fs::symlink_metadata(&place) else {
        return Ok(());
    };
    if found.is_dir() {
        let flags = CLOSED | MountFlags::RDONLY;
        named(
            path,
            mount("tmpfs", &place, "tmpfs", flags, Some(c"mode=0755,size=4k")),
        )
    } else if found.is_file() {
        let empty = root.join("run/empty");
        fs::write(&empty, "")?;
        named(path, mount_bind(&empty, &place))?;
        make_read_only(path, &place)?;
        fs::remove_file(empty)
    } else {
        // A link leads to a place that is shown or is not.
        Ok(())
    }
}

/// `/etc/resolv.conf` often leads into `/run`: with the network comes the file.
fn show_resolver(root: &Path) -> io::Result<()> {
    let Ok(path) = fs::canonicalize("/etc/resolv.conf") else {
        return Ok(());
    };
    let place = root.join(path.strip_prefix("/").unwrap_or(&path));
    if place.exists() {
        return Ok(());
    }
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(path, place).map(|_| ())
}
