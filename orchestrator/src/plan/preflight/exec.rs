//! Whether hosts allow the commands that a plan has for them, beside what is in the image.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gantry_model::StepAction;

use super::{Check, Finding};
use crate::inventory::ClusterInventory;
use crate::plan::Plan;

/// Hosts that are to run commands of the Clusterfile and do not allow it.
#[must_use]
pub fn allow_exec(plan: &Plan, inventory: &ClusterInventory) -> Vec<Finding> {
    let mut refused: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
    let commands = plan.steps().filter(|step| step.is_to_do());
    for step in commands.filter(|step| matches!(step.step.action, StepAction::RunShellCommand(_))) {
        let allows = inventory
            .report(step.host)
            .is_none_or(|report| report.inventory.facts.allow_exec);
        let titles = refused.entry(step.host).or_default();
        if !allows && !titles.contains(&step.title.as_str()) {
            titles.push(&step.title);
        }
    }
    let refused = refused.into_iter().filter(|(_, titles)| !titles.is_empty());
    refused
        .map(|(host, titles)| Finding {
            check: Check::AllowExec,
            host,
            message: format!(
                "{} would run there, and its agent runs only what is in images; if it may, set `allow_exec = true` in \
                 /etc/gantry/agent.toml and `systemctl restart gantry-agent`",
                titles.join(", ")
            ),
        })
        .collect()
}
