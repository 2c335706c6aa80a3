//! This module owns [`Config`]: what `/etc/gantry/agent.toml` says, checked, with defaults filled in.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the configuration lies unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/gantry/agent.toml";

/// The agent's configuration. Every key is optional; unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address to listen on: UDP for QUIC and TCP for TLS, same number.
    pub listen: SocketAddr,
    /// Where layers, rootfs, identity and journal lie.
    pub root: PathBuf,
    /// Whether an operator may run commands that are not scripts of a verified image.
    pub allow_exec: bool,
    /// Where a one-time enrolment token is dropped. Removed after enrolment.
    pub token_file: PathBuf,
    /// The hosts file in which clusters get their marked blocks.
    pub hosts_file: PathBuf,
    /// Which images are accepted, and by whose signatures: a file in the form of containers-policy.json(5).
    pub policy_file: PathBuf,
    /// Where scripts written for sealer look for `CLUSTER/rootfs`.
    pub sealer_data: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, gantry_protocol::DEFAULT_PORT)),
            root: "/var/lib/gantry".into(),
            allow_exec: false,
            token_file: "/etc/gantry/token".into(),
            hosts_file: "/etc/hosts".into(),
            policy_file: gantry_signing::DEFAULT_POLICY_PATH.into(),
            sealer_data: "/var/lib/sealer/data".into(),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The text is not a configuration; the reason has line and column.
    #[error("{}: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
}

impl Config {
    /// Reads the file at `path`. Without `path` the default file is read if it is there.
    ///
    /// # Errors
    /// When the file cannot be read or something in it is wrong.
    pub fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let asked_for = path.is_some();
        let path = path.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|reason| ConfigError::Parse {
                path: path.to_owned(),
                reason,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !asked_for => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let paths = [
            ("root", &config.root),
            ("token_file", &config.token_file),
            ("hosts_file", &config.hosts_file),
            ("policy_file", &config.policy_file),
            ("sealer_data", &config.sealer_data),
        ];
        if let Some((key, path)) = paths.into_iter().find(|(_, path)| !path.is_absolute()) {
            return Err(format!("{key} = {} is not an absolute path", path.display()));
        }
        Ok(config)
    }

    /// The address to listen on. `[::]` stands for every address of the host, also where IPv6 is switched off.
    #[must_use]
    pub fn listen_address(&self) -> SocketAddr {
        let every = Ipv6Addr::UNSPECIFIED;
        if self.listen.ip() == every && std::net::UdpSocket::bind((every, 0)).is_err() {
            return SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.listen.port()));
        }
        self.listen
    }

    /// The folder of key, certificate, CA and revocation list.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.agent().join("identity")
    }

    /// The keys for images that orchestrators brought.
    #[must_use]
    pub fn image_keys(&self) -> PathBuf {
        self.agent().join("image-keys.pem")
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.agent().join("journal.jsonl")
    }

    /// The folder of the steps' outputs.
    #[must_use]
    pub fn steps(&self) -> PathBuf {
        self.agent().join("steps")
    }

    /// The folder of etcd's snapshots.
    #[must_use]
    pub fn etcd_snapshots(&self) -> PathBuf {
        self.root.join("etcd-snapshots")
    }

    /// The folder of the balancers' settings: they are services of their own.
    #[must_use]
    pub fn balancers(&self) -> PathBuf {
        self.root.join("balancers")
    }

    /// The folder of the registries' certificates and settings: they are services of their own.
    #[must_use]
    pub fn registries(&self) -> PathBuf {
        self.root.join("registries")
    }

    /// The folder of the names that hosts had before clusters gave them others.
    #[must_use]
    pub fn hostnames(&self) -> PathBuf {
        self.root.join("hostnames")
    }

    /// What the kernel was told before anything of an image ran.
    #[must_use]
    pub fn kernel_settings(&self) -> PathBuf {
        self.root.join("kernel-settings.json")
    }

    /// Which folders of pods' logs were not there before anything of an image ran.
    #[must_use]
    pub fn pod_logs(&self) -> PathBuf {
        self.root.join("pod-logs.json")
    }

    /// The folder of the clusters' rootfs.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// What is the agent's own.
    #[must_use]
    pub fn agent(&self) -> PathBuf {
        self.root.join("agent")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
        assert_eq!(
            Config::parse("allow_exec = true").unwrap(),
            Config {
                allow_exec: true,
                ..Config::default()
            }
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let reason = Config::parse("root = '/srv'\nalow_exec = true\n").unwrap_err();
        assert!(
            reason.contains("line 2") && reason.contains("alow_exec") && reason.contains("allow_exec"),
            "{reason}"
        );
    }

    #[test]
    fn wrong_values_are_refused() {
        assert!(Config::parse("listen = 7443").unwrap_err().contains("line 1"));
        assert!(Config::parse("root = 'var'").unwrap_err().contains("absolute"));
    }

    #[test]
    fn a_missing_file_matters_only_when_it_was_asked_for() {
        assert!(Config::read(Some(Path::new("/nonexistent/agent.toml"))).is_err());
    }
}
