//! The waves by which the members of a cluster are taken to the version of Kubernetes that their image brings.
//!
//! ```text
//! snapshot of etcd ─▶ control planes, one at a time ─▶ workers, some at a time
//!                        each host: kubeadm ─▶ its pods move ─▶ the image's scripts, kubelet ─▶ it is ready ─▶ pods come
//! ```
//!
//! Which version a host has is what its journal says of its latest run of kubeadm. A failed step stops the plan: what was not
//! reached yet runs as before, and the next plan goes on where this one stopped.

use std::net::IpAddr;
use std::num::NonZeroUsize;

use gantry_model::{ExitCode, KubeadmAct, KubeadmSpec, Step, StepAction, StepId, StepOutcome, StepRecord};

use super::super::progress::{NOT_DONE, why_to_do};
use super::super::{Mark, PlanImage, PlannedStep, Wave, script_effects};
use super::version::Version;
use super::{NODES_LIMIT_S, TIME_LIMIT_S, anchor, config, ignored_checks, is_without_dns, level, wave};
use crate::clusterfile::{Clusterfile, Host, Role};
use crate::exit::failure_hint;
use crate::inventory::{ClusterInventory, HostReport};

/// How long pods may take to move elsewhere, in seconds.
const DRAIN_LIMIT_S: u32 = 600;
/// What kubeadm asks about the cluster's DNS server before it upgrades it.
const DNS_CHECKS: [&str; 2] = ["CoreDNSUnsupportedPlugins", "CoreDNSMigration"];

/// Members that are on their way to another version, or whose scripts run again: what runs on each between the moves of its
/// pods.
pub(in super::super) struct Upgrade<'a> {
    clusterfile: &'a Clusterfile,
    image: &'a PlanImage,
    inventory: &'a ClusterInventory,
    version: &'a str,
    /// The version may be an older one.
    goes_back: bool,
    /// In the order of the Clusterfile.
    hosts: Vec<Upgraded<'a>>,
    /// The rootfs step of the control plane that is asked about the cluster.
    anchor_rootfs: Option<StepId>,
}

/// A member on its way.
struct Upgraded<'a> {
    address: IpAddr,
    role: Role,
    /// The name of its node.
    node: String,
    /// The run of kubeadm that gave it the version it has.
    level: &'a StepRecord,
    /// Its rootfs step.
    rootfs: Option<StepId>,
    /// The image's scripts, which install the new programs.
    scripts: Vec<PlannedStep>,
    /// Checks of kubeadm's own whose failure is only a warning.
    ignored_checks: Vec<String>,
    /// It has the version: only its scripts run again.
    again: bool,
}

impl Upgraded<'_> {
    /// What the moves of its pods build on, so that those of another time are other steps; `kubeadm` is its run of kubeadm.
    fn occasion(&self, kubeadm: StepId) -> Vec<StepId> {
        let scripts = self.changes().last().filter(|_| self.again);
        std::iter::once(kubeadm)
            .chain(scripts.map(|script| script.id))
            .collect()
    }

    /// Its scripts and the commands before them, without what only looks whether they did their work.
    fn changes(&self) -> impl DoubleEndedIterator<Item = &PlannedStep> {
        self.scripts.iter().filter(|step| !script_effects::is_check(step))
    }

    fn why(&self) -> &'static str {
        if self.again {
            "its scripts run again"
        } else {
            "it is upgraded"
        }
    }
}

impl<'a> Upgrade<'a> {
    /// The members that do not have the image's version yet, or have it and are not back in the cluster. An older version is
    /// one only where the cluster `goes_back`.
    ///
    /// # Errors
    /// When the image's version cannot follow the one that a host has.
    pub(in super::super) fn of(
        clusterfile: &'a Clusterfile,
        image: &'a PlanImage,
        inventory: &'a ClusterInventory,
        goes_back: bool,
    ) -> anyhow::Result<Self> {
        let kubernetes = image.kubernetes.as_ref();
        let mut upgrade = Self {
            clusterfile,
            image,
            inventory,
            version: kubernetes.map_or("", |kubernetes| kubernetes.version.as_str()),
            goes_back,
            hosts: Vec::new(),
            anchor_rootfs: None,
        };
        let Some(kubernetes) = kubernetes else {
            return Ok(upgrade);
        };
        // What is said of a worker holds where no control plane is in the way.
        for role in [Role::Master, Role::Node] {
            for host in clusterfile.hosts.iter().filter(|host| host.role == role) {
                if let Some((_, level)) = upgrade.level(host.address) {
                    upgrade.check(host, level.kubernetes.as_deref().unwrap_or_default())?;
                }
            }
        }
        for host in &clusterfile.hosts {
            let Some((report, level)) = upgrade.level(host.address) else {
                continue;
            };
            let from = level.kubernetes.as_deref().unwrap_or_default();
            if from == kubernetes.version && upgrade.is_back(level, &report.node()) {
                continue;
            }
            upgrade.hosts.push(Upgraded {
                address: host.address,
                role: host.role,
                node: report.node(),
                level,
                rootfs: None,
                scripts: Vec::new(),
                ignored_checks: upgrade.ignored_checks(host)?,
                again: false,
            });
        }
        if !upgrade.hosts.is_empty() && !kubernetes.kubectl {
            return Err(failure_hint(
                ExitCode::Input,
                format!(
                    "image {} has no bin/kubectl, so pods cannot be moved while hosts are upgraded",
                    image.reference
                ),
                "nothing was changed; build the image with it",
            ));
        }
        Ok(upgrade)
    }

    /// Whether `host` is on its way: then its scripts, and what comes right before them, are the upgrade's to run.
    pub(in super::super) fn takes(&self, host: IpAddr) -> bool {
        self.hosts.iter().any(|upgraded| upgraded.address == host)
    }

    /// Gives the scripts of `host`, the commands right before them, and the step that brings its rootfs. The answer are the
    /// scripts that may run beside those of other hosts: none of a host whose pods have to move first.
    pub(in super::super) fn give(
        &mut self,
        host: &Host,
        rootfs: StepId,
        mut before: Vec<PlannedStep>,
        scripts: Vec<PlannedStep>,
    ) -> Vec<PlannedStep> {
        if host.address == anchor(self.clusterfile, self.inventory).address {
            self.anchor_rootfs = Some(rootfs);
        }
        let mut on_its_way = self.hosts.iter_mut();
        if let Some(upgraded) = on_its_way.find(|upgraded| upgraded.address == host.address) {
            upgraded.rootfs = Some(rootfs);
            before.extend(scripts);
            upgraded.scripts = before;
            return Vec::new();
        }
        let kubectl = self
            .image
            .kubernetes
            .as_ref()
            .is_some_and(|kubernetes| kubernetes.kubectl);
        let Some((report, level)) = self.level(host.address).filter(|_| kubectl && !self.is_alone()) else {
            return scripts;
        };
        let mut again = Upgraded {
            address: host.address,
            role: host.role,
            node: report.node(),
            level,
            rootfs: Some(rootfs),
            scripts,
            ignored_checks: Vec::new(),
            again: true,
        };
        let occasion = again.occasion(level.id);
        let is_away = self.is_done(self.cordon_step(&again.node, occasion.clone()).id())
            && !self.is_done(self.uncordon_step(&again.node, occasion).id());
        if !is_away && !again.changes().any(PlannedStep::is_to_do) {
            return again.scripts;
        }
        before.append(&mut again.scripts);
        again.scripts = before;
        self.hosts.push(again);
        let place = |address| {
            self.clusterfile
                .hosts
                .iter()
                .position(|host| host.address == address)
        };
        self.hosts.sort_by_key(|upgraded| place(upgraded.address));
        Vec::new()
    }

    /// The wave before anything changes: what etcd holds is kept, once for each time that the cluster goes to a version. Its step
    /// builds on the rootfs of the control plane that is asked, which stays the same until the cluster goes elsewhere.
    pub(in super::super) fn snapshot(&self) -> Option<Wave> {
        self.hosts.iter().find(|host| !host.again)?;
        let anchor = anchor(self.clusterfile, self.inventory).address;
        let action = StepAction::KeepEtcdSnapshot {
            cluster: self.clusterfile.name.clone(),
            // What was kept before the way here keeps its name.
            before: if self.goes_back {
                format!("rollback-{}", self.version)
            } else {
                self.version.to_owned()
            },
        };
        let reason = format!("before {}", self.version);
        let step = self.on_anchor(anchor, action, self.anchor_rootfs.into_iter().collect(), reason);
        // What etcd holds by now would take the place of what it held before.
        if step.is_to_do() && !self.goes_back && self.some_control_plane_began() {
            return None;
        }
        Some(wave("etcd snapshot", vec![step]))
    }

    /// The waves that take the hosts to the version, at most `max_unavailable` workers at a time.
    pub(in super::super) fn waves(&self, max_unavailable: NonZeroUsize) -> Vec<Wave> {
        let of_role = |role| self.hosts.iter().filter(move |host| host.role == role);
        let masters: Vec<&Upgraded<'_>> = of_role(Role::Master).collect();
        let workers: Vec<&Upgraded<'_>> = of_role(Role::Node).collect();
        // While no control plane has the version, the first takes what the cluster has in common with it.
        let mut first = !self.some_control_plane_has_it();
        let mut waves = Vec::new();
        for host in masters {
            waves.extend(self.batch(&[host], first));
            first &= host.again;
        }
        for hosts in workers.chunks(max_unavailable.get()) {
            waves.extend(self.batch(hosts, false));
        }
        waves
    }

    /// Hosts that are upgraded at the same time.
    fn batch(&self, hosts: &[&Upgraded<'_>], first: bool) -> Vec<Wave> {
        let cluster = &self.clusterfile.name;
        let anchor = anchor(self.clusterfile, self.inventory).address;
        let asks_quorum = self.masters().count() > 1;
        let (mut quorum, mut kubeadm, mut drain) = (
            wave("etcd", vec![]),
            wave("upgrade", vec![]),
            wave("drain", vec![]),
        );
        let (mut scripts, mut uncordon) = (wave("init", vec![]), wave("uncordon", vec![]));
        for host in hosts {
            let upgrade = if host.again {
                None
            } else {
                self.kubeadm_step(host, first)
            };
            let id = upgrade.as_ref().map_or(host.level.id, |step| step.id);
            let occasion = host.occasion(id);
            let mut again = host.changes().filter(|_| host.again);
            let begins =
                upgrade.as_ref().is_some_and(PlannedStep::is_to_do) || again.any(PlannedStep::is_to_do);
            if host.role == Role::Master && asks_quorum && begins {
                let step = Step {
                    action: StepAction::CheckQuorumMeanwhile {
                        cluster: cluster.clone(),
                        address: host.address,
                    },
                    after: occasion.clone(),
                };
                let reason = "or the host stays as it is";
                quorum
                    .steps
                    .push(PlannedStep::new(anchor, step, Mark::Change, reason));
            }
            kubeadm.steps.extend(upgrade);
            if !self.is_alone() {
                let cordon = self.cordon_step(&host.node, occasion.clone());
                let move_pods = StepAction::DrainNode {
                    cluster: cluster.clone(),
                    node: host.node.clone(),
                    time_limit_s: DRAIN_LIMIT_S,
                    leaves: false,
                };
                let reason = format!("while {}", host.why());
                drain
                    .steps
                    .push(self.on_anchor(anchor, cordon.action, cordon.after, reason));
                let reason = format!("pods of {} move elsewhere", host.address);
                drain
                    .steps
                    .push(self.on_anchor(anchor, move_pods, occasion.clone(), reason));
            }
            scripts.steps.extend(host.scripts.iter().cloned());
            let after = std::iter::once(id)
                .chain(host.changes().map(|script| script.id))
                .collect();
            let restart = Step {
                action: StepAction::RestartKubelet {
                    cluster: cluster.clone(),
                },
                after,
            };
            scripts.steps.push(planned(
                host.address,
                restart,
                &[self.inventory.report(host.address)],
                if host.again {
                    "what it reads may have changed".to_owned()
                } else {
                    format!("to be {}", self.version)
                },
            ));
            let reason = format!("when {} is ready", host.address);
            let back = self.uncordon_step(&host.node, occasion);
            uncordon
                .steps
                .push(self.on_anchor(anchor, back.action, back.after, reason));
        }
        vec![quorum, kubeadm, drain, scripts, uncordon]
    }

    /// The run of kubeadm that gives `host` the version; none where it has it by a run that is not planned any more.
    fn kubeadm_step(&self, host: &Upgraded<'_>, first: bool) -> Option<PlannedStep> {
        let step = |first| Step {
            action: StepAction::Kubeadm(KubeadmSpec {
                cluster: self.clusterfile.name.clone(),
                act: KubeadmAct::Upgrade { first },
                kubernetes: self.version.to_owned(),
                config: String::new(),
                skipped_phases: Vec::new(),
                ignored_checks: host.ignored_checks.clone(),
                time_limit_s: TIME_LIMIT_S,
            }),
            after: host.rootfs.into_iter().collect(),
        };
        let from = host.level.kubernetes.as_deref().unwrap_or_default();
        if from == self.version {
            let done = [step(true), step(false)]
                .into_iter()
                .find(|step| step.id() == host.level.id)?;
            return Some(PlannedStep::new(host.address, done, Mark::Done, "done"));
        }
        let step = step(first && host.role == Role::Master);
        let why = self
            .inventory
            .report(host.address)
            .and_then(|report| why_to_do(step.id(), report));
        let reason = match why {
            Some(why) if why != NOT_DONE => why,
            _ => format!("{from} to {}", self.version),
        };
        Some(PlannedStep::new(host.address, step, Mark::Change, reason))
    }

    /// Those that the documents for the host name; and without a DNS server of its own kubeadm finds none to upgrade.
    fn ignored_checks(&self, host: &Host) -> anyhow::Result<Vec<String>> {
        let mut checks = config::ignored_checks(self.clusterfile, self.image, host)?;
        checks.extend(ignored_checks(self.image, false));
        if is_without_dns(self.image) {
            checks.extend(DNS_CHECKS.map(str::to_owned));
        }
        Ok(checks.into_iter().collect())
    }

    /// Whether a host that got the version by an upgrade is back in the cluster since; one that joined with it is.
    fn is_back(&self, level: &StepRecord, node: &str) -> bool {
        level.title != (KubeadmAct::Upgrade { first: false }).title()
            || self.is_done(self.uncordon_step(node, vec![level.id]).id())
    }

    fn is_alone(&self) -> bool {
        self.clusterfile.hosts.len() == 1
    }

    fn cordon_step(&self, node: &str, after: Vec<StepId>) -> Step {
        let action = StepAction::CordonNode {
            cluster: self.clusterfile.name.clone(),
            node: node.to_owned(),
        };
        Step { action, after }
    }

    fn uncordon_step(&self, node: &str, after: Vec<StepId>) -> Step {
        Step {
            action: StepAction::UncordonNode {
                cluster: self.clusterfile.name.clone(),
                node: node.to_owned(),
                version: self.version.to_owned(),
                time_limit_s: NODES_LIMIT_S,
            },
            after,
        }
    }

    fn some_control_plane_has_it(&self) -> bool {
        self.masters()
            .filter_map(|host| self.level(host.address))
            .any(|(_, level)| level.kubernetes.as_deref() == Some(self.version))
    }

    /// Whether kubeadm was run on a control plane to bring the version, and did not end before it began. Newer API servers may
    /// have written to etcd since.
    fn some_control_plane_began(&self) -> bool {
        let latest_run = |host: &Host| {
            let records = self
                .inventory
                .report(host.address)?
                .records(&self.clusterfile.name);
            records.rev().find(|record| {
                let brings = record
                    .kubernetes
                    .as_ref()
                    .is_some_and(|version| !version.is_empty());
                brings && !matches!(record.outcome, Some(StepOutcome::Failed(_)))
            })
        };
        self.masters()
            .filter_map(latest_run)
            .any(|record| record.kubernetes.as_deref() == Some(self.version))
    }

    /// The run of kubeadm by which a member has its version.
    fn level(&self, host: IpAddr) -> Option<(&'a HostReport, &'a StepRecord)> {
        let report = self.inventory.report(host)?;
        Some((report, level(&self.clusterfile.name, report)?))
    }

    /// kubeadm goes from one minor version to the next (kubernetes.io, "Upgrading kubeadm clusters"). Back it goes within a
    /// minor version: what a newer one wrote, an older API server may not read.
    fn check(&self, host: &Host, from: &str) -> anyhow::Result<()> {
        // One that has it and is not back in the cluster yet is in nobody's way, whatever it is called.
        if from == self.version {
            return Ok(());
        }
        let address = host.address;
        let refuse = |why: &str, hint: &str| {
            Err(failure_hint(
                ExitCode::Input,
                format!(
                    "{address} runs Kubernetes {from}, and image {} brings {}: {why}",
                    self.image.reference, self.version
                ),
                hint.to_owned(),
            ))
        };
        let (Some(old), Some(new)) = (Version::read(from), Version::read(self.version)) else {
            return refuse(
                "one of them is no version of Kubernetes",
                "Metadata of a rootfs says {\"version\":\"v1.20.2\",\"arch\":\"amd64\"}; nothing was changed",
            );
        };
        if new < old && !new.is_of_the_minor_of(&old) {
            return refuse(
                "no control plane goes back to another minor version",
                "what the newer one wrote the older one may not read; nothing was changed",
            );
        }
        if new < old && !self.goes_back {
            return refuse(
                "apply takes no control plane back",
                "`gantry rollback` does, within a minor version; nothing was changed",
            );
        }
        if new.skips_a_minor_after(&old) && host.role == Role::Master {
            return refuse(
                "no minor version is left out",
                "apply an image of the version between them first; nothing was changed",
            );
        }
        if new.skips_a_minor_after(&old) {
            // The control planes went on without it.
            return refuse(
                "no minor version is left out",
                &format!(
                    "`gantry delete -n {address}`, then `gantry join -n {address}`: it joins with {}; nothing was changed",
                    self.version
                ),
            );
        }
        Ok(())
    }

    /// A step of a control plane about another host, done when any control plane has it as done.
    fn on_anchor(
        &self,
        anchor: IpAddr,
        action: StepAction,
        after: Vec<StepId>,
        reason: String,
    ) -> PlannedStep {
        let masters = self
            .clusterfile
            .hosts
            .iter()
            .filter(|host| host.role == Role::Master);
        let reports: Vec<_> = masters.map(|host| self.inventory.report(host.address)).collect();
        planned(anchor, Step { action, after }, &reports, reason)
    }

    fn masters(&self) -> impl Iterator<Item = &'a Host> {
        let hosts = self.clusterfile.hosts.iter();
        hosts.filter(|host| host.role == Role::Master)
    }

    fn is_done(&self, id: StepId) -> bool {
        self.masters()
            .filter_map(|host| self.inventory.report(host.address))
            .any(|report| why_to_do(id, report).is_none())
    }
}

/// `step` on `host`, done when one of `reports` has it as done.
fn planned(host: IpAddr, step: Step, reports: &[Option<&HostReport>], reason: String) -> PlannedStep {
    let whys: Vec<Option<String>> = reports
        .iter()
        .flatten()
        .map(|report| why_to_do(step.id(), report))
        .collect();
    if whys.iter().any(Option::is_none) {
        return PlannedStep::new(host, step, Mark::Done, "done");
    }
    let failed = whys.into_iter().flatten().find(|why| why != NOT_DONE);
    PlannedStep::new(host, step, Mark::Change, failed.unwrap_or(reason))
}
