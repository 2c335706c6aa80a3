//! This module owns [`ClusterInventory`]: what is known of each host of a cluster. A host that could not be
//! reached is a fact like any other.

pub mod gather;

use std::collections::BTreeMap;
use std::net::IpAddr;

use gantry_model::{ClusterName, ExitCode, Generation, Inventory, StepRecord};
use serde::{Deserialize, Serialize};

/// What is known of each host of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInventory {
    /// By address.
    pub hosts: BTreeMap<IpAddr, HostState>,
}

/// What is known of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    /// Its agent answered.
    Reached(Box<HostReport>),
    /// Its agent did not, for this reason.
    Unreachable(String),
    /// Its agent and this program do not trust each other, for this reason.
    Refused(String),
}

/// What an agent said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// Everything about the host.
    pub inventory: Inventory,
    /// What differs from the journal, each line starting with the title of the step that does not hold any more.
    pub drift: Vec<String>,
    /// The host's clock minus ours, milliseconds.
    pub skew_ms: i64,
    /// The way the session goes: `quic` or `tcp`.
    pub path: String,
}

impl ClusterInventory {
    /// What the agent at `address` said, if it answered.
    #[must_use]
    pub fn report(&self, address: IpAddr) -> Option<&HostReport> {
        match self.hosts.get(&address) {
            Some(HostState::Reached(report)) => Some(report),
            _ => None,
        }
    }

    /// Hosts that could not be asked, and why.
    pub fn unreachable(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.hosts.iter().filter_map(|(address, state)| match state {
            HostState::Unreachable(reason) | HostState::Refused(reason) => Some((*address, reason.as_str())),
            HostState::Reached(_) => None,
        })
    }

    /// Whether a host was asked and did not answer.
    #[must_use]
    pub fn is_silent(&self, address: IpAddr) -> bool {
        matches!(self.hosts.get(&address), Some(HostState::Unreachable(_)))
    }

    /// Whether a host could be reached, but not be asked.
    #[must_use]
    pub fn is_refused(&self, address: IpAddr) -> bool {
        matches!(self.hosts.get(&address), Some(HostState::Refused(_)))
    }

    /// The exit code for hosts that could not be asked.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self.unreachable().next() {
            None => ExitCode::Done,
            Some(_) if self.hosts.keys().any(|host| self.is_refused(*host)) => ExitCode::Verification,
            Some(_) => ExitCode::Unreachable,
        }
    }

    /// Hosts whose agents answered.
    pub fn reached(&self) -> impl Iterator<Item = (IpAddr, &HostReport)> {
        self.hosts.iter().filter_map(|(address, state)| match state {
            HostState::Reached(report) => Some((*address, &**report)),
            HostState::Unreachable(_) | HostState::Refused(_) => None,
        })
    }
}

impl HostReport {
    /// The current generation of `cluster` on this host.
    #[must_use]
    pub fn current(&self, cluster: &ClusterName) -> Option<&Generation> {
        let (_, id) = self.inventory.current.iter().find(|(name, _)| name == cluster)?;
        self.inventory
            .generations
            .iter()
            .find(|generation| generation.cluster == *cluster && generation.id == *id)
    }

    /// The journal's records of `cluster`, oldest first.
    pub fn records(&self, cluster: &ClusterName) -> impl DoubleEndedIterator<Item = &StepRecord> {
        self.inventory
            .steps
            .iter()
            .filter(move |record| record.cluster.as_ref() == Some(cluster))
    }

    /// The time `at` of this host's clock, in seconds, by the clock of this machine, in milliseconds.
    #[must_use]
    pub const fn by_our_clock(&self, at: i64) -> i64 {
        at.saturating_mul(1000).saturating_sub(self.skew_ms)
    }

    /// The latest record of `cluster` with this title.
    #[must_use]
    pub fn latest(&self, cluster: &ClusterName, title: &str) -> Option<&StepRecord> {
        self.records(cluster)
            .filter(|record| record.title == title)
            .max_by_key(|record| record.started_at)
    }

    /// What drifted of the step with this title.
    #[must_use]
    pub fn drift_of(&self, title: &str) -> Option<&str> {
        let lines = self.drift.iter().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(step, _)| *step == title)
            .map(|(_, what)| what.trim())
            .next()
    }

    /// The name of the node that this host is or becomes: kubelets register with the host's name in small letters.
    #[must_use]
    pub fn node(&self) -> String {
        self.inventory.facts.hostname.to_lowercase()
    }

    /// Whether anything of `cluster` is on this host.
    #[must_use]
    pub fn has(&self, cluster: &ClusterName) -> bool {
        self.records(cluster).next().is_some()
            || self
                .inventory
                .generations
                .iter()
                .any(|generation| generation.cluster == *cluster)
    }
}
