//! Whether the agents of hosts know the steps that a plan has for them: an older one cannot even refuse what it does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;
use std::net::IpAddr;

use futures_util::{StreamExt as _, stream};
use gantry_model::{ExitCode, Step, StepAction};

use crate::exit::failure_hint;
use crate::plan::Plan;
use crate::plan::preflight::{self, Check, Finding};
use crate::session::{AgentSession as _, SessionError, Sessions};

/// Hosts asked at a time.
const PARALLEL_HOSTS: usize = 64;

/// Hosts of the plan whose agents do not know a step that they are to do, each with the first such step.
pub async fn unknown<S: Sessions>(plan: &Plan, sessions: &S) -> Vec<Finding> {
    unknown_of(plan, &[], sessions).await
}

/// As [`unknown`], and whose agents do not know a step of `later`, which plans after this one have for them.
pub async fn unknown_of<S: Sessions>(plan: &Plan, later: &[(IpAddr, Step)], sessions: &S) -> Vec<Finding> {
    let planned = plan.steps().filter(|step| step.is_to_do());
    let planned = planned.map(|planned| (planned.host, &planned.step));
    let mut kinds: BTreeMap<IpAddr, Vec<&Step>> = BTreeMap::new();
    for (host, step) in planned
        .chain(later.iter().map(|(host, step)| (*host, step)))
        .filter(|(_, step)| step.action.may_be_unknown())
    {
        let asked = kinds.entry(host).or_default();
        if !asked
            .iter()
            .any(|other| is_known_with(&step.action, &other.action))
        {
            asked.push(step);
        }
    }
    let ask = |(host, steps): (IpAddr, Vec<&Step>)| {
        let steps: Vec<Step> = steps.into_iter().cloned().collect();
        async move {
            // That it does not answer is told by others.
            let session = sessions.session(host).await.ok()?;
            for step in steps {
                if let Err(error @ SessionError::NotUnderstood { .. }) = session.knows(&step).await {
                    let message = error.to_string();
                    let check = Check::Agent;
                    return Some(Finding { check, host, message });
                }
            }
            None
        }
    };
    let findings = stream::iter(kinds).map(ask).buffer_unordered(PARALLEL_HOSTS);
    let mut findings: Vec<Finding> = findings.filter_map(std::future::ready).collect().await;
    findings.sort_by_key(|finding| finding.host);
    findings
}

/// Whether an agent that knows `other` knows `action`: one of its kind, at the same moment.
fn is_known_with(action: &StepAction, other: &StepAction) -> bool {
    discriminant(action) == discriminant(other) && action.moment() == other.moment()
}

/// Refuses a plan that has no preflight of its own where an agent does not know a step of it, or of `later`, which plans after it
/// have.
///
/// # Errors
/// When one does not: exit code 3.
pub(super) async fn refuse_unknown<S: Sessions>(
    plan: &Plan,
    later: &[(IpAddr, Step)],
    sessions: &S,
) -> anyhow::Result<()> {
    let findings = unknown_of(plan, later, sessions).await;
    if findings.is_empty() {
        return Ok(());
    }
    anstream::eprintln!(
        "Preflight, before anything of this plan was begun:\n{}",
        preflight::render(&findings)
    );
    let hosts = plan.hosts.iter().map(|host| host.address);
    let hosts: BTreeSet<IpAddr> = hosts.chain(later.iter().map(|(host, _)| *host)).collect();
    Err(failure_hint(
        ExitCode::Preflight,
        format!(
            "{} of {} hosts have agents that are too old for this plan; nothing of it was begun",
            findings.len(),
            hosts.len()
        ),
        "put the newer package on them; what runs on a host goes on meanwhile. `gantry status` shows the version of every agent",
    ))
}
