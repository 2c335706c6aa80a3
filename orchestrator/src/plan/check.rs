//! Checks a plan before it is executed: one that was read from a file may have been changed, or be out of date.

use std::collections::BTreeSet;

use gantry_model::ExitCode;

use super::{PLAN_VERSION, Plan};
use crate::exit::{failure, failure_hint};
use crate::inventory::ClusterInventory;

/// Checks that the plan belongs together: its version, its hosts, and that each id is the hash of its step.
///
/// # Errors
/// When something does not fit; the plan must not be executed.
pub fn check(plan: &Plan) -> anyhow::Result<()> {
    let wrong = |what: String| {
        Err(failure_hint(
            ExitCode::Input,
            what,
            "make a new plan with `gantry plan -o FILE`",
        ))
    };
    if plan.version != PLAN_VERSION {
        let what = format!(
            "the plan has version {}, this program knows version {PLAN_VERSION}",
            plan.version
        );
        return wrong(what);
    }
    let hosts: BTreeSet<_> = plan.hosts.iter().map(|host| host.address).collect();
    for step in plan.steps() {
        if step.id != step.step.id() {
            let what = format!(
                "step {} ({}) of host {} was changed after planning",
                step.id, step.title, step.host
            );
            return Err(failure(ExitCode::Verification, what));
        }
        if !hosts.contains(&step.host) {
            return wrong(format!(
                "step {} ({}) is for {}, which is no host of the plan",
                step.id, step.title, step.host
            ));
        }
        if step
            .step
            .action
            .cluster()
            .is_some_and(|cluster| *cluster != plan.cluster)
        {
            return wrong(format!(
                "step {} ({}) belongs to another cluster",
                step.id, step.title
            ));
        }
    }
    Ok(())
}

/// Checks that nobody changed the hosts since the plan was made.
///
/// # Errors
/// When a host has a rootfs step that is neither the one seen then nor one of the plan.
pub fn check_current(plan: &Plan, inventory: &ClusterInventory) -> anyhow::Result<()> {
    let planned: BTreeSet<_> = plan.steps().map(|step| step.id).collect();
    for host in plan.hosts.iter().filter(|host| !host.place.is_not_asked()) {
        // That it does not answer is preflight's to say.
        let Some(report) = inventory.report(host.address) else {
            continue;
        };
        let latest = report.latest(&plan.cluster, "rootfs").map(|record| record.id);
        if latest != host.seen && !latest.is_some_and(|id| planned.contains(&id)) {
            return Err(failure_hint(
                ExitCode::Input,
                format!(
                    "the plan is out of date: host {} was changed after it was made",
                    host.address
                ),
                "make a new plan with `gantry plan -o FILE`",
            ));
        }
    }
    Ok(())
}
