//! This module owns the host that scripts find in a rehearsal: this machine's programs and configuration with a writable layer over
//! each, an otherwise empty disk, and nothing that leads to this machine: no sockets, no disks, no other processes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use gantry_system::files::remove_tree;
use gantry_system::mounts::OverlayMount;
use nix::sys::stat::Mode;
use rustix::fs::{AtFlags, Mode as FileMode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount};

use super::network::{HOST, HOST_V6};
use super::resolver::RESOLVER;
use super::{RehearsalSpec, stand_ins, trace};
use crate::confinement::root::{
    CLOSED, OF_THIS_MACHINE, become_root, forbid_devices, mount_devices, mount_kernel, named,
};

/// Where scripts written for sealer look for the rootfs.
pub(super) const ROOTFS: &str = "/var/lib/sealer/data/my-cluster/rootfs";
/// What the host is called.
const HOSTNAME: &str = "rehearsal";

/// Empty, as on a fresh host.
const EMPTY: &[&str] = &[
    "boot",
    "dev",
    "home",
    "media",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "var/cache/apt/archives/partial",
    "var/lib",
    "var/lib/docker",
    "var/log",
    "var/spool",
    "var/tmp",
];
/// For everybody to write to.
const SHARED: &[&str] = &["tmp", "var/tmp"];
/// What is in memory on hosts, too, and how much of it.
const IN_MEMORY: [(&str, &std::ffi::CStr); 2] =
    [("dev", c"mode=0755,size=16m"), ("run", c"mode=0755,size=64m")];
/// What a fresh host does not have, whatever this machine has: scripts would not install what they find.
const NOT_INSTALLED: &[&str] = &[
    "containerd",
    "containerd-shim-runc-v2",
    "crictl",
    "ctr",
    "docker",
    "dockerd",
    "etcd",
    "gantry",
    "gantry-agent",
    "helm",
    "kubeadm",
    "kubectl",
    "kubelet",
    "nerdctl",
    "podman",
    "runc",
];
/// The same of configuration; some of it is secret.
const NOT_CONFIGURED: &[&str] = &[
    "/etc/cni",
    "/etc/containerd",
    "/etc/docker",
    "/etc/gantry",
    "/etc/kubernetes",
    "/etc/systemd/system/containerd.service",
    "/etc/systemd/system/docker.service",
    "/etc/systemd/system/kubelet.service",
    "/etc/systemd/system/kubelet.service.d",
];
/// Where programs are.
const PROGRAMS: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// Turns this process's own mount namespace into the host that `spec` is rehearsed on, and enters it.
pub(super) fn enter(spec: &RehearsalSpec) -> io::Result<()> {
    // Nothing that happens from here on reaches the machine's mounts.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let root = spec.folder("root")?;
    // What changes the root has to be a mount.
    named("the new root", mount_bind(&root, &root))?;
    forbid_devices("the new root", &root)?;
    for folder in EMPTY {
        fs::create_dir_all(root.join(folder))?;
    }
    for folder in SHARED {
        fs::set_permissions(root.join(folder), fs::Permissions::from_mode(0o1777))?;
    }
    symlink("/run", root.join("var/run"))?;
    symlink("/run/lock", root.join("var/lock"))?;
    for path in OF_THIS_MACHINE {
        with_writable_layer(spec, path, &root)?;
    }
    let rootfs = root.join(ROOTFS.trim_start_matches('/'));
    fs::create_dir_all(&rootfs)?;
    OverlayMount {
        lower: spec.lower.clone(),
        upper: Some((spec.folder("rootfs-upper")?, spec.folder("rootfs-work")?)),
        target: rootfs.clone(),
    }
    .mount()?;
    forbid_devices("the rootfs", &rootfs)?;
    mount_kernel(&root)?;
    open_settings_of_network(&root)?;
    mount_memory(&root)?;
    mount_devices(&root)?;
    become_root(&root)?;
    // Links that an image brings lead to places in here from now on.
    configure(spec)
}

fn with_writable_layer(spec: &RehearsalSpec, path: &str, root: &Path) -> io::Result<()> {
    let here = Path::new("/").join(path);
    let target = root.join(path);
    let Ok(found) = fs::symlink_metadata(&here) else {
        return Ok(());
    };
    if found.is_symlink() {
        return symlink(fs::read_link(&here)?, target);
    }
    fs::create_dir_all(&target)?;
    let name = path.replace('/', "-");
    let upper = spec.folder(&format!("{name}-upper"))?;
    OverlayMount {
        lower: vec![here],
        upper: Some((upper, spec.folder(&format!("{name}-work"))?)),
        target: target.clone(),
    }
    .mount()?;
    forbid_devices(path, &target)
}

/// What is below `/proc/sys/net` belongs to this network alone; all else there is the machine's.
fn open_settings_of_network(root: &Path) -> io::Result<()> {
    let net = root.join("proc/sys/net");
    named("/proc/sys/net", mount_bind(&net, &net))?;
    named(
        "/proc/sys/net",
        mount_remount(&net, CLOSED | MountFlags::BIND, ""),
    )
}

fn mount_memory(root: &Path) -> io::Result<()> {
    for (folder, options) in IN_MEMORY {
        let place = root.join(folder);
        named(
            folder,
            mount("tmpfs", place, "tmpfs", MountFlags::NOSUID, Some(options)),
        )?;
    }
    Ok(())
}

fn configure(spec: &RehearsalSpec) -> io::Result<()> {
    nix::unistd::sethostname(HOSTNAME)?;
    replace("/etc/hostname", &format!("{HOSTNAME}\n"))?;
    let own = [HOSTNAME]
        .into_iter()
        .chain(spec.cluster_names.iter().map(String::as_str));
    let own: Vec<&str> = own.collect();
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost\n{HOST} {}\n{HOST_V6} {HOSTNAME}\n",
        own.join(" ")
    );
    replace("/etc/hosts", &hosts)?;
    replace(
        "/etc/resolv.conf",
        &format!("nameserver {RESOLVER}\noptions ndots:1\n"),
    )?;
    replace(
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    )?;
    for program in PROGRAMS
        .iter()
        .flat_map(|folder| NOT_INSTALLED.iter().map(move |name| Path::new(folder).join(name)))
    {
        remove(&program)?;
    }
    for path in NOT_CONFIGURED {
        remove_tree(Path::new(path))?;
    }
    for folder in ["/run/lock", "/run/gantry-rehearsal"] {
        fs::create_dir_all(folder)?;
    }
    fs::write(super::BASH_ENV, trace::FOR_BASH)?;
    nix::unistd::mkfifo(trace::PIPE, Mode::S_IRUSR | Mode::S_IWUSR)?;
    stand_ins::write(Path::new("/"))?;
    for (path, text) in &spec.files {
        write_in_rootfs(path, text).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{} of the image: {error}", trace::shown(path)),
            )
        })?;
    }
    make_executable(&Path::new(ROOTFS).join("scripts"))
}

/// Writes a file in the place of what the image has there. No link is followed: an image's may lead anywhere.
fn write_in_rootfs(path: &str, text: &str) -> io::Result<()> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(ROOTFS, folder, FileMode::empty())?;
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    for part in folders.split('/').filter(|part| !part.is_empty()) {
        match mkdirat(&at, part, FileMode::from(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = openat(&at, part, folder, FileMode::empty())?;
    }
    match unlinkat(&at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = File::from(openat(&at, name, new, FileMode::from(0o644))?);
    file.write_all(text.as_bytes())
}

/// Also where it is a link to a place that is not there.
fn replace(path: &str, text: &str) -> io::Result<()> {
    remove(Path::new(path))?;
    fs::write(path, text)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// As agents do: images need not say so.
fn make_executable(scripts: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(scripts) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

impl RehearsalSpec {
    /// A new folder in the scratch space.
    fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.scratch.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }
}
