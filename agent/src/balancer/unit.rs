//! This module owns [`Balancers`]: the services that balance, their settings and their units on this host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gantry_model::ClusterName;
use gantry_system::files;

use super::Settings;
use crate::host_service::{HostService, Job, ServiceError};

/// What it may, and why.
const RIGHTS: (&str, &str) = (
    "It reads its settings, which only root may, listens and connects: root without any of root's rights.",
    "",
);

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
    /// Its service is not as it should be.
    #[error(transparent)]
    Service(#[from] ServiceError),
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

    /// Whether the balancer of `cluster` serves with these settings.
    pub(crate) fn is(&self, cluster: &ClusterName, settings: &Settings) -> bool {
        Settings::read(&self.settings(cluster)).is_ok_and(|found| found == *settings)
            && service(cluster).drift(settings.listen).is_none()
    }

    /// What is wrong with the balancer of `cluster`, which should be there; none when nothing is.
    pub(crate) fn drift(&self, cluster: &ClusterName) -> Option<String> {
        let path = self.settings(cluster);
        match Settings::read(&path) {
            Ok(settings) => service(cluster).drift(settings.listen),
            Err(error) => Some(format!("{} cannot be read: {error}", path.display())),
        }
    }

    /// Whether nothing of a balancer of `cluster` is there.
    pub(crate) fn is_removed(&self, cluster: &ClusterName) -> bool {
        !self.settings(cluster).exists() && !service(cluster).is_installed()
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
        let job = Job {
            description: &format!("Leads to the API servers of cluster {cluster}"),
            command: "balance",
            settings: &path,
            rights: RIGHTS,
        };
        Ok(service(cluster).start(job).await?)
    }

    /// Ends the balancer of `cluster` and removes what belongs to it.
    ///
    /// # Errors
    /// When it cannot be ended or removed.
    pub(crate) async fn remove(&self, cluster: &ClusterName) -> Result<(), BalancerError> {
        service(cluster).remove().await?;
        let path = self.settings(cluster);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                let action = "remove";
                Err(BalancerError::Io { action, path, source })
            }
            _ => Ok(()),
        }
    }

    fn settings(&self, cluster: &ClusterName) -> PathBuf {
        self.folder.join(format!("{cluster}.json"))
    }
}

fn service(cluster: &ClusterName) -> HostService {
    HostService::new("balancer", cluster)
}
