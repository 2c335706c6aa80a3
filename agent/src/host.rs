//! This module owns [`Host`]: the one door through which steps change this host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_store::Store;
use gantry_transport::Identity;

use crate::balancer::Balancers;
use crate::config::Config;
use crate::etcd::EtcdSnapshots;
use crate::hostname::Hostnames;
use crate::hosts_file::HostsFile;
use crate::image_keys::ImageKeys;
use crate::kernel_settings::KernelSettings;
use crate::pod_logs::PodLogs;
use crate::registry::Registries;
use crate::rootfs::{HostMounts, Rootfs};
use crate::scripts::Scripts;

/// Where a host's name is for the next boot (hostname(5)).
const HOSTNAME_FILE: &str = "/etc/hostname";

/// Everything a step may change. Only the executor's running step changes anything; others look.
#[derive(Debug, Clone)]
pub struct Host {
    /// Layers.
    pub store: Store,
    /// Generations of every cluster.
    pub rootfs: Rootfs,
    /// The hosts file.
    pub hosts_file: HostsFile,
    /// Scripts and their outputs.
    pub scripts: Scripts,
    /// The certificate that the agent itself shows.
    pub(crate) own_certificate: PathBuf,
    /// What leads to the API servers.
    pub(crate) balancers: Balancers,
    /// What serves the rootfs's images.
    pub(crate) registries: Registries,
    /// What etcd held before upgrades.
    pub(crate) etcd_snapshots: EtcdSnapshots,
    /// The host's own name.
    pub(crate) hostnames: Hostnames,
    /// What the kernel was told before.
    pub(crate) kernel_settings: KernelSettings,
    /// What kubelet logs, of pods.
    pub(crate) pod_logs: PodLogs,
    /// Whether commands run that no image brings.
    pub(crate) allow_exec: bool,
    /// Where the signature policy is.
    pub(crate) policy_file: PathBuf,
    /// By which keys it accepts images, if its policy says so.
    pub(crate) image_keys: Arc<ImageKeys>,
}

impl Host {
    /// The host that `config` describes.
    #[must_use]
    pub fn new(config: &Config, store: Store) -> Self {
        Self {
            rootfs: Rootfs::new(&config.data(), &config.sealer_data, store.clone(), HostMounts),
            store,
            hosts_file: HostsFile::new(&config.hosts_file),
            scripts: Scripts::new(&config.steps()),
            own_certificate: config.identity().join(Identity::CERTIFICATE_FILE),
            balancers: Balancers::new(&config.balancers()),
            registries: Registries::new(&config.registries(), &config.data()),
            etcd_snapshots: EtcdSnapshots::new(&config.etcd_snapshots()),
            hostnames: Hostnames::new(&config.hostnames(), Path::new(HOSTNAME_FILE)),
            kernel_settings: KernelSettings::new(&config.kernel_settings()),
            pod_logs: PodLogs::new(&config.pod_logs()),
            allow_exec: config.allow_exec,
            policy_file: config.policy_file.clone(),
            image_keys: Arc::new(ImageKeys::new(&config.image_keys())),
        }
    }
}
