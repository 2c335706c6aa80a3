//! What became of the hosts: one line when all went well, else failures grouped by cause, each with its log.

use std::collections::BTreeMap;

use gantry_model::{StepAction, StepId};

use super::plain::duration;
use super::printable;
use crate::execute::{Failure, RunOutcome};
use crate::output::bytes;
use crate::plan::Plan;
use crate::plan::render::{self, host_list};

/// The summary of `outcome` for people.
#[must_use]
pub fn summary(plan: &Plan, outcome: &RunOutcome, elapsed: std::time::Duration) -> String {
    let failed = outcome.failures().count();
    let done: usize = outcome.hosts.values().map(|host| host.done).sum();
    let received: u64 = outcome.hosts.values().map(|host| host.received).sum();
    let bold = anstyle::Style::new().bold();
    let mut text = String::new();
    if failed > 0 {
        text.push_str(&failures(plan, outcome));
    }
    let left_out = plan.skipped().count();
    let hosts = plan.hosts.len() - left_out;
    let well = match (failed, hosts) {
        (0, 1) if left_out == 0 => "done on 1 host".to_owned(),
        (0, _) if left_out > 0 => format!("done on {hosts} of {} hosts", plan.hosts.len()),
        (0, _) => format!("done on all {hosts} hosts"),
        _ => format!("{failed} of {hosts} hosts failed"),
    };
    let steps = if done == 1 {
        "1 step".to_owned()
    } else {
        format!("{done} steps")
    };
    let sent = if received > 0 {
        format!(", {} sent", bytes(received))
    } else {
        String::new()
    };
    text.push_str(&format!(
        "{bold}{}: {well}{bold:#}, {steps}{sent}, {}\n",
        plan.cluster,
        duration(elapsed)
    ));
    if let Some(wave) = &outcome.stopped_after {
        text.push_str(&format!(
            "Stopped after {wave}: what comes next needs every host. What is done stays done; the same command goes on.\n"
        ));
    }
    text.push_str(&skipped(plan));
    text
}

/// A line about the hosts that the plan went on without; empty when it did not.
#[must_use]
pub fn skipped(plan: &Plan) -> String {
    let Some(hosts) = render::skipped(plan) else {
        return String::new();
    };
    format!("Left out: {hosts}. Run the same command again once every host answers.\n")
}

/// Where the script of a step is: its path in the image's rootfs.
fn script_file(plan: &Plan, id: StepId) -> Option<String> {
    let step = plan.steps().find(|step| step.id == id)?;
    let StepAction::RunScript(script) = &step.step.action else {
        return None;
    };
    let image = plan.image.as_ref()?;
    Some(format!("{} of image {}", script.path, image.reference))
}

/// Failures with the same step and cause, the most frequent first.
fn failures(plan: &Plan, outcome: &RunOutcome) -> String {
    let mut groups: BTreeMap<(String, String), Vec<(std::net::IpAddr, &Failure)>> = BTreeMap::new();
    for (host, failure) in outcome.failures() {
        groups
            .entry((failure.title.clone(), failure.reason_at(host)))
            .or_default()
            .push((host, failure));
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, hosts)| std::cmp::Reverse(hosts.len()));
    let red = anstyle::AnsiColor::Red.on_default().bold();
    let mut text = String::from("\n");
    for ((title, reason), failed) in groups {
        let hosts: Vec<String> = failed.iter().map(|(host, _)| host.to_string()).collect();
        text.push_str(&format!(
            "{red}✗ {title}{red:#} failed on {}: {reason}\n",
            host_list(&hosts)
        ));
        let Some((host, failure)) = failed.first() else {
            continue;
        };
        for line in &failure.last_lines {
            text.push_str(&format!("    | {}\n", printable(line)));
        }
        if failure.has_log() {
            let id = failure.step.short();
            if let Some(file) = script_file(plan, failure.step) {
                text.push_str(&format!("    its file: {file}\n"));
            }
            text.push_str(&format!(
                "    all of it: gantry logs -c {} {host} {id}\n",
                plan.cluster
            ));
        }
    }
    text.push('\n');
    text.push_str(&damage(plan, outcome));
    text
}

/// What of the image is damaged on this machine, and how it is repaired.
fn damage(plan: &Plan, outcome: &RunOutcome) -> String {
    let mut text = String::new();
    for damage in &outcome.damage {
        let (path, reason) = (damage.path.display(), &damage.reason);
        text.push_str(&format!(
            "The store of this machine is damaged: {path} {reason}\n"
        ));
    }
    if let Some(image) = plan.image.as_ref().filter(|_| !outcome.damage.is_empty()) {
        text.push_str(&format!(
            "To repair: `gantry rmi {}`, then pull, load or build it again; `gantry store check` finds what else is.\n\n",
            image.reference
        ));
    }
    text
}
