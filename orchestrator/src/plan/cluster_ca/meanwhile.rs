//! What has to wait while a CA is being replaced.

use gantry_model::{ExitCode, KubeadmAct, StepAction};

use crate::exit::failure_hint;
use crate::inventory::ClusterInventory;
use crate::plan::{Plan, PlannedStep, kubeadm};

/// Refuses to make hosts members, or to take members to another version, while the CA is being replaced: kubeadm would give
/// their control planes a file with several CAs where they take one, and hosts the trust of that moment.
///
/// # Errors
/// When it is, and `plan` would.
pub(crate) fn refuse_meanwhile(plan: &Plan, inventory: &ClusterInventory) -> anyhow::Result<()> {
    let mut reports = inventory
        .reached()
        .filter(|(_, report)| kubeadm::is_member(&plan.cluster, Some(report)));
    let Some((host, _)) = reports.find(|(_, report)| report.inventory.cluster_cas.are_replaced()) else {
        return Ok(());
    };
    let is_kubeadm = |step: &&PlannedStep| {
        let StepAction::Kubeadm(spec) = &step.step.action else {
            return false;
        };
        step.is_to_do() && spec.act != KubeadmAct::Reset
    };
    let Some(step) = plan.steps().find(is_kubeadm) else {
        return Ok(());
    };
    Err(failure_hint(
        ExitCode::Preflight,
        format!(
            "{} of {} has to wait: the CA of cluster {} is being replaced ({host} has two)",
            step.title, step.host, plan.cluster
        ),
        "`gantry certs rotate-cluster-ca` goes on with that to its end; nothing was changed",
    ))
}
