//! The plans by which a Kubernetes cluster's own CA is replaced, by overlap. Each is made of what the hosts have by then, so
//! that any of them may be cut off and made again.
//!
//! ```text
//! new CA       the first control plane makes it; nobody uses it yet
//! both CAs     every host trusts both; then hosts that join and the cluster's own pods do. Hosts that are off are waited for
//! new CA signs every control plane, then every kubelet, has certificates of the new one
//! old CA goes  every host has moved: nobody trusts the old one any more
//! ```
//!
//! Until the new one signs, it can be taken out again (`withdraw`). Which way leads out is told by what the hosts have, and is
//! one alone, whatever was cut off:
//!
//! ```text
//! its key signs on a control plane    forward: the key of the old one is gone there. Hosts that gave it up trust both again
//! else, a host was told to give it up back: the key may be gone
//! else                                either
//! ```
//!
//! The key signs from the moment at which it lies in its place: agents name the CA first whose key that is, also where `ca.crt`
//! does not say so yet.

mod history;
mod meanwhile;
mod unasked;
mod waves;
mod withdraw;

use std::net::IpAddr;
use std::num::NonZeroUsize;

use gantry_model::{ClusterCa, ClusterName, ExitCode, Step, StepAction, StepId, StepOutcome, StepRecord};

use super::preflight::clock_skew;
use super::renew::first_to_end;
use super::{Mark, Plan, PlannedStep, kubeadm};
use crate::exit::failure_hint;
use crate::inventory::ClusterInventory;
pub(super) use history::publishing_titles;
use history::withdrawal_title;
pub(crate) use meanwhile::refuse_meanwhile;
pub(crate) use waves::waited_meanwhile;
use waves::wave;

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// One CA, which was not made by a replacement or may be replaced again: another is to be made.
    Make(Plan),
    /// Some hosts do not trust both.
    Trust(Plan),
    /// Some certificates are of the old one.
    Sign {
        /// The plan that makes them anew.
        plan: Plan,
        /// The new one signs on some control plane already.
        has_begun: bool,
    },
    /// Every host that answers trusts both. The new one signs when those that do not answer trust both, too: what it signs they
    /// would refuse.
    Wait,
    /// The old one goes.
    Drop(Plan),
    /// One CA, which took the place of another at this time, in seconds since the epoch.
    Replaced {
        /// When the last host dropped the old one, by the clock of this machine.
        at: i64,
        /// The plan that makes another one all the same.
        again: Box<Plan>,
    },
}

/// Whether something of `plan` that is to be done changes which CA a host trusts or signs by. What is left of a replacement that
/// is done on every host does not.
#[must_use]
pub fn changes_hosts(plan: &Plan) -> bool {
    let tells = |action: &StepAction| {
        matches!(
            action,
            StepAction::PublishClusterCas { .. } | StepAction::WaitForNodes { .. }
        )
    };
    let mut to_do = plan.steps().filter(|step| step.is_to_do());
    to_do.any(|step| !tells(&step.step.action))
}

/// Whether something of `plan` that is to be done makes a CA: a replacement begins.
#[must_use]
pub fn makes_ca(plan: &Plan) -> bool {
    let makes = |action: &StepAction| matches!(action, StepAction::MakeClusterCa { .. });
    let mut to_do = plan.steps().filter(|step| step.is_to_do());
    to_do.any(|step| makes(&step.step.action))
}

/// The CAs of a cluster, and who has to know of them.
#[derive(Debug)]
pub struct Replacement<'a> {
    cluster: &'a ClusterName,
    inventory: &'a ClusterInventory,
    /// In the order of the plan; the first has the key of the new CA first.
    control_planes: Vec<IpAddr>,
    /// The other members that answer.
    workers: Vec<IpAddr>,
    /// Hosts that do not answer, and why.
    missing: Vec<(IpAddr, String)>,
    /// Every CA that some host trusts or has made, the oldest first.
    cas: Vec<ClusterCa>,
    max_unavailable: NonZeroUsize,
}

impl<'a> Replacement<'a> {
    /// How the CA of `cluster`, whose hosts are `hosts`, `masters` among them, is replaced. At most `max_unavailable` workers
    /// start kubelet anew at a time.
    ///
    /// # Errors
    /// When a control plane does not answer, or there is none.
    pub fn new(
        cluster: &'a ClusterName,
        hosts: &[IpAddr],
        masters: &[IpAddr],
        inventory: &'a ClusterInventory,
        max_unavailable: NonZeroUsize,
    ) -> anyhow::Result<Self> {
        let mut missing: Vec<(IpAddr, String)> = Vec::new();
        for (host, reason) in inventory.unreachable() {
            if masters.contains(&host) {
                return Err(failure_hint(
                    ExitCode::Unreachable,
                    format!("control plane {host} does not answer: {reason}"),
                    "every control plane has to: its API server would refuse what the new CA signed. One that is gone for good: take \
                     it out of the Clusterfile, and `gantry apply --force`; nothing was changed",
                ));
            }
            missing.push((host, reason.to_owned()));
        }
        let member = |host: &IpAddr| kubeadm::is_member(cluster, inventory.report(*host));
        // Something of the cluster runs there, and trusts what it trusted then.
        let half = |host: &&IpAddr| {
            let found = inventory
                .report(**host)
                .map(|report| &report.inventory.cluster_cas);
            !member(host) && found.is_some_and(|cas| !cas.trusted.is_empty())
        };
        if let Some(host) = hosts.iter().find(half) {
            return Err(failure_hint(
                ExitCode::Preflight,
                format!(
                    "{host} is half a member of cluster {cluster}: its kubeadm join, or reset, did not end well"
                ),
                "`gantry apply` ends it; while a CA is being replaced: take the host out of the Clusterfile and apply",
            ));
        }
        let is_control_plane = |host: &IpAddr| inventory.report(*host).and_then(first_to_end).is_some();
        let members = hosts.iter().copied().filter(member);
        let (control_planes, workers): (Vec<IpAddr>, Vec<IpAddr>) = members.partition(is_control_plane);
        if control_planes.is_empty() {
            return Err(failure_hint(
                ExitCode::Input,
                format!("no host that answers is a control plane of cluster {cluster}"),
                "`gantry status` shows its hosts; nothing was changed",
            ));
        }
        let mut cas: Vec<ClusterCa> = Vec::new();
        for report in control_planes
            .iter()
            .chain(&workers)
            .filter_map(|host| inventory.report(*host))
        {
            let found = &report.inventory.cluster_cas;
            for ca in found.trusted.iter().chain(&found.next) {
                if !cas.contains(ca) {
                    cas.push(ca.clone());
                }
            }
        }
        cas.sort_by_key(|ca| (ca.not_before, ca.fingerprint));
        Ok(Self {
            cluster,
            inventory,
            control_planes,
            workers,
            missing,
            cas,
            max_unavailable,
        })
    }

    /// Those that every host trusts while one takes the place of another: what some control plane trusts or has made. What a worker
    /// alone trusts is its own affair, or whoever has taken that host would be the cluster's CA.
    fn overlap(&self) -> Vec<ClusterCa> {
        let has = |ca: &&ClusterCa| {
            let reports = self.control_planes.iter();
            let mut found = reports
                .filter_map(|host| self.inventory.report(*host))
                .map(|report| &report.inventory.cluster_cas);
            found.any(|cas| cas.trusted.contains(ca) || cas.next.as_ref() == Some(*ca))
        };
        self.cas.iter().filter(has).cloned().collect()
    }

    /// Hosts that do not answer, and why.
    #[must_use]
    pub fn missing(&self) -> &[(IpAddr, String)] {
        &self.missing
    }

    /// The newest CA: the one that takes the place of the others while there are several.
    #[must_use]
    pub fn newest(&self) -> Option<&ClusterCa> {
        self.cas.last()
    }

    /// What is to be done next.
    ///
    /// # Errors
    /// When the CAs that are there are not those of a replacement; when a new one would be made, or sign, and a clock is wrong.
    pub fn stage(&self) -> anyhow::Result<Stage> {
        let stage = self.next_stage()?;
        if matches!(stage, Stage::Make(_) | Stage::Sign { has_begun: false, .. }) {
            self.check_clocks()?;
        }
        Ok(stage)
    }

    /// Refuses hosts whose clock is wrong: certificates of a new CA are valid from now on, by the clock of who signs them.
    ///
    /// # Errors
    /// When there is one.
    pub fn check_clocks(&self) -> anyhow::Result<()> {
        let members = self.members();
        let skewed = members.iter().filter_map(|host| {
            let skew = clock_skew(self.inventory.report(*host)?)?;
            Some(format!("{host}: {skew}"))
        });
        let skewed: Vec<String> = skewed.collect();
        if skewed.is_empty() {
            return Ok(());
        }
        Err(failure_hint(
            ExitCode::Preflight,
            skewed.join("\n"),
            "what a new CA signs would not be valid yet there; set the clocks right, and run this again. Nothing was changed",
        ))
    }

    fn next_stage(&self) -> anyhow::Result<Stage> {
        let Some(new) = self.newest() else {
            return Err(failure_hint(
                ExitCode::Failed,
                format!(
                    "no control plane of cluster {} has a CA that can be read",
                    self.cluster
                ),
                "look at /etc/kubernetes/pki/ca.crt on them; nothing was changed",
            ));
        };
        if self.is_being_withdrawn(new) {
            return Err(failure_hint(
                ExitCode::Preflight,
                format!("the new CA of cluster {} is being taken out again", self.cluster),
                "`gantry certs rotate-cluster-ca --abort` goes on with that to its end; nothing was changed",
            ));
        }
        if let [only] = &self.cas[..] {
            return Ok(self.settled(only));
        }
        let first = self.with_key()?;
        let drops = |host: &IpAddr| self.trusts_alone(*host, new);
        if self.control_planes.iter().any(drops) {
            self.refuse_left_behind(new)?;
            return Ok(Stage::Drop(self.plan(self.drop_waves(
                first,
                new,
                &self.members(),
            ))));
        }
        let signs = |host: &IpAddr| {
            let report = self.inventory.report(*host);
            report.is_some_and(|report| report.inventory.cluster_cas.trusted.first() == Some(new))
        };
        let has_begun = self.control_planes.iter().any(signs);
        let trust = self.plan(self.trust_waves(first));
        let trusts = |step: &PlannedStep| matches!(step.step.action, StepAction::TrustClusterCas { .. });
        // It was published before anything was signed; that a host is off since asks for nothing. Unless it was taken back.
        let published =
            has_begun && self.is_told_both() && trust.steps().all(|step| !trusts(step) || !step.is_to_do());
        if trust.to_do() > 0 && !published {
            return Ok(Stage::Trust(trust));
        }
        if !self.missing.is_empty() && !has_begun {
            return Ok(Stage::Wait);
        }
        let sign = self.plan(self.sign_waves(first, new));
        if sign.to_do() > 0 {
            return Ok(Stage::Sign {
                plan: sign,
                has_begun,
            });
        }
        if self.missing.is_empty() {
            return Ok(Stage::Drop(self.plan(self.drop_waves(
                first,
                new,
                &self.members(),
            ))));
        }
        Ok(Stage::Wait)
    }

    /// Refuses control planes by which another CA than `new` signs when some have dropped that one: those refuse all that it signed,
    /// so that it can get the key of the new one from nobody.
    ///
    /// # Errors
    /// When there is one.
    fn refuse_left_behind(&self, new: &ClusterCa) -> anyhow::Result<()> {
        let is_behind = |host: &&IpAddr| {
            let report = self.inventory.report(**host);
            report.is_some_and(|report| report.inventory.cluster_cas.trusted.first() != Some(new))
        };
        let behind: Vec<String> = self
            .control_planes
            .iter()
            .filter(is_behind)
            .map(IpAddr::to_string)
            .collect();
        if behind.is_empty() {
            return Ok(());
        }
        let hosts = behind.join(",");
        Err(failure_hint(
            ExitCode::Preflight,
            format!(
                "on control plane {} of cluster {} the old CA signs, which others have dropped: it was put back to what it was before",
                behind.join(" and "),
                self.cluster
            ),
            format!(
                "`gantry delete -m {hosts}` takes it out of the cluster; then `gantry certs rotate-cluster-ca` goes on to its end, and \
                 `gantry join -m {hosts}` brings it back; nothing was changed"
            ),
        ))
    }

    /// With but one CA everywhere: the end of a replacement, or the beginning of one.
    fn settled(&self, only: &ClusterCa) -> Stage {
        let make = |reason: &str| {
            let first = self.control_planes[0];
            let action = StepAction::MakeClusterCa {
                cluster: self.cluster.clone(),
                replaces: only.fingerprint,
            };
            let step = Step {
                action,
                after: Vec::new(),
            };
            let step = PlannedStep::new(first, step, Mark::Add, reason);
            self.plan(vec![wave("new CA", vec![step])])
        };
        // Hosts that joined since never had another one, whatever their place among the others.
        let id = self.trust_step(std::slice::from_ref(only)).id();
        let knows = |host: &IpAddr| self.record(*host, id).is_some();
        let hosts: Vec<IpAddr> = self.members().into_iter().filter(knows).collect();
        let Some(first) = self.control_planes.iter().copied().find(knows) else {
            return Stage::Make(make("nobody uses it yet"));
        };
        let mut waves = self.drop_waves(first, only, &hosts);
        for wave in &mut waves {
            wave.steps.retain(|step| self.may_be_left(step));
        }
        let rest = self.plan(waves);
        if rest.to_do() > 0 {
            return Stage::Drop(rest);
        }
        let ended = hosts.iter().filter_map(|host| {
            let at = self.record(*host, id)?.ended_at?;
            Some(self.inventory.report(*host)?.by_our_clock(at) / 1000)
        });
        Stage::Replaced {
            at: ended.max().unwrap_or_default(),
            again: Box::new(make("nobody uses it yet")),
        }
    }

    /// Whether `step`, of the plan that drops the old CA, can have been left when every host had dropped it. Whoever told the
    /// cluster its CAs, or waited for its nodes, may be gone since, and with it what says that this was done.
    fn may_be_left(&self, step: &PlannedStep) -> bool {
        let records = || {
            let hosts = self.control_planes.iter();
            hosts.filter_map(|host| self.record(*host, step.id))
        };
        match step.step.action {
            StepAction::PublishClusterCas { .. } => !self.told().is_empty(),
            StepAction::WaitForNodes { .. } => {
                let succeeded =
                    |record: &StepRecord| record.outcome.as_ref().is_some_and(StepOutcome::succeeded);
                records().next().is_some() && !records().any(succeeded)
            }
            _ => true,
        }
    }

    /// The control plane that has the key of the new CA.
    fn with_key(&self) -> anyhow::Result<IpAddr> {
        if !self.is_ours() {
            return Err(self.not_ours());
        }
        self.refuse_lost_key()?;
        self.holder().ok_or_else(|| {
            failure_hint(
                ExitCode::Failed,
                format!(
                    "no control plane of cluster {} has the key of the new CA: the one that made it is gone",
                    self.cluster
                ),
                "`gantry certs rotate-cluster-ca --abort` takes that CA out again; then begin anew. Nothing was changed",
            )
        })
    }

    /// Refuses a newest CA whose key nobody has any more where kubelets of control planes have certificates of it: the old CA alone
    /// would refuse them, and who is the only control plane cannot leave the cluster and join it again.
    ///
    /// # Errors
    /// When there is one.
    fn refuse_lost_key(&self) -> anyhow::Result<()> {
        let Some(new) = self.newest().filter(|_| self.holder().is_none()) else {
            return Ok(());
        };
        let moved = self.kubelet_step(new).id();
        let moved = self
            .control_planes
            .iter()
            .filter(|host| self.record(**host, moved).is_some());
        let Some(host) = moved.copied().next() else {
            return Ok(());
        };
        Err(failure_hint(
            ExitCode::Preflight,
            format!(
                "CA {} of cluster {} signed kubelet's certificate on control plane {host}, and no control plane has its key: \
                 /etc/kubernetes was put back to what it was before",
                new.fingerprint.short(),
                self.cluster
            ),
            format!(
                "put that CA's certificate and key (pki/ca.crt and pki/ca.key of a copy that was made since) on {host} as \
                 /etc/kubernetes/pki/next-ca/ca.crt and ca.key, and run `gantry certs rotate-cluster-ca`: it goes on to its end. Where \
                 no copy has them, hosts cannot be led back: `gantry backup` keeps what is in etcd, `gantry reset` and `gantry apply` \
                 make the cluster anew. Nothing was changed"
            ),
        ))
    }

    /// Who has the key of the newest CA, if somebody has.
    fn holder(&self) -> Option<IpAddr> {
        let new = self.newest();
        let has_key = |host: &IpAddr| {
            let cas = self
                .inventory
                .report(*host)
                .map(|report| &report.inventory.cluster_cas);
            cas.is_some_and(|cas| cas.next.as_ref() == new || cas.trusted.first() == new)
        };
        self.control_planes.iter().copied().find(has_key)
    }

    /// Whether the newest CA is one of a replacement: it was made, trusted or taken back by steps. Otherwise somebody else has put
    /// several into the file.
    fn is_ours(&self) -> bool {
        let make = StepAction::MakeClusterCa {
            cluster: self.cluster.clone(),
            replaces: gantry_model::Digest::of(b""),
        };
        let titles = [make.title(), withdrawal_title(self.cluster)];
        // Whoever made it may be gone; others trust it by this step.
        let trust = [&self.cas, &self.overlap()].map(|cas| self.trust_step(cas).id());
        let mut reports = self
            .members()
            .into_iter()
            .filter_map(|host| self.inventory.report(host));
        reports.any(|report| {
            let mut records = report.records(self.cluster);
            records.any(|record| titles.contains(&record.title) || trust.contains(&record.id))
        })
    }

    fn not_ours(&self) -> anyhow::Error {
        failure_hint(
            ExitCode::Failed,
            format!(
                "hosts of cluster {} trust several CAs, and Gantry made none of them",
                self.cluster
            ),
            "look at /etc/kubernetes/pki/ca.crt on its hosts, and leave the CA in it that signs; nothing was changed",
        )
    }

    fn members(&self) -> Vec<IpAddr> {
        self.control_planes.iter().chain(&self.workers).copied().collect()
    }

    fn trusts_alone(&self, host: IpAddr, ca: &ClusterCa) -> bool {
        let report = self.inventory.report(host);
        report.is_some_and(|report| report.inventory.cluster_cas.trusted == [ca.clone()])
    }

    fn record(&self, host: IpAddr, id: StepId) -> Option<&StepRecord> {
        let mut records = self.inventory.report(host)?.records(self.cluster);
        records.find(|record| record.id == id)
    }
}
