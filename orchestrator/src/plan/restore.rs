//! The waves by which etcd comes to hold again what a snapshot holds: what it holds now is kept, every API server stops, one
//! control plane restores, everything that watched the cluster begins anew, and the cluster is told the CAs that its hosts have.

use std::net::IpAddr;

use gantry_model::{
    BEFORE_RESTORE, ClusterName, ExitCode, SnapshotName, Step, StepAction, StepId, StepOutcome, StepRecord,
};

use super::cluster_ca::publishing_titles;
use super::progress::{occasion, step_over, why_to_do};
use super::renew::first_to_end;
use super::{Mark, PLAN_VERSION, Place, Plan, PlannedHost, PlannedStep, Purpose, Wave, kubeadm};
use crate::exit::failure_hint;
use crate::inventory::{ClusterInventory, HostReport};

/// What the titles of steps begin with that change etcd.
const RESTORE: &str = "restore etcd";
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
    /// Certificates of the cluster's CAs as the one that restores trusts them, PEM: what etcd says of them may be older.
    authorities: Vec<String>,
    occasion: Vec<StepId>,
}

impl Restore {
    /// How `snapshot` is restored in `cluster`, whose hosts are `hosts`, `masters` among them.
    ///
    /// # Errors
    /// When a control plane does not answer, or none has the snapshot.
    pub fn new(
        cluster: &ClusterName,
        hosts: &[IpAddr],
        masters: &[IpAddr],
        inventory: &ClusterInventory,
        snapshot: SnapshotName,
    ) -> anyhow::Result<Self> {
        let member = |host: &IpAddr| kubeadm::is_member(cluster, inventory.report(*host));
        let is_control_plane = |host: &IpAddr| inventory.report(*host).and_then(first_to_end).is_some();
        let members = hosts.iter().copied().filter(member);
        let (mut control_planes, workers): (Vec<IpAddr>, Vec<IpAddr>) = members.partition(is_control_plane);
        // Its API server might go on changing what is restored.
        if let Some((host, reason)) = inventory.unreachable().find(|(host, _)| masters.contains(host)) {
            return Err(failure_hint(
                ExitCode::Unreachable,
                format!("control plane {host} does not answer: {reason}"),
                "every control plane has to, since no API server may run meanwhile",
            ));
        }
        if control_planes.is_empty() {
            return Err(failure_hint(
                ExitCode::Input,
                format!("no host that answers is a control plane of cluster {cluster}"),
                "`gantry status` shows its hosts; nothing was changed",
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
                match &snapshot {
                    SnapshotName::Before(before) => {
                        format!("no control plane of cluster {cluster} keeps a snapshot from before {before}")
                    }
                    SnapshotName::Given(_) => {
                        format!("no control plane of cluster {cluster} can take a snapshot")
                    }
                },
                match kept(cluster, inventory).as_slice() {
                    [] => "none is kept; give one with -i FILE".to_owned(),
                    kept => format!("kept are: {}", kept.join(", ")),
                },
            ));
        };
        let report = inventory.report(on);
        let last = report.and_then(|report| base(cluster, report, &snapshot));
        let authorities = report.map(authorities).unwrap_or_default();
        // Its API server is the last to start: that it did is how the end is remembered.
        control_planes.sort_by_key(|host| *host == on);
        Ok(Self {
            cluster: cluster.clone(),
            snapshot,
            on,
            control_planes,
            workers,
            authorities,
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
                kubernetes: None,
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
        let keep = keep_step(&cluster, self.occasion.clone());
        let keep = remembered(
            self.on,
            keep.action,
            &keep.after,
            "what etcd holds now, to go back to",
        );
        let restore = self.restore_step(keep.id, inventory);
        let restore = remembered(self.on, restore.action, &restore.after, "what came later is lost");
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
            Wave {
                // A worker whose kubelet does not start keeps no API server down.
                keep_going: true,
                ..wave("kubelets", self.workers.iter().map(kubelet).collect())
            },
            wave("start", others.iter().map(start).collect()),
            wave("start", vec![start(last)]),
        ]);
        if !self.authorities.is_empty() {
            let publish = publish_step(&cluster, &self.authorities, restore.id);
            let reason = "what was restored may name the CAs of then";
            let publish = remembered(*last, publish.action, &publish.after, reason);
            waves.push(wave("cluster", vec![publish]));
        }
        waves.retain(|wave| !wave.steps.is_empty());
        waves
    }

    /// The step that restores, after what etcd held was kept by `keep`: another one each time something else was restored since, on
    /// whichever control plane.
    fn restore_step(&self, keep: StepId, inventory: &ClusterInventory) -> Step {
        let action = StepAction::RestoreEtcd {
            cluster: self.cluster.clone(),
            snapshot: self.snapshot.clone(),
        };
        let reports = self
            .control_planes
            .iter()
            .filter_map(|host| inventory.report(*host));
        let mut before: Vec<(i64, &StepRecord)> = Vec::new();
        for report in reports {
            let records = restores(&self.cluster, report).into_iter();
            before.extend(records.map(|record| (report.by_our_clock(record.started_at), record)));
        }
        before.sort_by_key(|(at, _)| *at);
        let before: Vec<&StepRecord> = before.into_iter().map(|(_, record)| record).collect();
        step_over(&action, &[keep], &before)
    }

    fn members(&self) -> impl Iterator<Item = IpAddr> {
        self.control_planes.iter().chain(&self.workers).copied()
    }
}

/// The step by which API servers ran again last on a host.
fn latest_start<'a>(cluster: &ClusterName, report: &'a HostReport) -> Option<&'a StepRecord> {
    let title = (StepAction::StartApiServer {
        cluster: cluster.clone(),
    })
    .title();
    succeeded(cluster, report, &title)
}

/// The step by which the last restore came to its end on a host; none while the cluster was not told its CAs.
fn latest_end<'a>(cluster: &ClusterName, report: &'a HostReport) -> Option<&'a StepRecord> {
    let end = latest_start(cluster, report)?;
    (!is_untold(cluster, report)).then_some(end)
}

/// Whether the last restore on a host did not come to tell the cluster its CAs, or was cut off before it began to. Which CAs those
/// were does not count: they may be others by now.
fn is_untold(cluster: &ClusterName, report: &HostReport) -> bool {
    // Where the host has none, none were to be told.
    if authorities(report).is_empty() {
        return false;
    }
    let titles = publishing_titles(cluster);
    let told = |record: &StepRecord| {
        titles.contains(&record.title) && record.outcome.as_ref().is_some_and(StepOutcome::succeeded)
    };
    // In the order in which they began, whatever the clock said.
    let mut latest = report.records(cluster).rev();
    let restores = |record: &StepRecord| record.title.starts_with(RESTORE);
    let last = latest.find(|record| told(record) || restores(record));
    last.is_some_and(restores)
}

/// The steps that changed etcd on a host, the latest last.
fn restores<'a>(cluster: &ClusterName, report: &'a HostReport) -> Vec<&'a StepRecord> {
    let records = report.records(cluster);
    records
        .filter(|record| record.title.starts_with(RESTORE))
        .collect()
}

/// Whether the last restore on a host was one of `snapshot`.
fn was_of(cluster: &ClusterName, report: &HostReport, snapshot: &SnapshotName) -> bool {
    let action = StepAction::RestoreEtcd {
        cluster: cluster.clone(),
        snapshot: snapshot.clone(),
    };
    let restores = restores(cluster, report);
    restores
        .last()
        .is_some_and(|record| record.title == action.title())
}

/// The cluster's CAs as a host trusts them, PEM.
fn authorities(report: &HostReport) -> Vec<String> {
    let trusted = report.inventory.cluster_cas.trusted.iter();
    trusted.map(|ca| ca.pem.clone()).collect()
}

/// The step that tells a cluster its CAs after the step `restore`.
fn publish_step(cluster: &ClusterName, authorities: &[String], restore: StepId) -> Step {
    Step {
        action: StepAction::PublishClusterCas {
            cluster: cluster.clone(),
            authorities: authorities.to_vec(),
        },
        after: vec![restore],
    }
}

/// What tells this restore apart from the one before on the same host: the step that the keeping of what etcd holds builds on. It
/// stays the same once etcd was changed; before that, and after the end, what etcd holds is kept anew. One that only did not
/// come to tell the cluster its CAs goes on when the same snapshot is restored; to another one it is over, since API servers run.
fn base<'a>(
    cluster: &ClusterName,
    report: &'a HostReport,
    snapshot: &SnapshotName,
) -> Option<&'a StepRecord> {
    let end = if was_of(cluster, report, snapshot) {
        latest_end(cluster, report)
    } else {
        latest_start(cluster, report)
    };
    let Some(kept) = succeeded(cluster, report, &keep_step(cluster, Vec::new()).action.title()) else {
        return end;
    };
    let later = |record: &StepRecord| record.started_at >= kept.started_at;
    if end.is_some_and(later) {
        return end;
    }
    let mut restores = report
        .records(cluster)
        .filter(|record| record.title.starts_with(RESTORE));
    if !restores.any(later) {
        return Some(kept);
    }
    let built_on = |record: &Option<&StepRecord>| keep_step(cluster, occasion(*record)).id() == kept.id;
    let mut records = report.records(cluster).map(Some).chain([None]);
    records.find(built_on).unwrap_or(Some(kept))
}

/// The step that keeps what etcd holds.
fn keep_step(cluster: &ClusterName, occasion: Vec<StepId>) -> Step {
    let word = occasion.first().map_or_else(|| "first".to_owned(), StepId::short);
    let before = format!("{BEFORE_RESTORE}{}", &word[..word.len().min(WORD_LEN)]);
    let action = StepAction::KeepEtcdSnapshot {
        cluster: cluster.clone(),
        before,
    };
    Step {
        action,
        after: occasion,
    }
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
        // It may be gone by now: older ones make room for newer ones.
        let kept = report.inventory.etcd_snapshots.iter();
        let kept = kept.filter(|kept| kept.cluster == *cluster && kept.before == before);
        let at = kept.map(|kept| kept.at).max().unwrap_or(i64::MIN);
        let restored = succeeded(cluster, report, &title);
        let end = latest_end(cluster, report);
        matches!((restored, end), (Some(restored), Some(end))
            if restored.started_at >= at && end.started_at >= restored.started_at)
    })
}

/// The step that changed etcd last: of the steps in `waves`, or else of the journals, however it ended.
pub(super) fn latest_restore(
    cluster: &ClusterName,
    inventory: &ClusterInventory,
    waves: &[Wave],
) -> Option<StepId> {
    let mut planned = waves.iter().flat_map(|wave| &wave.steps);
    let planned = planned.find(|step| matches!(step.step.action, StepAction::RestoreEtcd { .. }));
    let records = inventory
        .reached()
        .flat_map(|(_, report)| report.records(cluster));
    let restores = records.filter(|record| record.title.starts_with(RESTORE));
    let latest = restores.max_by_key(|record| record.started_at);
    planned.map(|step| step.id).or(latest.map(|record| record.id))
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
