//! This module owns [`AgentBook`]: the hosts that were enrolled from here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use gantry_model::Digest;
use gantry_system::files::FileLock;
use serde::{Deserialize, Serialize};

use super::{State, create_dir, read_json, write_json};

/// An enrolled host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentRecord {
    /// The name in its certificate.
    pub name: String,
    /// When it was enrolled, seconds since the epoch.
    pub enrolled_at: i64,
    /// Serial number of its certificate, lower-case hex.
    pub serial: String,
    /// When its certificate ends, seconds since the epoch.
    pub not_after: i64,
    /// SHA-256 of its public key, lower-case hex.
    pub fingerprint: String,
    /// Whether its certificate was revoked.
    #[serde(default)]
    pub revoked: bool,
    /// Name of the CA that signed its certificate; empty in records of before there was more than one.
    #[serde(default)]
    pub ca: String,
    /// Digest of the CAs and revocation lists that it was told to trust.
    #[serde(default)]
    pub trust: Option<Digest>,
}

/// The enrolled hosts, by address.
#[derive(Debug, Clone)]
pub struct AgentBook {
    path: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
struct Content {
    agents: BTreeMap<IpAddr, AgentRecord>,
}

impl State {
    /// The enrolled hosts.
    #[must_use]
    pub fn agents(&self) -> AgentBook {
        AgentBook {
            path: self.dir.join("agents.json"),
        }
    }
}

impl AgentBook {
    /// Addresses of hosts whose certificates were revoked: they are lost for good.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn revoked(&self) -> anyhow::Result<Vec<IpAddr>> {
        let agents = self.all()?.into_iter();
        Ok(agents
            .filter(|(_, agent)| agent.revoked)
            .map(|(host, _)| host)
            .collect())
    }

    /// Every enrolled host.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn all(&self) -> anyhow::Result<BTreeMap<IpAddr, AgentRecord>> {
        Ok(read_json::<Content>(&self.path)?.agents)
    }

    /// Changes the book under its lock.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn update<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<IpAddr, AgentRecord>) -> T,
    ) -> anyhow::Result<T> {
        if let Some(dir) = self.path.parent() {
            create_dir(dir)?;
        }
        let _lock = FileLock::exclusive(&self.path.with_extension("lock"))?;
        let mut content: Content = read_json(&self.path)?;
        let result = change(&mut content.agents);
        write_json(&self.path, &content)?;
        Ok(result)
    }
}
