//! The waves by which etcd comes to hold again what a snapshot holds: what it holds now is kept, every API server stops, one
//! control plane restores, and everything that watched the cluster begins anew.

use std::net::IpAddr;

use gantry_model::{
    BEFORE_RESTORE, ClusterName, ExitCode, SnapshotName, Step, StepAction, StepId, StepOutcome, StepRecord,
};

use super::progress::{occasion, why_to_do};
use super::renew::first_to_end;
use super::{Mark, PLAN_VERSION, Place, Plan, PlannedHost, PlannedStep, Purpose, Wave, kubeadm};
use crate::exit::failure_hint;
use crate::inventory::{ClusterInventory, HostReport};

/// Length of the word that tells restores apart, in hex digits.
const WORD_LEN: usize = 8;

/// Where a snapshot is restored, and on what its steps build.
#[derive(Debug)]
pub struct Restore {
    cluster: ClusterName,
    snapshot: SnapshotName,
    /// The control plane that restores.
    on: IpAddr,
    /// In the order of the plan.
    control_planes: Vec<IpAddr>,
    /// The members that are none.
    workers: Vec<IpAddr>,
    occasion: Vec<StepId>,
}

impl Restore {
    /// How `snapshot` is restored in `cluster`, whose hosts are `hosts`.
    ///
    /// # Errors
    /// When a control plane does not answer, or none has the snapshot.
    pub fn new(
        cluster: &ClusterName,
        hosts: &[IpAddr],
        inventory: &ClusterInventory,
        snapshot: SnapshotName,
    ) -> anyhow::Result<Self> {
        let member = |host: &IpAddr| kubeadm::is_member(cluster, inventory.report(*host));
        let is_control_plane = |host: &IpAddr| inventory.report(*host).and_then(first_to_end).is_some();
        let members = hosts.iter().copied().filter(member);
        let (mut control_planes, workers): (Vec<IpAddr>, Vec<IpAddr>) = members.partition(is_control_plane);
        if control_planes.is_empty() {
            return Err(failure_hint(
                ExitCode::Input,
                format!("no host that answers is a control plane of cluster {cluster}"),
                "`gantry status` shows its hosts; nothing was changed",
            ));
        }
        // Which of them are control planes is not known, and one that runs would go on changing what is restored.
        if let Some((host, reason)) = inventory.unreachable().next() {
            return Err(failure_hint(
                ExitCode::Unreachable,
                format!("{host} does not answer: {reason}"),
                "every host has to, since no API server may run meanwhile; for one that is gone for good, \
                 `gantry delete --force` comes first; nothing was changed",
            ));
        }
        let has = |host: &&IpAddr| match &snapshot {
            SnapshotName::Given(_) => true,
            SnapshotName::Before(before) => inventory
                .report(**host)
                .is_some_and(|report| has_kept(report, cluster, before)),
        };
        let Some(&on) = control_planes.iter().find(has) else {
            return Err(failure_hint(
                ExitCode::Input,
                format!("no control plane of cluster {cluster} has a snapshot {snapshot}"),
                match kept(cluster, inventory).as_slice() {
                    [] => "none is kept; give one with -i FILE".to_owned(),
                    kept => format!("kept are: {}", kept.join(", ")),
                },
            ));
        };
        let last = inventory
            .report(on)
            .and_then(|report| latest_end(cluster, report));
        // Its API server is the last to start: that it did is how the end is remembered.
        control_planes.sort_by_key(|host| *host == on);
        Ok(Self {
            cluster: cluster.clone(),
            snapshot,
            on,
            control_planes,
            workers,
            occasion: occasion(last),
        })
    }

    /// The control plane that restores.
    #[must_use]
    pub const fn on(&self) -> IpAddr {
        self.on
    }

    /// The plan that restores, and does nothing else.
    #[must_use]
    pub fn plan(&self, inventory: &ClusterInventory) -> Plan {
        let planned = |address: IpAddr| {
            let report = inventory.report(address)?;
            Some(PlannedHost {
                address,
                seen: report.latest(&self.cluster, "rootfs").map(|record| record.id),
                ports: Vec::new(),
                etcd: self.control_planes.contains(&address),
                node: report.node(),
                place: Place::Stays,
            })
        };
        Plan {
            version: PLAN_VERSION,
            purpose: Purpose::Restore,
            cluster: self.cluster.clone(),
            image: None,
            kubernetes: None,
            hosts: self.members().filter_map(planned).collect(),
            waves: self.waves(inventory),
        }
    }

    /// The waves.
    pub(super) fn waves(&self, inventory: &ClusterInventory) -> Vec<Wave> {
        let cluster = self.cluster.clone();
        let wave = |title: &str, steps| Wave {
            title: title.into(),
            keep_going: false,
            steps,
        };
        let remembered = |host: IpAddr, action, after: &[StepId], reason: &str| {
            let step = Step {
                action,
                after: after.to_vec(),
            };
            let report = inventory.report(host);
            if report.is_some_and(|report| why_to_do(step.id(), report).is_none()) {
                return PlannedStep::new(host, step, Mark::Done, "done");
            }
            PlannedStep::new(host, step, Mark::Change, reason)
        };
        // Whether an API server runs is a fact of its host, not of history.
        let always = |host: &IpAddr, action, after: &[StepId], reason: &str| {
            let after = after.to_vec();
            PlannedStep::new(*host, Step { action, after }, Mark::Change, reason)
        };
        let keep = StepAction::KeepEtcdSnapshot {
            cluster: cluster.clone(),
            before: self.kept_before(),
        };
        let keep = remembered(
            self.on,
            keep,
            &self.occasion,
            "what etcd holds now, to go back to",
        );
        let restore = StepAction::RestoreEtcd {
            cluster: cluster.clone(),
            snapshot: self.snapshot.clone(),
        };
        let restore = remembered(self.on, restore, &[keep.id], "what came later is lost");
        let stop = |host| {
            let action = StepAction::StopApiServer {
                cluster: cluster.clone(),
            };
            always(host, action, &[keep.id], "nobody changes the cluster meanwhile")
        };
        let start = |host: &IpAddr| {
            let action = StepAction::StartApiServer {
                cluster: cluster.clone(),
            };
            always(host, action, &[restore.id], "with what was restored")
        };
        let kubelet = |host: &IpAddr| {
            let action = StepAction::RestartKubelet {
                cluster: cluster.clone(),
            };
            remembered(*host, action, &[restore.id], "to register its node again")
        };
        let [others @ .., last] = &self.control_planes[..] else {
            return Vec::new();
        };
        let mut waves = vec![wave("etcd snapshot", vec![keep.clone()])];
        if restore.is_to_do() {
            waves.push(wave("stop", self.control_planes.iter().map(stop).collect()));
        }
        waves.extend([
            wave("restore", vec![restore.clone()]),
            wave("kubelets", self.workers.iter().map(kubelet).collect()),
            wave("start", others.iter().map(start).collect()),
            wave("start", vec![start(last)]),
        ]);
        waves.retain(|wave| !wave.steps.is_empty());
        waves
    }

    fn members(&self) -> impl Iterator<Item = IpAddr> {
        self.control_planes.iter().chain(&self.workers).copied()
    }

    /// What the snapshot is named after that is kept before.
    fn kept_before(&self) -> String {
        let word = self
            .occasion
            .first()
            .map_or_else(|| "first".to_owned(), StepId::short);
        format!("{BEFORE_RESTORE}{}", &word[..word.len().min(WORD_LEN)])
    }
}

/// The step by which the last restore came to its end on a host.
fn latest_end<'a>(cluster: &ClusterName, report: &'a HostReport) -> Option<&'a StepRecord> {
    let title = (StepAction::StartApiServer {
        cluster: cluster.clone(),
    })
    .title();
    succeeded(cluster, report, &title)
}

/// The latest step with this title that succeeded.
fn succeeded<'a>(cluster: &ClusterName, report: &'a HostReport, title: &str) -> Option<&'a StepRecord> {
    let done = report.records(cluster).filter(|record| {
        record.title == title && record.outcome.as_ref().is_some_and(StepOutcome::succeeded)
    });
    done.max_by_key(|record| record.started_at)
}

/// Whether what was kept before `before` was restored since, to the end.
pub(super) fn is_restored(cluster: &ClusterName, inventory: &ClusterInventory, before: &str) -> bool {
    let title = (StepAction::RestoreEtcd {
        cluster: cluster.clone(),
        snapshot: SnapshotName::Before(before.to_owned()),
    })
    .title();
    inventory.reached().any(|(_, report)| {
        let kept = report.inventory.etcd_snapshots.iter();
        let kept = kept.filter(|kept| kept.cluster == *cluster && kept.before == before);
        let restored = succeeded(cluster, report, &title);
        let end = latest_end(cluster, report);
        matches!((kept.map(|kept| kept.at).max(), restored, end), (Some(at), Some(restored), Some(end))
            if restored.started_at >= at && end.started_at >= restored.started_at)
    })
}

fn has_kept(report: &HostReport, cluster: &ClusterName, before: &str) -> bool {
    let mut kept = report.inventory.etcd_snapshots.iter();
    kept.any(|kept| kept.cluster == *cluster && kept.before == before)
}

/// What snapshots are kept before, on any host, the newest last.
#[must_use]
pub fn kept(cluster: &ClusterName, inventory: &ClusterInventory) -> Vec<String> {
    let reports = inventory.reached();
    let mut kept: Vec<_> = reports
        .flat_map(|(_, report)| &report.inventory.etcd_snapshots)
        .filter(|kept| kept.cluster == *cluster)
        .map(|kept| (kept.at, kept.before.clone()))
        .collect();
    kept.sort();
    kept.into_iter().map(|(_, before)| before).collect()
}
