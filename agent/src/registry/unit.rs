//! This module owns [`Registries`]: the services that serve images, their settings and their units on this host.

use std::fs::DirBuilder;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use gantry_model::ClusterName;
use gantry_system::files;

use super::certificate::{self, Issued};
use super::settings::Settings;
use super::trust::{Trust, TrustError};
use crate::host_service::{HostService, Job, ServiceError};

/// Where container runtimes are configured.
const CONFIGURATION: &str = "/etc";
/// What it may, and why.
const RIGHTS: (&str, &str) = (
    "It reads files of an image, whoever owns them, and listens: root without any other of root's rights.",
    "CAP_DAC_READ_SEARCH CAP_NET_BIND_SERVICE",
);

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
    /// Its service is not as it should be.
    #[error(transparent)]
    Service(#[from] ServiceError),
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
            && service(cluster).drift(listens(&wanted)).is_none()
    }

    /// What is wrong with the registry of `cluster`, which should be there; none when nothing is.
    pub(crate) fn drift(&self, cluster: &ClusterName) -> Option<String> {
        let path = self.settings_file(cluster);
        let settings = match Settings::read(&path) {
            Ok(settings) => settings,
            Err(error) => return Some(format!("{} cannot be read: {error}", path.display())),
        };
        let issued = Issued::read(&self.issued(cluster), &settings.domain);
        let name = name(&settings.domain, settings.port);
        if !issued.is_some_and(|issued| self.trust(cluster).is(&name, &issued.ca)) {
            return Some(format!("container runtimes do not trust {name} any more"));
        }
        service(cluster).drift(listens(&settings))
    }

    /// Whether nothing of a registry of `cluster` is there.
    pub(crate) fn is_removed(&self, cluster: &ClusterName) -> bool {
        !self.folder_of(cluster).exists() && !service(cluster).is_installed()
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

        let job = Job {
            description: &format!("Serves the container images of cluster {cluster} to this host"),
            command: "registry",
            settings: &path,
            rights: RIGHTS,
        };
        // It reads its settings and its certificate when it starts.
        Ok(service(cluster).restart(job).await?)
    }

    /// Ends the registry of `cluster` and removes what belongs to it.
    ///
    /// # Errors
    /// When it cannot be ended or removed.
    pub(crate) async fn remove(&self, cluster: &ClusterName) -> Result<(), RegistryError> {
        service(cluster).remove().await?;
        self.trust(cluster).remove()?;
        let folder = self.folder_of(cluster);
        if folder.exists() {
            files::remove_tree(&folder).map_err(failed("remove", &folder))?;
        }
        Ok(())
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

fn service(cluster: &ClusterName) -> HostService {
    HostService::new("registry", cluster)
}

/// Where the registry of a host listens, for that host alone.
fn listens(settings: &Settings) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port))
}
