//! What the journals say about planned steps: done, or to do and why.

use gantry_model::{Digest, Step, StepAction, StepId, StepOutcome, StepRecord};

use super::{Mark, Plan, PlannedStep};
use crate::inventory::{ClusterInventory, HostReport};

/// The reason of a step that was never run.
pub(super) const NOT_DONE: &str = "not done yet";

/// Why a step has to run; none when the journal has it as done.
pub(super) fn why_to_do(id: StepId, report: &HostReport) -> Option<String> {
    let Some(record) = report.inventory.steps.iter().rev().find(|record| record.id == id) else {
        return Some(NOT_DONE.into());
    };
    match &record.outcome {
        Some(outcome) if outcome.succeeded() => None,
        Some(outcome) => Some(format!("again: {outcome}")),
        None => Some("runs now: its end is waited for".into()),
    }
}

/// A step that sets a state of its host, and whether that state holds.
///
/// The step of the same wish has another id each time it comes to overwrite something else: wishes A, B and again
/// A are three steps, or scripts that build on the third would be the ones that the journal has as done since the
/// first. What is overwritten is named behind `after`, the steps this one builds on.
pub(super) fn state_step(
    action: StepAction,
    after: &[StepId],
    report: Option<&HostReport>,
) -> (Step, Mark, String) {
    let first = Step {
        action: action.clone(),
        after: after.to_vec(),
    };
    let (Some(report), Some(cluster)) = (report, action.cluster()) else {
        return (first, Mark::Add, NOT_DONE.into());
    };
    let title = action.title();
    let records: Vec<&StepRecord> = report
        .records(cluster)
        .filter(|record| record.title == title)
        .collect();
    let Some(in_place) = records
        .iter()
        .rev()
        .find(|record| changed_the_host(record, &action))
    else {
        let reason = why_to_do(first.id(), report).unwrap_or_else(|| NOT_DONE.into());
        return (first, Mark::Add, reason);
    };
    let over = |id: StepId| Step {
        action: action.clone(),
        after: after.iter().copied().chain([id]).collect(),
    };
    let ours = std::iter::once(first.clone())
        .chain(records.iter().map(|record| over(record.id)))
        .find(|step| step.id() == in_place.id);
    let Some(ours) = ours else {
        // One that failed was to overwrite the same: it is that one once more, and what builds on it need not run again.
        let tried = records
            .iter()
            .rev()
            .take_while(|record| record.id != in_place.id)
            .find_map(|tried| {
                let over = records.iter().map(|record| over(record.id));
                std::iter::once(first.clone())
                    .chain(over)
                    .find(|step| step.id() == tried.id)
            });
        if let Some(tried) = tried {
            let reason = why_to_do(tried.id(), report);
            return (tried, Mark::Change, reason.unwrap_or_else(|| NOT_DONE.into()));
        }
        let known = records.iter().any(|record| record.id == first.id());
        let step = if known { over(in_place.id) } else { first };
        let reason = why_to_do(step.id(), report).filter(|reason| reason != NOT_DONE);
        return (
            step,
            Mark::Change,
            reason.unwrap_or_else(|| other_in_place(&action).into()),
        );
    };
    // What drifted is the same step once more: agents look at the state itself, and scripts need not run again.
    match (why_to_do(in_place.id, report), report.drift_of(&title)) {
        (Some(reason), _) => (ours, Mark::Change, reason),
        (None, Some(what)) => (ours, Mark::Change, format!("drifted: {what}")),
        (None, None) => (ours, Mark::Done, "done".into()),
    }
}

/// The step that makes `action` what is in place, where `records`, the latest last, set it before, to this or something else. As
/// in [`state_step`] it has another id each time it comes to overwrite something else; it has the id of the last record
/// where that one is of this wish, however it ended.
pub(super) fn step_over(action: &StepAction, after: &[StepId], records: &[&StepRecord]) -> Step {
    let first = Step {
        action: action.clone(),
        after: after.to_vec(),
    };
    let over = |record: &StepRecord| Step {
        action: action.clone(),
        after: after.iter().copied().chain([record.id]).collect(),
    };
    let Some(in_place) = records.last() else {
        return first;
    };
    let mut ours = std::iter::once(first.clone()).chain(records.iter().map(|record| over(record)));
    if let Some(step) = ours.find(|step| step.id() == in_place.id) {
        return step;
    }
    if records.iter().any(|record| record.id == first.id()) {
        return over(in_place);
    }
    first
}

const fn other_in_place(action: &StepAction) -> &'static str {
    match action {
        StepAction::MarkNodes { .. } => "changed in the Clusterfile",
        StepAction::LaunchApplication(_) | StepAction::RunShellCommand(_) => "again: its inputs changed",
        _ => "another one is in place",
    }
}

/// Whether a step may have left its state on the host: one that failed before it began did not, nor did a failed one, but of
/// an application a part may be launched, and of nodes some may be marked.
fn changed_the_host(record: &StepRecord, action: &StepAction) -> bool {
    let launches = matches!(
        action,
        StepAction::LaunchApplication(_) | StepAction::RunShellCommand(_)
    );
    match &record.outcome {
        None | Some(StepOutcome::Unknown) => true,
        Some(_) if matches!(action, StepAction::MarkNodes { .. }) => true,
        Some(StepOutcome::Script(_)) if launches => true,
        Some(outcome) => outcome.succeeded(),
    }
}

/// Brings the marks of a saved plan up to date: what was done since need not be done again.
pub fn refresh(plan: &mut Plan, inventory: &ClusterInventory) {
    for step in plan
        .waves
        .iter_mut()
        .flat_map(|wave| &mut wave.steps)
        .filter(|step| step.is_to_do())
    {
        let Some(report) = inventory.report(step.host) else {
            continue;
        };
        if is_done(step, report) {
            step.mark = Mark::Done;
            step.reason = "done".into();
        }
    }
}

fn is_done(step: &PlannedStep, report: &HostReport) -> bool {
    match &step.step.action {
        StepAction::Stage { layers, .. } => layers
            .iter()
            .all(|layer| report.inventory.layers.contains(&layer.digest)),
        _ => why_to_do(step.id, report).is_none() && report.drift_of(&step.title).is_none(),
    }
}

/// An id that stands for "this time": steps that have to run each time a cluster is taken down carry it in
/// `after`. It stays the same while one reset is tried again, and differs after the next `apply`.
pub(super) fn occasion(record: Option<&StepRecord>) -> Vec<StepId> {
    let text = |record: &StepRecord| format!("{} {}", record.id, record.started_at);
    let id = record.map(|record| Digest::of(text(record).as_bytes()).hex());
    id.and_then(|hex| hex.parse().ok()).into_iter().collect()
}
