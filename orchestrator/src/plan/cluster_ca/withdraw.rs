//! The way back, while the new CA does not sign: it is taken out again where it is.
//!
//! ```text
//! its key    the control plane that made it forgets it, and trusts the old one alone
//! cluster    hosts that join know the old one alone; pods that know both stay as they are
//! the others control planes, then workers, trust the old one alone. Nothing was signed by the new one
//! ```

use std::net::IpAddr;

use gantry_model::{ClusterCa, ExitCode, Step, StepAction, StepId, StepRecord};

use super::Replacement;
use super::waves::{pems, wave};
use crate::exit::failure_hint;
use crate::plan::{Mark, Plan, PlannedStep, Wave};

impl Replacement<'_> {
    /// The plan that takes the new CA out again; none where no CA is being replaced on any host that answers.
    ///
    /// # Errors
    /// When it signs already, or Gantry did not make it.
    pub fn withdrawal(&self) -> anyhow::Result<Option<Plan>> {
        let first = self.holder().unwrap_or(self.control_planes[0]);
        let (Some(new), true) = (self.newest(), self.cas.len() > 1) else {
            // The last run may have been cut off before the cluster knew.
            let rest = self.latest_withdrawal().zip(self.newest());
            let rest = rest.map(|(record, only)| self.publish_one(first, only, record.id));
            let rest = rest.filter(PlannedStep::is_to_do);
            return Ok(rest.map(|publish| self.plan(vec![wave("cluster", vec![publish])])));
        };
        if !self.is_ours() {
            return Err(self.not_ours());
        }
        let signing = self.signing_before(new)?;
        let step = self.withdraw_step(new, &signing);
        let withdraw = |host: &IpAddr| {
            let mut planned = self.planned(*host, step.clone(), "it signed nothing yet");
            if planned.is_to_do() {
                planned.mark = Mark::Remove;
            }
            planned
        };
        let mut waves: Vec<Wave> = self.one_after_the_other("new CA goes", first, withdraw);
        for wave in &mut waves {
            wave.steps
                .retain(|step| self.has_to_withdraw(step.host, new, &signing));
        }
        let publish = self.publish_one(first, &signing, step.id());
        waves.insert(1, wave("cluster", vec![publish]));
        waves.push(self.nodes_wave(first, vec![step.id()]));
        let plan = self.plan(waves);
        Ok((plan.to_do() > 0).then_some(plan))
    }

    /// The CA that signs on every control plane, which is not `new`.
    fn signing_before(&self, new: &ClusterCa) -> anyhow::Result<ClusterCa> {
        let mut signing: Option<ClusterCa> = None;
        for host in &self.control_planes {
            let report = self.inventory.report(*host);
            let first = report.and_then(|report| report.inventory.cluster_cas.trusted.first());
            if first == Some(new) {
                return Err(failure_hint(
                    ExitCode::Preflight,
                    format!(
                        "the new CA of cluster {} signs already, on control plane {host}: it cannot be taken back",
                        self.cluster
                    ),
                    "`gantry certs rotate-cluster-ca` goes on with the replacement to its end; nothing was changed",
                ));
            }
            match (&signing, first) {
                (None, Some(first)) => signing = Some(first.clone()),
                (Some(one), Some(first)) if one == first => {}
                _ => return Err(self.not_ours()),
            }
        }
        signing.ok_or_else(|| self.not_ours())
    }

    /// Whether a run that takes `new` back has begun: it cannot come to sign any more.
    pub(super) fn is_being_withdrawn(&self, new: &ClusterCa) -> bool {
        let Ok(signing) = self.signing_before(new) else {
            return false;
        };
        let id = self.withdraw_step(new, &signing).id();
        let mut members = self.members().into_iter();
        members.any(|host| self.record(host, id).is_some())
    }

    /// Where nothing of it is, and nothing was begun, nothing starts anew.
    fn has_to_withdraw(&self, host: IpAddr, new: &ClusterCa, signing: &ClusterCa) -> bool {
        let found = self
            .inventory
            .report(host)
            .map(|report| &report.inventory.cluster_cas);
        let has = found.is_some_and(|cas| cas.next.as_ref() == Some(new) || cas.has(&new.fingerprint));
        let begun = [
            self.trust_step(&self.cas).id(),
            self.withdraw_step(new, signing).id(),
        ];
        has || begun.iter().any(|id| self.record(host, *id).is_some())
    }

    fn withdraw_step(&self, new: &ClusterCa, signing: &ClusterCa) -> Step {
        let action = StepAction::WithdrawClusterCa {
            cluster: self.cluster.clone(),
            ca: new.fingerprint,
            authorities: pems(std::slice::from_ref(signing)),
        };
        Step {
            action,
            after: Vec::new(),
        }
    }

    fn publish_one(&self, on: IpAddr, ca: &ClusterCa, withdrawn: StepId) -> PlannedStep {
        let action = StepAction::PublishClusterCas {
            cluster: self.cluster.clone(),
            authorities: pems(std::slice::from_ref(ca)),
        };
        let after = vec![withdrawn];
        self.planned(
            on,
            Step { action, after },
            "hosts that join know the old CA alone",
        )
    }

    /// The latest step on a control plane that took a CA back.
    fn latest_withdrawal(&self) -> Option<&StepRecord> {
        let reports = self
            .control_planes
            .iter()
            .filter_map(|host| self.inventory.report(*host));
        let records = reports.flat_map(|report| report.records(self.cluster));
        let title = self.withdrawal_title();
        records
            .filter(|record| record.title == title)
            .max_by_key(|record| record.started_at)
    }

    /// What the steps are called that take a CA back.
    pub(super) fn withdrawal_title(&self) -> String {
        let action = StepAction::WithdrawClusterCa {
            cluster: self.cluster.clone(),
            ca: gantry_model::Digest::of(b""),
            authorities: Vec::new(),
        };
        action.title()
    }
}
