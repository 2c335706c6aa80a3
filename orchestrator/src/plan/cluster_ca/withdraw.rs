//! The way back, while the new CA does not sign: it is taken out again where it is.
//!
//! ```text
//! its key    the control plane that made it forgets it, and trusts the old one alone
//! cluster    hosts that join know the old one alone; pods that know both stay as they are
//! the others control planes, then workers, trust the old one alone. Nothing was signed by the new one
//! ```

use std::net::IpAddr;

use gantry_model::{ClusterCa, Digest, ExitCode, Step, StepAction, StepId};

use super::waves::{pems, wave};
use super::{Replacement, Stage};
use crate::exit::failure_hint;
use crate::plan::{Mark, Plan, PlannedStep};

impl Replacement<'_> {
    /// The plan that takes the new CA out again; none where no CA is being replaced on any host that answers, and nothing is
    /// left of one that was.
    ///
    /// # Errors
    /// When it signs already, or Gantry did not make it.
    pub fn withdrawal(&self) -> anyhow::Result<Option<Plan>> {
        let first = self.holder().unwrap_or(self.control_planes[0]);
        let Some(new) = self.newest() else {
            return Ok(None);
        };
        if let [only] = &self.cas[..] {
            let rest = self.rest(first, only);
            if rest.is_none() && matches!(self.settled(only), Stage::Drop(_)) {
                return Err(self.signs_already(first));
            }
            return Ok(rest);
        }
        if !self.is_ours() {
            return Err(self.not_ours());
        }
        self.refuse_lost_key()?;
        let signing = self.signing_before(new)?;
        let step = self.withdraw_step(new.fingerprint, &signing, Vec::new());
        let mut waves =
            self.one_after_the_other("new CA goes", first, |host| self.removal(*host, step.clone()));
        for wave in &mut waves {
            wave.steps
                .retain(|step| self.has_to_withdraw(step.host, new, &signing));
        }
        waves.insert(
            1,
            wave("cluster", vec![self.publish_old(first, &signing, step.id())]),
        );
        waves.push(self.nodes_wave(first, step.id()));
        let plan = self.plan(waves);
        Ok((plan.to_do() > 0).then_some(plan))
    }

    /// What a withdrawal that was cut off left when no host had anything of that CA any more: hosts on which it did not end, and
    /// a cluster that was not told.
    fn rest(&self, first: IpAddr, only: &ClusterCa) -> Option<Plan> {
        let members = self.members();
        let withdrawn = members.iter().find_map(|host| self.latest_withdrawal(*host))?.id;
        let mut waves = self.one_after_the_other("new CA goes", first, |host| {
            // Nobody knows by now which CA it was; what the step says of that one is only compared with those that stay.
            let base = self
                .unfinished_withdrawal(*host)
                .map_or(withdrawn, |record| record.id);
            let gone = Digest::of(base.to_string().as_bytes());
            self.removal(*host, self.withdraw_step(gone, only, vec![base]))
        });
        for wave in &mut waves {
            wave.steps
                .retain(|step| self.unfinished_withdrawal(step.host).is_some());
        }
        if !self.is_told_one() {
            let publish = self.publish_old(first, only, withdrawn);
            waves.insert(1, wave("cluster", vec![publish]));
        }
        let plan = self.plan(waves);
        (plan.to_do() > 0).then_some(plan)
    }

    fn removal(&self, host: IpAddr, step: Step) -> PlannedStep {
        let mut planned = self.planned(host, step, "it signed nothing yet");
        if planned.is_to_do() {
            planned.mark = Mark::Remove;
        }
        planned
    }

    /// The CA that signs on every control plane, which is not `new`.
    fn signing_before(&self, new: &ClusterCa) -> anyhow::Result<ClusterCa> {
        let mut signing: Option<ClusterCa> = None;
        for host in &self.control_planes {
            let report = self.inventory.report(*host);
            let first = report.and_then(|report| report.inventory.cluster_cas.trusted.first());
            if first == Some(new) {
                return Err(self.signs_already(*host));
            }
            match (&signing, first) {
                (None, Some(first)) => signing = Some(first.clone()),
                (Some(one), Some(first)) if one == first => {}
                _ => return Err(self.not_ours()),
            }
        }
        signing.ok_or_else(|| self.not_ours())
    }

    fn signs_already(&self, host: IpAddr) -> anyhow::Error {
        failure_hint(
            ExitCode::Preflight,
            format!(
                "the new CA of cluster {} signs already, on control plane {host}: it cannot be taken back",
                self.cluster
            ),
            "`gantry certs rotate-cluster-ca` goes on with the replacement to its end; nothing was changed",
        )
    }

    /// Whether a run that takes `new`, the newest, back has begun, and `new` signs nowhere: it cannot come to sign any more. Also
    /// where nobody has it any more, and its withdrawal did not come to an end on some host.
    pub(super) fn is_being_withdrawn(&self, new: &ClusterCa) -> bool {
        let mut members = self.members().into_iter();
        if self.cas.len() == 1 {
            return members.any(|host| self.unfinished_withdrawal(host).is_some());
        }
        let Ok(signing) = self.signing_before(new) else {
            return false;
        };
        let id = self.withdraw_step(new.fingerprint, &signing, Vec::new()).id();
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
            self.trust_step(&self.overlap()).id(),
            self.withdraw_step(new.fingerprint, signing, Vec::new()).id(),
        ];
        has || begun.iter().any(|id| self.record(host, *id).is_some())
    }

    pub(super) fn withdraw_step(&self, ca: Digest, stays: &ClusterCa, after: Vec<StepId>) -> Step {
        let action = StepAction::WithdrawClusterCa {
            cluster: self.cluster.clone(),
            ca,
            authorities: pems(std::slice::from_ref(stays)),
        };
        Step { action, after }
    }

    fn publish_old(&self, on: IpAddr, ca: &ClusterCa, withdrawn: StepId) -> PlannedStep {
        let reason = "hosts that join know the old CA alone";
        self.publish(on, std::slice::from_ref(ca), vec![withdrawn], reason)
    }
}
