//! What the journals say of a cluster's CAs: which step came last on a host, and which CAs the cluster was told last.

use std::net::IpAddr;

use gantry_model::{ClusterCa, ClusterName, Digest, StepAction, StepId, StepOutcome, StepRecord};

use super::Replacement;
use super::waves::pems;
use crate::plan::progress::step_over;
use crate::plan::{Mark, PlannedStep};

impl Replacement<'_> {
    /// The step that takes a CA out, where it was the last one on this host to change what is trusted there.
    pub(super) fn latest_withdrawal(&self, host: IpAddr) -> Option<&StepRecord> {
        let latest = self.latest_change(host)?;
        (latest.title == withdrawal_title(self.cluster)).then_some(latest)
    }

    /// That step, where it did not end well: something of the CA may be left.
    pub(super) fn unfinished_withdrawal(&self, host: IpAddr) -> Option<&StepRecord> {
        let latest = self.latest_withdrawal(host)?;
        let is_done = latest.outcome.as_ref().is_some_and(StepOutcome::succeeded);
        (!is_done).then_some(latest)
    }

    /// Whether a step that changes what this host trusts came after the step `id`, which it has.
    pub(super) fn is_outdated(&self, host: IpAddr, id: StepId) -> bool {
        self.record(host, id).is_some() && self.latest_change(host).is_some_and(|latest| latest.id != id)
    }

    /// The last step that changed, or tried to change, which CA this host trusts or signs by.
    fn latest_change(&self, host: IpAddr) -> Option<&StepRecord> {
        let titles = changing_titles(self.cluster);
        let mut records = self.inventory.report(host)?.records(self.cluster);
        records.rfind(|record| titles.contains(&record.title))
    }

    /// Lets the cluster know `cas`; done where it was told them last.
    ///
    /// What it was told is a state: told A, B and again A it is told three times, by three steps, for the first would be the
    /// one that the journal has as done. One that failed may have told it, so it counts.
    pub(super) fn publish(
        &self,
        on: IpAddr,
        cas: &[ClusterCa],
        after: Vec<StepId>,
        reason: &str,
    ) -> PlannedStep {
        let action = StepAction::PublishClusterCas {
            cluster: self.cluster.clone(),
            authorities: pems(cas),
        };
        let told = self.told();
        let step = step_over(&action, &after, &told);
        let succeeded = |record: &&StepRecord| record.outcome.as_ref().is_some_and(StepOutcome::succeeded);
        let is_in_place = told
            .last()
            .filter(|record| succeeded(record))
            .is_some_and(|record| record.id == step.id());
        // With but one CA everywhere, there is but one that it can have been told.
        if is_in_place || self.cas.len() == 1 && self.is_told_one() {
            return PlannedStep::new(on, step, Mark::Done, "done");
        }
        self.planned(on, step, reason)
    }

    /// Whether the cluster was told one CA last, and not several.
    pub(super) fn is_told_one(&self) -> bool {
        let [one, _] = publishing_titles(self.cluster);
        self.is_told(&one)
    }

    /// Whether it was told several last.
    pub(super) fn is_told_both(&self) -> bool {
        let [_, both] = publishing_titles(self.cluster);
        self.is_told(&both)
    }

    fn is_told(&self, title: &str) -> bool {
        let told = self.told();
        let last = told.last().filter(|record| record.title == title);
        last.is_some_and(|record| record.outcome.as_ref().is_some_and(StepOutcome::succeeded))
    }

    /// The steps that told the cluster its CAs, the latest last. Which control plane they ran on does not count.
    pub(super) fn told(&self) -> Vec<&StepRecord> {
        let titles = publishing_titles(self.cluster);
        let mut told: Vec<(i64, &StepRecord)> = Vec::new();
        for report in self
            .control_planes
            .iter()
            .filter_map(|host| self.inventory.report(*host))
        {
            let records = report.records(self.cluster);
            let records = records.filter(|record| titles.contains(&record.title));
            told.extend(records.map(|record| (report.by_our_clock(record.started_at), record)));
        }
        told.sort_by_key(|(at, _)| *at);
        told.into_iter().map(|(_, record)| record).collect()
    }
}

/// What the steps are called that take a CA out.
pub(super) fn withdrawal_title(cluster: &ClusterName) -> String {
    let action = StepAction::WithdrawClusterCa {
        cluster: cluster.clone(),
        ca: Digest::of(b""),
        authorities: Vec::new(),
    };
    action.title()
}

/// What the steps are called that change which CA a host trusts or signs by.
fn changing_titles(cluster: &ClusterName) -> [String; 4] {
    let trust = |count| StepAction::TrustClusterCas {
        cluster: cluster.clone(),
        authorities: vec![String::new(); count],
    };
    let sign = StepAction::SignByClusterCa {
        cluster: cluster.clone(),
        ca: Digest::of(b""),
        from: None,
    };
    [
        trust(1).title(),
        trust(2).title(),
        sign.title(),
        withdrawal_title(cluster),
    ]
}

/// What the steps are called that tell the cluster one CA, and several.
pub(in crate::plan) fn publishing_titles(cluster: &ClusterName) -> [String; 2] {
    [1, 2].map(|count| {
        let action = StepAction::PublishClusterCas {
            cluster: cluster.clone(),
            authorities: vec![String::new(); count],
        };
        action.title()
    })
}
