//! This module owns what an agent reports about its host: [`HostFacts`] and the whole [`Inventory`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{CertificateRecord, ClusterCas, Digest, Generation, GenerationId, IpRange, StepRecord};

/// The name of a cluster: a DNS label, because it becomes folder names, unit names and host names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

/// Why a text is not a cluster name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a cluster name: 1 to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit"
)]
pub struct ClusterNameError(String);

impl ClusterName {
    /// Longest name, from RFC 1123 labels.
    pub const MAX_LEN: usize = 63;
    /// Not a cluster: the folder of this name beside the clusters' folders holds the unpacked layers.
    pub const RESERVED: &'static str = "overlay2";

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = ClusterNameError;

    fn from_str(text: &str) -> Result<Self, ClusterNameError> {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let legal = bytes.len() <= Self::MAX_LEN
            && text != Self::RESERVED
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if legal {
            Ok(Self(text.to_owned()))
        } else {
            Err(ClusterNameError(text.chars().take(96).collect()))
        }
    }
}

impl TryFrom<String> for ClusterName {
    type Error = ClusterNameError;

    fn try_from(text: String) -> Result<Self, ClusterNameError> {
        text.parse()
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a host is and has. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The kernel's host name.
    pub hostname: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// `ID` and `VERSION_ID` of `/etc/os-release`, e.g. `debian 12`.
    pub os: String,
    /// Kernel release, e.g. `6.1.0-18-amd64`.
    pub kernel: String,
    /// Architecture in OCI words: `amd64`, `arm64`.
    pub arch: String,
    /// Number of processors.
    pub cpus: u32,
    /// Memory in all.
    pub memory: u64,
    /// Swap in use by the host's configuration; 0 when swap is off.
    pub swap: u64,
    /// Space where layers lie.
    pub store_disk: DiskSpace,
    /// TCP and UDP ports something listens on.
    pub ports: Vec<ListeningPort>,
    /// Container runtimes found, by command name: `docker`, `containerd`, `nerdctl`, `crictl`.
    pub runtimes: Vec<String>,
    /// Commands that image scripts rely on and that are missing on this host.
    pub missing_commands: Vec<String>,
    /// Whether the store's file system can carry overlay mounts.
    pub overlay: bool,
    /// Files and folders that only a member of a Kubernetes cluster has.
    pub kubernetes: Vec<String>,
    /// Commands that kubeadm's own preflight asks for and that are missing on this host.
    pub missing_tools: Vec<String>,
    /// Controllers of control groups that kubelet may use, by the names of cgroup v1: `cpu`, `memory`, `pids`.
    pub cgroups: Vec<String>,
    /// Space where etcd would keep its data.
    pub etcd_disk: DiskSpace,
    /// Whether that is the file system on which layers lie.
    pub etcd_beside_store: bool,
    /// Networks this host has addresses in or routes to, loopback, link-local and default routes left out.
    pub networks: Vec<HostNetwork>,
    /// Whether the agent runs commands that no image brings (`allow_exec`).
    pub allow_exec: bool,
}

/// A network that a host has an address in or a route to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostNetwork {
    /// Its addresses.
    pub range: IpRange,
    /// The interface that leads there, e.g. `eth0`.
    pub interface: String,
}

/// Space on one file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpace {
    /// In all.
    pub total: u64,
    /// Free for this agent.
    pub free: u64,
}

/// A port something listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListeningPort {
    /// Port number.
    pub port: u16,
    /// UDP rather than TCP.
    pub udp: bool,
}

/// Everything an agent reports about its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Version of the agent, e.g. `0.1.0`.
    pub agent_version: String,
    /// The host's clock, milliseconds since the epoch, when the report was made.
    pub clock_ms: i64,
    /// What the host is.
    pub facts: HostFacts,
    /// Layers that are whole and verified, and were not touched since.
    pub layers: Vec<Digest>,
    /// Layers whose transfer was interrupted, with the bytes already verified; and those that were touched since they were
    /// verified, with all their bytes.
    pub partial_layers: Vec<(Digest, u64)>,
    /// Every generation of every cluster on this host.
    pub generations: Vec<Generation>,
    /// The current generation of each cluster.
    pub current: Vec<(ClusterName, GenerationId)>,
    /// The journal: the latest record of each step, oldest first. Of a long one those that plans need most, see
    /// [`most_needed_records`](crate::most_needed_records).
    pub steps: Vec<StepRecord>,
    /// The certificates that lie on the host.
    pub certificates: Vec<CertificateRecord>,
    /// Snapshots of etcd that were kept before something, oldest first.
    pub etcd_snapshots: Vec<KeptSnapshot>,
    /// The authorities of the Kubernetes cluster that the host is a member of; none where it is of none.
    pub cluster_cas: ClusterCas,
}

/// A snapshot of etcd that was kept before something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSnapshot {
    /// Whose.
    pub cluster: ClusterName,
    /// Before what: the version the cluster was taken to, or `restore-` and a word.
    pub before: String,
    /// Seconds since the epoch, by the host's clock.
    pub at: i64,
    /// Bytes.
    pub len: u64,
}
