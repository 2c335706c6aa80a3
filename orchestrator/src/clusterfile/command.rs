//! This module owns [`Command`]: a command of the file itself, and the hosts it is for.

use std::net::IpAddr;

use gantry_model::{CommandMoment, CommandOrigin};

use super::{Clusterfile, Host, Role};

/// A command of the file itself, which runs where the agent allows it (`allow_exec`), or of a plugin of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Where it stands.
    pub origin: CommandOrigin,
    /// When it runs.
    pub when: CommandMoment,
    /// On which hosts.
    pub on: CommandHosts,
    /// What bash reads.
    pub text: String,
    /// The file of the image in which it stands, where it does: it is proved by that, and hosts need not allow it.
    pub file: Option<String>,
    /// The name by which commands of one moment are put in order; none where the file's order is.
    pub by_name: Option<String>,
}

/// The hosts that a command is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandHosts {
    /// Every one.
    All,
    /// The first master.
    FirstMaster,
    /// Masters, or nodes.
    Role(Role),
    /// Those with these addresses.
    Listed(Vec<IpAddr>),
}

impl Command {
    /// Whether it is for `host` of `clusterfile`, or for `host` when it leaves it.
    #[must_use]
    pub fn is_for(&self, clusterfile: &Clusterfile, host: &Host) -> bool {
        match &self.on {
            CommandHosts::All => true,
            CommandHosts::FirstMaster => clusterfile.first_master().address == host.address,
            CommandHosts::Role(role) => host.role == *role,
            CommandHosts::Listed(addresses) => addresses.contains(&host.address),
        }
    }
}
