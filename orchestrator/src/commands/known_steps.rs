//! Whether the agents of hosts know the steps that a plan has for them: an older one cannot even refuse what it does not know.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
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
    // What is in a step is known where one of its kind is.
    let mut kinds: BTreeMap<IpAddr, Vec<(Discriminant<StepAction>, &Step)>> = BTreeMap::new();
    for planned in plan
        .steps()
        .filter(|step| step.is_to_do() && step.step.action.may_be_unknown())
    {
        let kind = discriminant(&planned.step.action);
        let asked = kinds.entry(planned.host).or_default();
        if asked.iter().all(|(other, _)| *other != kind) {
            asked.push((kind, &planned.step));
        }
    }
    let ask = |(host, steps): (IpAddr, Vec<(Discriminant<StepAction>, &Step)>)| {
        let steps: Vec<Step> = steps.into_iter().map(|(_, step)| step.clone()).collect();
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

/// Refuses a plan that has no preflight of its own where an agent does not know a step of it.
///
/// # Errors
/// When one does not: exit code 3.
pub(super) async fn refuse_unknown<S: Sessions>(plan: &Plan, sessions: &S) -> anyhow::Result<()> {
    let findings = unknown(plan, sessions).await;
    if findings.is_empty() {
        return Ok(());
    }
    anstream::eprintln!(
        "Preflight, before anything of this plan was begun:\n{}",
        preflight::render(&findings)
    );
    Err(failure_hint(
        ExitCode::Preflight,
        format!(
            "{} of {} hosts have agents that are too old for this plan; nothing of it was begun",
            findings.len(),
            plan.hosts.len()
        ),
        "put the newer package on them; what runs on a host goes on meanwhile. `gantry status` shows the version of every agent",
    ))
}
