//! This module owns what a RUN command sees: the rootfs to write to, a host to read from, scratch space, few devices.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use gantry_system::mounts::{self, OverlayMount};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid};
use rustix::fs::{OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use super::{ROOTFS, RunSpec};

/// Devices that commands may rely on; none of them leads to the host's disks.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Emptied, and writable for as long as the command runs. `/run` holds the host's sockets: a build has no use for them.
const SCRATCH: [&str; 4] = ["/run", "/tmp", "/var/tmp", "/dev"];

/// A user and group that own nothing.
const NOBODY: u32 = 65534;
/// Address space of a program that runs alone, in bytes: programs in Go reserve more than they use.
const MAX_MEMORY: u64 = 4 << 30;
/// Seconds of CPU time of a program that runs alone.
const MAX_SECONDS: u64 = 20;

/// Turns this process's own mount namespace into what the command sees.
pub(super) fn enter(spec: &RunSpec) -> io::Result<()> {
    mount_rootfs(spec)?;
    let rootfs = handle(&spec.merged)?;
    let resolver = spec.network.then(resolver_file).flatten();
    let devices: Vec<(&str, File)> = DEVICES
        .iter()
        .filter_map(|name| Some((*name, handle(&Path::new("/dev").join(name)).ok()?)))
        .collect();
    let closed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    named("/proc", mount("proc", "/proc", "proc", closed, None))?;
    if !spec.network {
        // The host's own shows the host's interfaces.
        named(
            "/sys",
            mount("sysfs", "/sys", "sysfs", closed | MountFlags::RDONLY, None),
        )?;
    }
    for folder in SCRATCH.into_iter().filter(|folder| Path::new(folder).is_dir()) {
        named(
            folder,
            mount("tmpfs", folder, "tmpfs", MountFlags::NOSUID, Some(mode(folder))),
        )?;
    }
    fs::create_dir_all(ROOTFS)?;
    bind(&rootfs, Path::new(ROOTFS))?;
    for (name, device) in &devices {
        let place = Path::new("/dev").join(name);
        File::create(&place)?;
        bind(device, &place)?;
        // It is the machine's own: written to, but neither its mode nor its owner is changed.
        let read_only = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
        named(name, mount_remount(&place, read_only, ""))?;
    }
    for (name, target) in [
        ("fd", "fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        std::os::unix::fs::symlink(format!("/proc/self/{target}"), Path::new("/dev").join(name))?;
    }
    if let Some((path, content)) = resolver {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/run")))?;
        fs::write(path, content)?;
    }
    make_the_rest_read_only()?;
    drop_capabilities()
}

/// Turns this process's own mount namespace into one that holds nothing but the rootfs, and this process into nobody: what runs then
/// comes from an image that somebody only looks at.
pub(super) fn enter_alone(spec: &RunSpec) -> io::Result<()> {
    mount_rootfs(spec)?;
    for folder in ["dev", "proc", "tmp"] {
        fs::create_dir_all(spec.merged.join(folder))?;
    }
    let null = spec.merged.join("dev/null");
    File::create(&null)?;
    bind(&handle(Path::new("/dev/null"))?, &null)?;
    let closed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    named(
        "/proc",
        mount("proc", spec.merged.join("proc"), "proc", closed, None),
    )?;
    for (resource, limit) in [
        (Resource::RLIMIT_AS, MAX_MEMORY),
        (Resource::RLIMIT_CPU, MAX_SECONDS),
    ] {
        setrlimit(resource, limit, limit)?;
    }
    drop_capabilities()?;
    nix::unistd::chroot(&spec.merged)?;
    std::env::set_current_dir("/")?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(group, group, group)?;
    nix::unistd::setresuid(user, user, user)?;
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

/// Mounts the rootfs where nobody else sees it: nothing that happens from here on reaches the host's mounts.
fn mount_rootfs(spec: &RunSpec) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    OverlayMount {
        lower: spec.lower.clone(),
        upper: Some((spec.upper.clone(), spec.work.clone())),
        target: spec.merged.clone(),
    }
    .mount()
}

/// Modes as hosts have them: everybody may write to `/tmp`.
fn mode(folder: &str) -> &'static std::ffi::CStr {
    if folder.ends_with("tmp") {
        c"mode=1777"
    } else {
        c"mode=0755"
    }
}

fn handle(path: &Path) -> io::Result<File> {
    let flags = OFlags::PATH.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Mounts what `handle` is open on at `place`, even if no path leads there any more.
fn bind(handle: &File, place: &Path) -> io::Result<()> {
    let source = format!("/proc/self/fd/{}", handle.as_raw_fd());
    named(&place.to_string_lossy(), mount_bind(source, place))
}

/// `/etc/resolv.conf` often leads into `/run`: with the network comes the file.
fn resolver_file() -> Option<(PathBuf, Vec<u8>)> {
    let path = fs::canonicalize("/etc/resolv.conf").ok()?;
    let hidden = SCRATCH.iter().any(|folder| path.starts_with(folder));
    hidden
        .then(|| fs::read(&path).ok().map(|content| (path, content)))
        .flatten()
}

fn make_the_rest_read_only() -> io::Result<()> {
    let rootfs = Path::new(ROOTFS);
    let writable =
        |target: &Path| target.starts_with(rootfs) || SCRATCH.iter().any(|folder| target.starts_with(folder));
    for target in mounts::table()?
        .into_iter()
        .map(|mount| mount.target)
        .filter(|target| !writable(target))
    {
        // A mount that lies below another one cannot be reached, by us or by the command.
        let Ok(found) = rustix::fs::statvfs(&target) else {
            continue;
        };
        let flags = kept(found.f_flag) | MountFlags::BIND | MountFlags::RDONLY;
        match mount_remount(&target, flags, "") {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return named(&target.to_string_lossy(), Err(error)),
        }
    }
    Ok(())
}

/// A remount sets all flags anew: what is forbidden on a mount stays forbidden.
fn kept(flags: StatVfsMountFlags) -> MountFlags {
    [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ]
    .into_iter()
    .filter(|(found, _)| flags.contains(*found))
    .fold(MountFlags::empty(), |kept, (_, flag)| kept | flag)
}

/// With these a command could undo the mounts above or make device nodes, which no layer carries.
fn drop_capabilities() -> io::Result<()> {
    for capability in [
        CapabilitySet::SYS_ADMIN,
        CapabilitySet::SYS_MODULE,
        CapabilitySet::SYS_RAWIO,
        CapabilitySet::SYS_BOOT,
        CapabilitySet::SYS_TIME,
        CapabilitySet::SYS_PTRACE,
        CapabilitySet::MKNOD,
    ] {
        remove_capability_from_bounding_set(capability)?;
    }
    Ok(())
}

fn named<T>(place: &str, result: rustix::io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("cannot mount {place}: {error}")))
}
