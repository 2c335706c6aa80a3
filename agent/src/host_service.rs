//! This module owns [`HostService`]: a service of this program that belongs to the host rather than to the agent. It is there
//! after the next boot, and restarts and upgrades of the agent cut nothing of it.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::ClusterName;
use gantry_system::files;
use gantry_system::processes::{self, ProcessError};
use tokio::process::Command;

/// Where the operator's own units are: they are there after the next boot.
const UNITS: &str = "/etc/systemd/system";
/// How long systemd may take; a start waits until the service listens, a stop until what it serves has ended.
const SYSTEMD_LIMIT: Duration = Duration::from_secs(60);
/// How long a service may take to take a connection from its own host.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// What every such service is kept from, whatever it does.
const HARDENING: &str = "\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
MemoryDenyWriteExecute=yes
LimitNOFILE=65536
OOMScoreAdjust=-500
";

/// Why a service is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    /// Its unit cannot be written or removed.
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

/// What a service does, as its unit says it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    /// For people.
    pub(crate) description: &'a str,
    /// The command of this program.
    pub(crate) command: &'a str,
    /// Its settings.
    pub(crate) settings: &'a Path,
    /// The rights of root that it keeps, as systemd names them, with the reason before them.
    pub(crate) rights: (&'a str, &'a str),
}

/// One service, by its unit.
#[derive(Debug, Clone)]
pub(crate) struct HostService {
    unit: String,
}

impl HostService {
    /// The service of this kind for `cluster`.
    pub(crate) fn new(kind: &str, cluster: &ClusterName) -> Self {
        Self {
            unit: format!("gantry-{kind}-{cluster}.service"),
        }
    }

    /// Whether its unit is there.
    pub(crate) fn is_installed(&self) -> bool {
        self.file().is_file()
    }

    /// What is wrong with the service, which is to listen at `address`; none when nothing is.
    pub(crate) fn drift(&self, address: SocketAddr) -> Option<String> {
        if !self.is_installed() {
            return Some(format!("{} is gone", self.unit));
        }
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(_) => None,
            Err(error) => Some(format!("{} does not answer at {address}: {error}", self.unit)),
        }
    }

    /// Writes its unit, lets it run, and run again after the next boot. One that runs goes on.
    ///
    /// # Errors
    /// When the unit cannot be written, or it does not start.
    pub(crate) async fn start(&self, job: Job<'_>) -> Result<(), ServiceError> {
        self.install(job).await?;
        self.systemctl(&["enable", "--now", &self.unit]).await
    }

    /// The same, and begins anew where it runs already.
    ///
    /// # Errors
    /// As [`HostService::start`].
    pub(crate) async fn restart(&self, job: Job<'_>) -> Result<(), ServiceError> {
        self.install(job).await?;
        self.systemctl(&["enable", &self.unit]).await?;
        self.systemctl(&["restart", &self.unit]).await
    }

    /// Ends it and removes its unit.
    ///
    /// # Errors
    /// When it cannot be ended or removed.
    pub(crate) async fn remove(&self) -> Result<(), ServiceError> {
        let file = self.file();
        if file.exists() {
            self.systemctl(&["disable", "--now", &self.unit]).await?;
            fs::remove_file(&file).map_err(failed("remove", &file))?;
        }
        self.systemctl(&["daemon-reload"]).await
    }

    async fn install(&self, job: Job<'_>) -> Result<(), ServiceError> {
        let program = std::env::current_exe().map_err(failed("find", Path::new("/proc/self/exe")))?;
        let (file, text) = (self.file(), text(job, &program));
        if fs::read_to_string(&file).unwrap_or_default() != text {
            files::write_atomically(&file, text.as_bytes(), 0o644).map_err(failed("write", &file))?;
            self.systemctl(&["daemon-reload"]).await?;
        }
        Ok(())
    }

    fn file(&self) -> PathBuf {
        Path::new(UNITS).join(&self.unit)
    }

    async fn systemctl(&self, words: &[&str]) -> Result<(), ServiceError> {
        let mut command = Command::new("systemctl");
        command.args(words).env("LC_ALL", "C").env_remove("NOTIFY_SOCKET");
        let ended = processes::run_successfully(&mut command, SYSTEMD_LIMIT).await;
        ended.map(drop).map_err(|source| ServiceError::Systemd {
            unit: self.unit.clone(),
            source,
        })
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServiceError {
    let path = path.to_owned();
    move |source| ServiceError::Io { action, path, source }
}

/// The text of a unit.
fn text(job: Job<'_>, program: &Path) -> String {
    let (reason, rights) = job.rights;
    format!(
        "[Unit]\nDescription={}\nAfter=network.target\n\n\
         [Service]\nType=notify\nExecStart={} {} {}\nRestart=always\nRestartSec=1\n\
         # {reason}\nCapabilityBoundingSet={rights}\n{HARDENING}\n\
         [Install]\nWantedBy=multi-user.target\n",
        job.description,
        program.display(),
        job.command,
        job.settings.display()
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_unit_says_what_the_service_does_and_may() {
        let job = Job {
            description: "Serves",
            command: "serve",
            settings: Path::new("/s.json"),
            rights: ("It listens low.", "CAP_NET_BIND_SERVICE"),
        };
        let text = text(job, Path::new("/usr/bin/gantry-agent"));
        for line in [
            "ExecStart=/usr/bin/gantry-agent serve /s.json",
            "# It listens low.",
            "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
            "NoNewPrivileges=yes",
            "WantedBy=multi-user.target",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
    }

    #[test]
    fn a_service_whose_unit_is_gone_is_said_to_be() {
        let service = HostService::new("nothing", &"demo".parse().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let drift = service.drift(listener.local_addr().unwrap());
        assert_eq!(drift.as_deref(), Some("gantry-nothing-demo.service is gone"));
    }
}
