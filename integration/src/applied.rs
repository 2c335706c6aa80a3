//! What one `gantry apply` did, read from its machine-readable progress.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{Finished, Host, Operator};

/// An `apply` that has ended, well or badly.
#[derive(Debug)]
pub struct Applied {
    /// How the command ended.
    pub finished: Finished,
    events: Vec<Value>,
}

impl Applied {
    /// Reads what an `apply --progress json` printed. Lines that are not JSON (it was killed while writing one) are left out.
    #[must_use]
    pub fn read(finished: Finished) -> Self {
        let events = events(&finished.stdout);
        Self { finished, events }
    }

    /// That it ended well.
    ///
    /// # Errors
    /// Both its outputs, if it did not.
    pub fn ok(self) -> Result<Self> {
        self.finished.clone().ok()?;
        Ok(self)
    }

    /// Compressed layer bytes that travelled, all hosts together.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        received_bytes(&self.events)
    }

    /// Titles of the steps that ran to their end on a host now, in order.
    #[must_use]
    pub fn steps_on(&self, host: &Host) -> Vec<String> {
        let ended = self
            .events
            .iter()
            .filter(|event| event["event"] == "finished" && is_at(event, host.address()));
        ended
            .filter_map(|event| Some(event["title"].as_str()?.to_owned()))
            .collect()
    }

    /// That the step `check` ran right behind the step `script` on a host.
    ///
    /// # Errors
    /// The steps that did.
    pub fn ensure_checked(&self, host: &Host, script: &str, check: &str) -> Result<()> {
        let steps = self.steps_on(host);
        let is_checked = steps.windows(2).any(|pair| pair == [script, check]);
        ensure!(is_checked, "no {check:?} right behind {script:?}: {steps:?}");
        Ok(())
    }

    /// How many steps ran to their end now, all hosts together.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.events
            .iter()
            .filter(|event| event["event"] == "finished")
            .count()
    }
}

/// The events in what `--progress json` printed so far.
#[must_use]
pub fn events(printed: &str) -> Vec<Value> {
    printed
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Compressed layer bytes that travelled, by the last report of every transfer. A transfer that starts again after
/// a lost connection counts from zero, so what it had before is added.
#[must_use]
pub fn received_bytes(events: &[Value]) -> u64 {
    let mut before: std::collections::BTreeMap<String, (u64, u64)> = std::collections::BTreeMap::new();
    for event in events.iter().filter(|event| event["event"] == "progress") {
        let Some(now) = event["receivedBytes"].as_u64() else {
            continue;
        };
        let (sessions, last) = before.entry(event["host"].to_string()).or_default();
        if now < *last {
            *sessions += *last;
        }
        *last = now;
    }
    before.values().map(|(sessions, last)| sessions + last).sum()
}

fn is_at(event: &Value, address: Ipv4Addr) -> bool {
    event["host"].as_str() == Some(&address.to_string())
}

impl Operator {
    /// Writes a Clusterfile for `image` on these hosts, the first as master; gives its name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn clusterfile(&self, image: &str, hosts: &[&Host]) -> Result<&'static str> {
        let (master, nodes) = hosts.split_first().context("a cluster has a host")?;
        let mut text = format!(
            "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata:\n  name: demo\nspec:\n  image: {image}\n  hosts:\n    \
             - ips: [{}]\n      roles: [master]\n",
            master.address()
        );
        if !nodes.is_empty() {
            let nodes: Vec<String> = nodes.iter().map(|host| host.address().to_string()).collect();
            text.push_str(&format!(
                "    - ips: [{}]\n      roles: [node]\n",
                nodes.join(", ")
            ));
        }
        self.put("Clusterfile", text)?;
        Ok("Clusterfile")
    }

    /// Applies the Clusterfile in the working directory.
    ///
    /// # Errors
    /// When `gantry` cannot be started; that it failed is in the result.
    pub fn apply(&self) -> Result<Applied> {
        Ok(Applied::read(self.gantry(APPLY)?))
    }

    /// Starts to apply the Clusterfile and does not wait.
    ///
    /// # Errors
    /// When `gantry` cannot be started.
    pub fn start_apply(&self) -> Result<crate::Running> {
        self.start(APPLY)
    }
}

/// The words every test applies with.
const APPLY: &str = "apply -f Clusterfile -y --progress json";
