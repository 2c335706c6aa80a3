//! Some hosts and an operator, started together, gone when dropped.

use anyhow::{Context, Result};

use crate::network::OPERATOR;
use crate::{
    Host, Link, Operator, base_tree, cgroup::Cgroup, network::Network, packages::Packages, slot::Slot,
};

/// The last byte of the first host's address.
const FIRST_HOST: u8 = 11;

/// What a testbed is like.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many hosts boot; they are called `host1`, `host2`, …
    pub hosts: u8,
    /// What the cables are like.
    pub link: Link,
    /// Debian packages the hosts have besides the usual ones.
    pub extra_packages: &'static [&'static str],
}

/// Hosts, their network, and an operator's place in it.
///
/// Dropping it stops the hosts and removes all it made. What a killed test left is removed by the next test
/// that takes the same slot.
#[derive(Debug)]
pub struct Testbed {
    // Dropped in this order: hosts stop before their network goes, the slot is given back last.
    hosts: Vec<Host>,
    operator: Operator,
    network: Network,
    base: std::path::PathBuf,
    slot: Slot,
}

impl Testbed {
    /// Boots `hosts` bare hosts.
    ///
    /// # Errors
    /// When not run as root, or the machine lacks something a host needs.
    pub fn start(hosts: u8) -> Result<Self> {
        Self::with(&Options {
            hosts,
            ..Options::default()
        })
    }

    /// Boots hosts as `options` say.
    ///
    /// # Errors
    /// As [`Testbed::start`].
    pub fn with(options: &Options) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            anyhow::bail!(
                "test hosts need root: they are real machines with mounts and networks of their own"
            );
        }
        let base = base_tree::base_tree(options.extra_packages)?;
        let packages = Packages::find()?;
        let slot = Slot::take()?;
        let network = Network::create(&slot, options.link)?;
        let port = network.plug_in(&slot, "operator", OPERATOR)?;
        let cgroup = Cgroup::named(&slot.name("operator"));
        let operator = Operator::new(&slot.folder().join("operator"), port, cgroup, &packages)?;
        let mut bed = Self {
            hosts: Vec::new(),
            operator,
            network,
            base,
            slot,
        };
        for _ in 0..options.hosts {
            bed.add_host()?;
        }
        Ok(bed)
    }

    /// Boots `hosts` hosts with enrolled agents: where most situations begin.
    ///
    /// # Errors
    /// As [`Testbed::start`], or when enrolment fails.
    pub fn enrolled(hosts: u8) -> Result<Self> {
        Self::enrolled_with(&Options {
            hosts,
            ..Options::default()
        })
    }

    /// Boots hosts as `options` say, with enrolled agents.
    ///
    /// # Errors
    /// As [`Testbed::enrolled`].
    pub fn enrolled_with(options: &Options) -> Result<Self> {
        let bed = Self::with(options)?;
        for host in &bed.hosts {
            host.install_agent()?;
        }
        bed.operator.enroll(&bed.hosts.iter().collect::<Vec<_>>())?;
        Ok(bed)
    }

    /// Boots one more bare host.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn add_host(&mut self) -> Result<&Host> {
        let number = u8::try_from(self.hosts.len()).context("too many hosts")?;
        let name = format!("host{}", number + 1);
        let port = self.network.plug_in(&self.slot, &name, FIRST_HOST + number)?;
        let tree = self.slot.folder().join(&name);
        self.hosts
            .push(Host::boot(&name, self.slot.name(&name), &self.base, tree, port)?);
        self.hosts.last().context("a host was just added")
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Host `number`, counted from 1 as in its name.
    ///
    /// # Panics
    /// When there is no such host: a mistake in the test.
    #[must_use]
    pub fn host(&self, number: usize) -> &Host {
        &self.hosts[number - 1]
    }

    /// The operator.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        self.hosts.clear();
        if let Err(error) = self.slot.clean() {
            eprintln!("the testbed leaves something behind: {error:#}");
        }
    }
}
