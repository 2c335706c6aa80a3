//! This module owns gathering [`HostFacts`]: what this host is and has, read anew each time.

mod cgroups;
mod networks;
mod overlay;
mod text;

use std::path::{Path, PathBuf};

use gantry_model::{DiskSpace, HostFacts, ListeningPort};
use gantry_system::files;
use sysinfo::{MemoryRefreshKind, System};

use crate::kubeadm;

/// Where commands are looked for: image scripts run with this path.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Container runtimes, by command name.
const RUNTIMES: [&str; 5] = ["docker", "containerd", "nerdctl", "crictl", "podman"];
/// Commands that image scripts rely on.
const EXPECTED_COMMANDS: [&str; 18] = [
    "bash",
    "systemctl",
    "modprobe",
    "sysctl",
    "tar",
    "gzip",
    "sed",
    "grep",
    "awk",
    "tr",
    "sort",
    "ip",
    "iptables",
    "swapoff",
    "mount",
    "uname",
    "hostname",
    "md5sum",
];

/// What kubeadm's own preflight insists on (kubernetes/cmd/kubeadm/app/preflight, the mandatory `InPathCheck`s).
const KUBEADM_TOOLS: [&str; 6] = ["conntrack", "crictl", "ip", "iptables", "mount", "nsenter"];
/// Where etcd of a control plane keeps its data.
const ETCD_FOLDER: &str = "/var/lib/etcd";

/// Why the facts are not known.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct FactsError {
    path: PathBuf,
    source: std::io::Error,
}

/// Gathers the facts of this host; `store` is the folder where layers lie, `allow_exec` what the agent was told.
///
/// What a minimal host does not have (a machine id, an os-release file) is empty, not an error.
///
/// # Errors
/// When the space of `store`, or where etcd would be, cannot be read.
pub fn gather(store: &Path, allow_exec: bool) -> Result<HostFacts, FactsError> {
    let failed = |source| FactsError {
        path: store.to_owned(),
        source,
    };
    std::fs::create_dir_all(store).map_err(failed)?;
    let space = files::space(store).map_err(failed)?;
    let (memory, swap) = memory_and_swap();
    let etcd = nearest(Path::new(ETCD_FOLDER));
    let etcd_space = files::space(etcd).map_err(|source| FactsError {
        path: etcd.to_owned(),
        source,
    })?;
    Ok(HostFacts {
        hostname: System::host_name().unwrap_or_default(),
        machine_id: read("/etc/machine-id").trim().to_owned(),
        os: text::os(&first_readable(&["/etc/os-release", "/usr/lib/os-release"])),
        kernel: System::kernel_version().unwrap_or_default(),
        arch: text::oci_arch(std::env::consts::ARCH).to_owned(),
        cpus: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory,
        swap,
        store_disk: DiskSpace {
            total: space.total,
            free: space.free,
        },
        ports: listening_ports(),
        runtimes: RUNTIMES
            .iter()
            .filter(|name| is_command(name))
            .map(|&name| name.to_owned())
            .collect(),
        missing_commands: missing(&EXPECTED_COMMANDS),
        overlay: overlay::works_in(store),
        kubernetes: kubeadm::traces(),
        missing_tools: missing(&KUBEADM_TOOLS),
        cgroups: cgroups::controllers(),
        etcd_disk: DiskSpace {
            total: etcd_space.total,
            free: etcd_space.free,
        },
        etcd_beside_store: device(etcd).is_some() && device(etcd) == device(store),
        networks: networks::networks(),
        allow_exec,
    })
}

/// The folder that is there of `folder` and those above it.
fn nearest(folder: &Path) -> &Path {
    let mut above = folder.ancestors();
    above.find(|folder| folder.is_dir()).unwrap_or(folder)
}

fn device(folder: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Some(std::fs::metadata(folder).ok()?.dev())
}

fn missing(commands: &[&str]) -> Vec<String> {
    let missing = commands.iter().filter(|name| !is_command(name));
    missing.map(|&name| name.to_owned()).collect()
}

fn memory_and_swap() -> (u64, u64) {
    match System::new() {
        Ok(mut system) => {
            system.refresh_memory_specifics(MemoryRefreshKind::everything());
            (system.total_memory(), system.total_swap())
        }
        Err(error) => {
            tracing::warn!("cannot read the host's memory: {error}");
            (0, 0)
        }
    }
}

fn listening_ports() -> Vec<ListeningPort> {
    let tables = [
        ("/proc/net/tcp", false),
        ("/proc/net/tcp6", false),
        ("/proc/net/udp", true),
        ("/proc/net/udp6", true),
    ];
    let mut ports: Vec<ListeningPort> = tables
        .into_iter()
        .flat_map(|(path, udp)| text::listening(&read(path), udp))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn is_command(name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    PATH.split(':').any(|folder| {
        std::fs::metadata(Path::new(folder).join(name))
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

fn read(path: &str) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn first_readable(paths: &[&str]) -> String {
    paths
        .iter()
        .map(|path| read(path))
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_facts() {
        let folder = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let facts = gather(folder.path(), false).unwrap();
        let port = ListeningPort {
            port: listener.local_addr().unwrap().port(),
            udp: false,
        };
        assert!(facts.ports.contains(&port));
        assert!(facts.memory > 0 && facts.cpus > 0 && facts.store_disk.total > 0);
        assert!(!facts.kernel.is_empty() && !facts.missing_commands.contains(&"tar".to_owned()));
    }
}
