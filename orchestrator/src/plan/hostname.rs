//! The steps by which hosts get the names that the Clusterfile has for them, and their own names back.

use gantry_model::{ExitCode, Step, StepAction};

use super::progress::{occasion, state_step};
use super::{Mark, PlanImage, PlannedStep, kubeadm};
use crate::clusterfile::{Clusterfile, Host};
use crate::exit::failure_hint;
use crate::inventory::HostReport;

const SET: &str = "hostname";

/// The name of the node that `host` is or becomes; empty when its agent did not say.
pub(super) fn node_of(host: &Host, report: Option<&HostReport>) -> String {
    match (&host.hostname, report) {
        (Some(name), _) => name.clone(),
        (None, Some(report)) => kubeadm::node_name(&report.inventory.facts.hostname),
        (None, None) => String::new(),
    }
}

/// The step that gives `host` its name; none where it needs none, or had it before.
///
/// # Errors
/// When the host is a node under another name.
pub(super) fn step(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
    report: Option<&HostReport>,
) -> anyhow::Result<Option<PlannedStep>> {
    let Some(name) = &host.hostname else {
        return Ok(None);
    };
    let cluster = &clusterfile.name;
    if let Some(report) = report {
        let present = report.node();
        if present != *name && image.kubernetes.is_some() && kubeadm::is_member(cluster, Some(report)) {
            return Err(failure_hint(
                ExitCode::Input,
                format!(
                    "{} is node {present} of cluster {cluster}, and the Clusterfile names it {name}: nodes are not renamed",
                    host.address
                ),
                format!(
                    "leave it {present} there; or take the host out of the file, apply, and put it back with its new name"
                ),
            ));
        }
        let never_set = report.latest(cluster, SET).is_none();
        if report.inventory.facts.hostname == *name && never_set {
            return Ok(None);
        }
    }
    let action = StepAction::SetHostname {
        cluster: cluster.clone(),
        name: name.clone(),
    };
    let (step, mark, reason) = state_step(action, &[], report);
    let reason = match mark {
        Mark::Done => reason,
        _ => format!("{reason}: {name}"),
    };
    Ok(Some(PlannedStep::new(host.address, step, mark, reason)))
}

/// The step that gives a host its own name back, where it ever got another one.
pub(super) fn restore_step(clusterfile: &Clusterfile, report: &HostReport) -> Option<Step> {
    let set = report.latest(&clusterfile.name, SET)?;
    Some(Step {
        action: StepAction::RestoreHostname {
            cluster: clusterfile.name.clone(),
        },
        after: occasion(Some(set)),
    })
}
