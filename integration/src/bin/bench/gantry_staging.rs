//! Gantry as a contender: an image's layers brought to one host's agent.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use gantry_integration::{Host, Operator};

use crate::contender::Contender;
use crate::ssh_peer::same_content;

/// The cluster's name in Clusterfiles of benchmarks.
const CLUSTER: &str = "bench";

/// Staging of one image on one host.
pub(crate) struct GantryStaging<'a> {
    operator: &'a Operator,
    host: &'a Host,
    tree: &'a Path,
}

impl<'a> GantryStaging<'a> {
    /// Builds an image of `tree` alone and plans its staging on `host`.
    pub(crate) fn of_tree(operator: &'a Operator, host: &'a Host, tree: &'a Path) -> Result<Self> {
        operator.put("Kubefile", "FROM scratch\nCOPY . .\n")?;
        operator.must(&format!(
            "build -t bench/staged:v1 --build-mode lite -f Kubefile {}",
            tree.display()
        ))?;
        operator.put("Clusterfile", clusterfile("bench/staged:v1", &[host]))?;
        Ok(Self { operator, host, tree })
    }
}

impl Contender for GantryStaging<'_> {
    fn name(&self) -> &str {
        "gantry stage"
    }

    fn prepare(&mut self) -> Result<()> {
        forget_everything_staged(self.host)
    }

    fn run(&mut self) -> Result<()> {
        self.operator.must("stage -f Clusterfile").map(drop)
    }

    fn check(&mut self) -> Result<()> {
        same_content(self.tree, &only_layer(self.host)?)
    }
}

/// A Clusterfile whose first host is the master, the others nodes.
pub(crate) fn clusterfile(image: &str, hosts: &[&Host]) -> String {
    let mut text = format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata:\n  name: {CLUSTER}\nspec:\n  image: {image}\n  hosts:\n"
    );
    for (index, host) in hosts.iter().enumerate() {
        let role = if index == 0 { "master" } else { "node" };
        text.push_str(&format!(
            "    - ips: [{}]\n      roles: [{role}]\n",
            host.address()
        ));
    }
    text
}

/// Leaves the agent enrolled and otherwise as it was after installation.
pub(crate) fn forget_everything_staged(host: &Host) -> Result<()> {
    host.must(
        "systemctl stop gantry-agent && cd /var/lib/gantry && \
         for mount in $(findmnt -rno TARGET | grep ^/var/lib/gantry/data/ | sort -r); do umount \"$mount\"; done && \
         rm -rf data store agent/journal.jsonl agent/steps && systemctl start gantry-agent",
    )?;
    host.wait_for_agent()
}

/// The folder of the one layer a host holds.
fn only_layer(host: &Host) -> Result<PathBuf> {
    let layers = host.path("/var/lib/gantry/data/overlay2")?;
    let mut entries = fs::read_dir(&layers).with_context(|| format!("{} holds no layer", host.name()))?;
    Ok(entries
        .next()
        .with_context(|| format!("{} holds no layer", host.name()))??
        .path())
}
