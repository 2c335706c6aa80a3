//! The plans by which a Kubernetes cluster's own CA is replaced, by overlap. Each is made of what the hosts have by then, so
//! that any of them may be cut off and made again.
//!
//! ```text
//! new CA       the first control plane makes it; nobody uses it yet
//! both CAs     every host trusts both; then hosts that join and the cluster's own pods do. Hosts that are off are waited for
//! new CA signs every control plane, then every kubelet, has certificates of the new one
//! old CA goes  every host has moved: nobody trusts the old one any more
//! ```

use std::net::IpAddr;
use std::num::NonZeroUsize;

use gantry_model::{ClusterCa, ClusterName, ExitCode, KubeadmAct, Step, StepAction, StepId, StepRecord};

use super::progress::why_to_do;
use super::renew::first_to_end;
use super::{Mark, PLAN_VERSION, Place, Plan, PlannedHost, PlannedStep, Purpose, Wave, kubeadm};
use crate::exit::failure_hint;
use crate::inventory::{ClusterInventory, HostReport};

/// How long nodes may take to be ready again, in seconds.
const NODES_LIMIT_S: u32 = 600;

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// One CA, which was not made by a replacement or may be replaced again: another is to be made.
    Make(Plan),
    /// Some hosts do not trust both.
    Trust(Plan),
    /// Some certificates are of the old one.
    Sign(Plan),
    /// Every host that answers trusts both. The new one signs when those that do not answer trust both, too: what it signs they
    /// would refuse.
    Wait,
    /// The old one goes.
    Drop(Plan),
    /// One CA, which took the place of another at this time, in seconds since the epoch by the clock of a host.
    Replaced {
        /// When the first control plane dropped the old one.
        at: i64,
        /// The plan that makes another one all the same.
        again: Box<Plan>,
    },
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
                    "every control plane has to: its API server would refuse what the new CA signed; nothing was changed",
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
    /// When the CAs that are there are not those of a replacement.
    pub fn stage(&self) -> anyhow::Result<Stage> {
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
        if let [only] = &self.cas[..] {
            return Ok(self.settled(only));
        }
        let first = self.with_key(new)?;
        let drops = |host: &IpAddr| self.trusts_alone(*host, new);
        if self.control_planes.iter().any(drops) {
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
        // It was published before anything was signed; that a host is off since asks for nothing.
        let published = has_begun && trust.steps().all(|step| !trusts(step) || !step.is_to_do());
        if trust.to_do() > 0 && !published {
            return Ok(Stage::Trust(trust));
        }
        if !self.missing.is_empty() && !has_begun {
            return Ok(Stage::Wait);
        }
        let sign = self.plan(self.sign_waves(first, new));
        if sign.to_do() > 0 {
            return Ok(Stage::Sign(sign));
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

    /// With but one CA everywhere: the end of a replacement, or the beginning of one.
    fn settled(&self, only: &ClusterCa) -> Stage {
        let first = self.control_planes[0];
        let make = |reason: &str| {
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
        // Hosts that joined since never had another one.
        let id = self.trust_step(std::slice::from_ref(only)).id();
        let knows = |host: &IpAddr| self.record(*host, id).is_some();
        let hosts: Vec<IpAddr> = self.members().into_iter().filter(knows).collect();
        if hosts.is_empty() {
            return Stage::Make(make("nobody uses it yet"));
        }
        let rest = self.plan(self.drop_waves(first, only, &hosts));
        if rest.to_do() > 0 {
            return Stage::Drop(rest);
        }
        let ended = hosts.iter().filter_map(|host| self.record(*host, id)?.ended_at);
        Stage::Replaced {
            at: ended.max().unwrap_or_default(),
            again: Box::new(make("nobody uses it yet")),
        }
    }

    /// The control plane that has the key of the new CA.
    fn with_key(&self, new: &ClusterCa) -> anyhow::Result<IpAddr> {
        let title = (StepAction::MakeClusterCa {
            cluster: self.cluster.clone(),
            replaces: new.fingerprint,
        })
        .title();
        let made = |report: &HostReport| report.latest(self.cluster, &title).is_some();
        // Otherwise somebody else has put several into the file.
        let ours = self
            .control_planes
            .iter()
            .filter_map(|host| self.inventory.report(*host))
            .any(made);
        let has_key = |host: &&IpAddr| {
            let Some(report) = self.inventory.report(**host) else {
                return false;
            };
            let cas = &report.inventory.cluster_cas;
            cas.next.as_ref() == Some(new) || cas.trusted.first() == Some(new)
        };
        match self.control_planes.iter().find(has_key) {
            Some(host) if ours => Ok(*host),
            _ => Err(failure_hint(
                ExitCode::Failed,
                format!(
                    "hosts of cluster {} trust several CAs, and Gantry made none of them that has its key here",
                    self.cluster
                ),
                "look at /etc/kubernetes/pki/ca.crt on its hosts, and leave the CA in it that signs; nothing was changed",
            )),
        }
    }

    fn trust_waves(&self, first: IpAddr) -> Vec<Wave> {
        let step = self.trust_step(&self.cas);
        let reason = "nothing is cut off while the CA changes";
        let trust = |host: &IpAddr| self.planned(*host, step.clone(), reason);
        let mut waves = self.one_after_the_other("both CAs", first, trust);
        // Once for each host: with those that come back later, pods come that know one only.
        let after: Vec<StepId> = vec![step.id(); self.members().len()];
        let action = StepAction::PublishClusterCas {
            cluster: self.cluster.clone(),
            authorities: pems(&self.cas),
        };
        let reason = "hosts that join know both; pods of kube-system start anew, and know both";
        let publish = self.planned(first, Step { action, after }, reason);
        // Pods are waited for on nodes that are ready.
        waves.push(self.nodes_wave(first, vec![step.id()]));
        waves.push(wave("cluster", vec![publish]));
        waves
    }

    fn sign_waves(&self, first: IpAddr, new: &ClusterCa) -> Vec<Wave> {
        let sign = |host: IpAddr| {
            let action = StepAction::SignByClusterCa {
                cluster: self.cluster.clone(),
                ca: new.fingerprint,
                from: (host != first).then_some(first),
            };
            let step = Step {
                action,
                after: Vec::new(),
            };
            let reason = "every certificate of the control plane is made anew";
            wave("new CA signs", vec![self.planned(host, step, reason)])
        };
        // The one with the key goes before those that get it from there.
        let others = self.control_planes.iter().copied().filter(|host| *host != first);
        let mut waves: Vec<Wave> = std::iter::once(first).chain(others).map(sign).collect();
        let kubelet = |host: &IpAddr| {
            let action = StepAction::RenewKubeletCertificate {
                cluster: self.cluster.clone(),
                ca: new.fingerprint,
            };
            let step = Step {
                action,
                after: Vec::new(),
            };
            self.planned(*host, step, "the cluster signs it by the new CA")
        };
        waves.extend(self.one_after_the_other("kubelets", first, kubelet));
        let ids = waves
            .iter()
            .flat_map(|wave| &wave.steps)
            .map(|step| step.id)
            .collect();
        waves.push(self.nodes_wave(first, ids));
        waves
    }

    /// For `hosts`, which may be fewer than all when most of them are through.
    fn drop_waves(&self, first: IpAddr, new: &ClusterCa, hosts: &[IpAddr]) -> Vec<Wave> {
        let alone = std::slice::from_ref(new);
        let step = self.trust_step(alone);
        let drop = |host: &IpAddr| {
            let mut planned = self.planned(*host, step.clone(), "what it signed is refused from then on");
            if planned.is_to_do() {
                planned.mark = Mark::Remove;
            }
            planned
        };
        let mut waves = self.one_after_the_other("old CA goes", first, drop);
        for wave in &mut waves {
            wave.steps.retain(|step| hosts.contains(&step.host));
        }
        waves.retain(|wave| !wave.steps.is_empty());
        let action = StepAction::PublishClusterCas {
            cluster: self.cluster.clone(),
            authorities: pems(alone),
        };
        let after = vec![step.id()];
        let publish = self.planned(
            first,
            Step { action, after },
            "hosts that join know the new CA alone",
        );
        waves.push(wave("cluster", vec![publish]));
        waves.push(self.nodes_wave(first, vec![step.id()]));
        waves
    }

    /// A wave for each control plane, `first` before the others, then for as many workers as may be away at a time.
    fn one_after_the_other(
        &self,
        title: &str,
        first: IpAddr,
        step: impl Fn(&IpAddr) -> PlannedStep,
    ) -> Vec<Wave> {
        let others = self.control_planes.iter().filter(|host| **host != first);
        let control_planes = std::iter::once(&first).chain(others).map(|host| vec![step(host)]);
        let workers = self.workers.chunks(self.max_unavailable.get());
        let workers = workers.map(|hosts| hosts.iter().map(&step).collect());
        control_planes
            .chain(workers)
            .map(|steps| wave(title, steps))
            .collect()
    }

    fn nodes_wave(&self, on: IpAddr, after: Vec<StepId>) -> Wave {
        let missing: Vec<IpAddr> = self.missing.iter().map(|(host, _)| *host).collect();
        // What the nodes of hosts that are off are called is not known here; those that answer are waited for.
        let action = StepAction::WaitForNodes {
            cluster: self.cluster.clone(),
            time_limit_s: NODES_LIMIT_S,
            except: Vec::new(),
        };
        let steps = if missing.is_empty() {
            vec![self.planned(on, Step { action, after }, "before it goes on")]
        } else {
            Vec::new()
        };
        wave("nodes", steps)
    }

    fn trust_step(&self, cas: &[ClusterCa]) -> Step {
        let action = StepAction::TrustClusterCas {
            cluster: self.cluster.clone(),
            authorities: pems(cas),
        };
        Step {
            action,
            after: Vec::new(),
        }
    }

    /// The step, done where the journal has it as done.
    fn planned(&self, host: IpAddr, step: Step, reason: &str) -> PlannedStep {
        let report = self.inventory.report(host);
        match report.and_then(|report| why_to_do(step.id(), report)) {
            None => PlannedStep::new(host, step, Mark::Done, "done"),
            Some(why) if why == super::progress::NOT_DONE => {
                PlannedStep::new(host, step, Mark::Change, reason)
            }
            Some(why) => PlannedStep::new(host, step, Mark::Change, why),
        }
    }

    fn plan(&self, mut waves: Vec<Wave>) -> Plan {
        waves.retain(|wave| !wave.steps.is_empty());
        let planned = |address: IpAddr| {
            let report = self.inventory.report(address)?;
            Some(PlannedHost {
                address,
                seen: report.latest(self.cluster, "rootfs").map(|record| record.id),
                ports: Vec::new(),
                etcd: self.control_planes.contains(&address),
                node: report.node(),
                place: Place::Stays,
            })
        };
        let has_steps = |host: &IpAddr| {
            waves
                .iter()
                .any(|wave| wave.steps.iter().any(|step| step.host == *host))
        };
        Plan {
            version: PLAN_VERSION,
            purpose: Purpose::ReplaceCa,
            cluster: self.cluster.clone(),
            image: None,
            kubernetes: None,
            hosts: self
                .members()
                .into_iter()
                .filter(has_steps)
                .filter_map(planned)
                .collect(),
            waves,
        }
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

fn pems(cas: &[ClusterCa]) -> Vec<String> {
    cas.iter().map(|ca| ca.pem.clone()).collect()
}

fn wave(title: &str, steps: Vec<PlannedStep>) -> Wave {
    Wave {
        title: title.into(),
        keep_going: false,
        steps,
    }
}
