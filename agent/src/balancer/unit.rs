//! This module owns [`Balancers`]: the services that balance, their settings and their units on this host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::ClusterName;
use gantry_system::files;
use gantry_system::processes::{self, ProcessError};
use tokio::process::Command;

use super::Settings;

/// Where the operator's own units are: they are there after the next boot.
const UNITS: &str = "/etc/systemd/system";
/// How long systemd may take; a start waits until the balancer listens.
const SYSTEMD_LIMIT: Duration = Duration::from_secs(60);

/// Why a balancer is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BalancerError {
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
    /// systemd did not do what it was told.
    #[error("{unit} is not as it should be (journalctl -u {unit} says more): {source}")]
    Systemd {
        /// The unit.
        unit: String,
        /// What its tool said.
        source: ProcessError,
    },
}

/// The balancers of this host, one for each cluster.
#[derive(Debug, Clone)]
pub(crate) struct Balancers {
    folder: PathBuf,
}

impl Balancers {
    /// Balancers whose settings are in `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Whether the balancer of `cluster` is there with these settings.
    pub(crate) fn is(&self, cluster: &ClusterName, settings: &Settings) -> bool {
        Settings::read(&self.settings(cluster)).is_ok_and(|found| found == *settings)
            && unit_file(cluster).is_file()
    }

    /// Whether nothing of a balancer of `cluster` is there.
    pub(crate) fn is_removed(&self, cluster: &ClusterName) -> bool {
        !self.settings(cluster).exists() && !unit_file(cluster).exists()
    }

    /// Makes the balancer of `cluster` lead where `settings` say. One that runs goes on and reads them.
    ///
    /// # Errors
    /// When a file cannot be written, or it does not start.
    pub(crate) async fn set(&self, cluster: &ClusterName, settings: &Settings) -> Result<(), BalancerError> {
        let path = self.settings(cluster);
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| BalancerError::Io { action, path, source }
        };
        fs::create_dir_all(&self.folder).map_err(failed("make", &self.folder))?;
        files::write_atomically(&path, settings.to_text().as_bytes(), 0o644)
            .map_err(failed("write", &path))?;
        let program = std::env::current_exe().map_err(failed("find", Path::new("/proc/self/exe")))?;
        let unit = unit_file(cluster);
        let text = unit_text(cluster, &program, &path);
        if fs::read_to_string(&unit).unwrap_or_default() != text {
            files::write_atomically(&unit, text.as_bytes(), 0o644).map_err(failed("write", &unit))?;
            systemctl(cluster, &["daemon-reload"]).await?;
        }
        systemctl(cluster, &["enable", "--now", &unit_name(cluster)]).await
    }

    /// Ends the balancer of `cluster` and removes what belongs to it.
    ///
    /// # Errors
    /// When it cannot be ended or removed.
    pub(crate) async fn remove(&self, cluster: &ClusterName) -> Result<(), BalancerError> {
        let unit = unit_file(cluster);
        if unit.exists() {
            systemctl(cluster, &["disable", "--now", &unit_name(cluster)]).await?;
        }
        for path in [unit, self.settings(cluster)] {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    let action = "remove";
                    return Err(BalancerError::Io { action, path, source });
                }
                _ => {}
            }
        }
        systemctl(cluster, &["daemon-reload"]).await
    }

    fn settings(&self, cluster: &ClusterName) -> PathBuf {
        self.folder.join(format!("{cluster}.json"))
    }
}

fn unit_name(cluster: &ClusterName) -> String {
    format!("gantry-balancer-{cluster}.service")
}

fn unit_file(cluster: &ClusterName) -> PathBuf {
    Path::new(UNITS).join(unit_name(cluster))
}

fn unit_text(cluster: &ClusterName, program: &Path, settings: &Path) -> String {
    format!(
        "[Unit]\n\
         Description=Leads to the API servers of cluster {cluster}\n\
         After=network.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={} balance {}\n\
         Restart=always\n\
         RestartSec=1\n\
         # It reads its settings, which only root may, listens and connects: root without any of root's rights.\n\
         CapabilityBoundingSet=\n\
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

async fn systemctl(cluster: &ClusterName, words: &[&str]) -> Result<(), BalancerError> {
    let mut command = Command::new("systemctl");
    command.args(words).env("LC_ALL", "C").env_remove("NOTIFY_SOCKET");
    processes::run_successfully(&mut command, SYSTEMD_LIMIT)
        .await
        .map(drop)
        .map_err(|source| BalancerError::Systemd {
            unit: unit_name(cluster),
            source,
        })
}
