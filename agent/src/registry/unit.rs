//! This module owns [`Registries`]: the services that serve images, their settings and their units on this host.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::ClusterName;
use gantry_system::files;
use gantry_system::processes::{self, ProcessError};
use tokio::process::Command;

use super::certificate::{self, Issued};
use super::settings::Settings;
use super::trust::{Trust, TrustError};

/// Where the operator's own units are: they are there after the next boot.
const UNITS: &str = "/etc/systemd/system";
/// Where container runtimes are configured.
const CONFIGURATION: &str = "/etc";
/// How long systemd may take; a start waits until the registry listens, a stop until pulls have ended.
const SYSTEMD_LIMIT: Duration = Duration::from_secs(60);

/// Why a registry is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// A file cannot be written or removed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Runtimes do not trust it.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// systemd did not do what it was told.
    #[error("{unit} is not as it should be (journalctl -u {unit} says more): {source}")]
    Systemd {
        /// The unit.
        unit: String,
        /// What its tool said.
        source: ProcessError,
    },
}

/// The registries of this host, one for each cluster.
#[derive(Debug, Clone)]
pub(crate) struct Registries {
    folder: PathBuf,
    data: PathBuf,
}

impl Registries {
    /// Registries that are kept in `folder` and serve the rootfs below `data`.
    pub(crate) fn new(folder: &Path, data: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            data: data.to_owned(),
        }
    }

    /// Whether the registry of `cluster` is there by this name, and runtimes trust it.
    pub(crate) fn is(&self, cluster: &ClusterName, domain: &str, port: u16) -> bool {
        let wanted = self.settings(cluster, domain, port);
        let trusted = Issued::read(&self.issued(cluster), domain)
            .is_some_and(|issued| self.trust(cluster).is(&name(domain, port), &issued.ca));
        trusted
            && Settings::read(&self.settings_file(cluster)).is_ok_and(|found| found == wanted)
            && unit_file(cluster).is_file()
    }

    /// Whether nothing of a registry of `cluster` is there.
    pub(crate) fn is_removed(&self, cluster: &ClusterName) -> bool {
        !self.folder_of(cluster).exists() && !unit_file(cluster).exists()
    }

    /// Lets this host serve the rootfs's images by this name, and its runtimes trust it.
    ///
    /// # Errors
    /// When a file cannot be written or is somebody else's, or it does not start.
    pub(crate) async fn set(
        &self,
        cluster: &ClusterName,
        domain: &str,
        port: u16,
    ) -> Result<(), RegistryError> {
        let folder = self.folder_of(cluster);
        // Its key is nobody else's business.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(failed("make", &folder))?;
        let (settings, issued) = (self.settings(cluster, domain, port), self.issued(cluster));
        let issued = match Issued::read(&issued, domain) {
            Some(found) => found,
            None => {
                certificate::issue(&settings, &issued).map_err(failed("make the certificate in", &folder))?
            }
        };
        self.trust(cluster).set(&name(domain, port), &issued.ca)?;
        let path = self.settings_file(cluster);
        files::write_atomically(&path, settings.to_text().as_bytes(), 0o644)
            .map_err(failed("write", &path))?;

        let program = std::env::current_exe().map_err(failed("find", Path::new("/proc/self/exe")))?;
        let unit = unit_file(cluster);
        let text = unit_text(cluster, &program, &path);
        if fs::read_to_string(&unit).unwrap_or_default() != text {
            files::write_atomically(&unit, text.as_bytes(), 0o644).map_err(failed("write", &unit))?;
            systemctl(cluster, &["daemon-reload"]).await?;
        }
        let unit = unit_name(cluster);
        systemctl(cluster, &["enable", &unit]).await?;
        // It reads its settings and its certificate when it starts.
        systemctl(cluster, &["restart", &unit]).await
    }

    /// Ends the registry of `cluster` and removes what belongs to it.
    ///
    /// # Errors
    /// When it cannot be ended or removed.
    pub(crate) async fn remove(&self, cluster: &ClusterName) -> Result<(), RegistryError> {
        let unit = unit_file(cluster);
        if unit.exists() {
            systemctl(cluster, &["disable", "--now", &unit_name(cluster)]).await?;
            fs::remove_file(&unit).map_err(failed("remove", &unit))?;
        }
        self.trust(cluster).remove()?;
        let folder = self.folder_of(cluster);
        if folder.exists() {
            files::remove_tree(&folder).map_err(failed("remove", &folder))?;
        }
        systemctl(cluster, &["daemon-reload"]).await
    }

    fn settings(&self, cluster: &ClusterName, domain: &str, port: u16) -> Settings {
        let folder = self.folder_of(cluster);
        Settings {
            domain: domain.to_owned(),
            port,
            rootfs: self.data.join(cluster.as_str()).join("rootfs"),
            certificate: folder.join("server.crt"),
            key: folder.join("server.key"),
        }
    }

    fn trust(&self, cluster: &ClusterName) -> Trust {
        let ledger = self.folder_of(cluster).join("ledger.json");
        Trust::new(Path::new(CONFIGURATION), &ledger)
    }

    fn folder_of(&self, cluster: &ClusterName) -> PathBuf {
        self.folder.join(cluster.as_str())
    }

    fn settings_file(&self, cluster: &ClusterName) -> PathBuf {
        self.folder_of(cluster).join("settings.json")
    }

    fn issued(&self, cluster: &ClusterName) -> PathBuf {
        self.folder_of(cluster).join("issued.json")
    }
}

fn name(domain: &str, port: u16) -> String {
    format!("{domain}:{port}")
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RegistryError {
    let path = path.to_owned();
    move |source| RegistryError::Io { action, path, source }
}

fn unit_name(cluster: &ClusterName) -> String {
    format!("gantry-registry-{cluster}.service")
}

fn unit_file(cluster: &ClusterName) -> PathBuf {
    Path::new(UNITS).join(unit_name(cluster))
}

fn unit_text(cluster: &ClusterName, program: &Path, settings: &Path) -> String {
    format!(
        "[Unit]\n\
         Description=Serves the container images of cluster {cluster} to this host\n\
         After=network.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={} registry {}\n\
         Restart=always\n\
         RestartSec=1\n\
         # It reads files of an image, whoever owns them, and listens: root without any other of root's rights.\n\
         CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_NET_BIND_SERVICE\n\
         NoNewPrivileges=yes\n\
         ProtectSystem=strict\n\
         ProtectHome=yes\n\
         PrivateDevices=yes\n\
         RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n\
         MemoryDenyWriteExecute=yes\n\
         LimitNOFILE=65536\n\
         OOMScoreAdjust=-500\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        program.display(),
        settings.display()
    )
}

async fn systemctl(cluster: &ClusterName, words: &[&str]) -> Result<(), RegistryError> {
    let mut command = Command::new("systemctl");
    command.args(words).env("LC_ALL", "C").env_remove("NOTIFY_SOCKET");
    processes::run_successfully(&mut command, SYSTEMD_LIMIT)
        .await
        .map(drop)
        .map_err(|source| RegistryError::Systemd {
            unit: unit_name(cluster),
            source,
        })
}
