//! The waves by which hosts trust another CA, let it sign, and drop the old one.

use std::net::IpAddr;

use gantry_model::{ClusterCa, ClusterName, Step, StepAction, StepId, StepRecord};

use super::Replacement;
use crate::inventory::HostReport;
use crate::plan::progress::{NOT_DONE, why_to_do};
use crate::plan::{Mark, PLAN_VERSION, Place, Plan, PlannedHost, PlannedStep, Purpose, Wave};

/// How long nodes may take to be ready again, in seconds.
const NODES_LIMIT_S: u32 = 600;

impl Replacement<'_> {
    pub(super) fn trust_waves(&self, first: IpAddr) -> Vec<Wave> {
        let cas = self.overlap();
        let step = self.trust_step(&cas);
        let reason = "nothing is cut off while the CA changes";
        let trust = |host: &IpAddr| self.planned(*host, step.clone(), reason);
        let mut waves = self.one_after_the_other("both CAs", first, trust);
        // Once for each host: with those that come back later, pods come that know one only.
        let after: Vec<StepId> = vec![step.id(); self.members().len()];
        let reason = "hosts that join know both; pods of kube-system start anew, and know both";
        let publish = self.publish(first, &cas, after, reason);
        // Pods are waited for on nodes that are ready.
        waves.push(self.nodes_wave(first, step.id()));
        waves.push(wave("cluster", vec![publish]));
        waves
    }

    pub(super) fn sign_waves(&self, first: IpAddr, new: &ClusterCa) -> Vec<Wave> {
        let sign = |host: IpAddr| {
            let step = self.sign_step(new, (host != first).then_some(first));
            let reason = "every certificate of the control plane is made anew";
            wave("new CA signs", vec![self.planned(host, step, reason)])
        };
        // The one with the key goes before those that get it from there.
        let others = self.control_planes.iter().copied().filter(|host| *host != first);
        let mut waves: Vec<Wave> = std::iter::once(first).chain(others).map(sign).collect();
        let kubelet = |host: &IpAddr| {
            self.planned(
                *host,
                self.kubelet_step(new),
                "the cluster signs it by the new CA",
            )
        };
        waves.extend(self.one_after_the_other("kubelets", first, kubelet));
        // The same step on every host.
        waves.push(self.nodes_wave(first, kubelet(&first).id));
        waves
    }

    /// For `hosts`, which may be fewer than all when most of them are through.
    pub(super) fn drop_waves(&self, first: IpAddr, new: &ClusterCa, hosts: &[IpAddr]) -> Vec<Wave> {
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
        let reason = "hosts that join know the new CA alone";
        let publish = self.publish(first, alone, vec![step.id()], reason);
        waves.push(wave("cluster", vec![publish]));
        waves.push(self.nodes_wave(first, step.id()));
        waves
    }

    /// A step of each kind that the plans after the first one have, or the way back has, for each host: with the CA that signs, for
    /// there is no other one yet.
    #[must_use]
    pub fn to_come(&self) -> Vec<(IpAddr, Step)> {
        let Some(ca) = self.newest() else {
            return Vec::new();
        };
        let (cluster, authorities) = (self.cluster.clone(), pems(std::slice::from_ref(ca)));
        let of_all = [
            self.trust_step(&self.cas),
            self.kubelet_step(ca),
            self.withdraw_step(ca.fingerprint, ca, Vec::new()),
        ];
        let publish = Step {
            action: StepAction::PublishClusterCas { cluster, authorities },
            after: Vec::new(),
        };
        let of_control_planes = [publish, self.sign_step(ca, None)];
        let members = self.members().into_iter();
        let all = members.flat_map(|host| of_all.clone().map(|step| (host, step)));
        let control_planes = self.control_planes.iter();
        let control_planes =
            control_planes.flat_map(|host| of_control_planes.clone().map(|step| (*host, step)));
        all.chain(control_planes).collect()
    }

    fn sign_step(&self, new: &ClusterCa, from: Option<IpAddr>) -> Step {
        let action = StepAction::SignByClusterCa {
            cluster: self.cluster.clone(),
            ca: new.fingerprint,
            from,
        };
        Step {
            action,
            after: Vec::new(),
        }
    }

    pub(super) fn kubelet_step(&self, new: &ClusterCa) -> Step {
        let action = StepAction::RenewKubeletCertificate {
            cluster: self.cluster.clone(),
            ca: new.fingerprint,
        };
        Step {
            action,
            after: Vec::new(),
        }
    }

    /// A wave for each control plane, `first` before the others, then for as many workers as may be away at a time.
    pub(super) fn one_after_the_other(
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

    /// The nodes are waited for on `on`, after the step `after` that is done on every host.
    pub(super) fn nodes_wave(&self, on: IpAddr, after: StepId) -> Wave {
        let missing: Vec<IpAddr> = self.missing.iter().map(|(host, _)| *host).collect();
        let steps = if missing.is_empty() {
            vec![self.planned(on, nodes_step(self.cluster, after), "before it goes on")]
        } else {
            Vec::new()
        };
        wave("nodes", steps)
    }

    pub(super) fn trust_step(&self, cas: &[ClusterCa]) -> Step {
        let action = StepAction::TrustClusterCas {
            cluster: self.cluster.clone(),
            authorities: pems(cas),
        };
        Step {
            action,
            after: Vec::new(),
        }
    }

    /// The step, done where the journal has it as done and what it left is there.
    pub(super) fn planned(&self, host: IpAddr, step: Step, reason: &str) -> PlannedStep {
        let report = self.inventory.report(host);
        let undone = report.and_then(|report| self.undone(host, &step, report));
        match (report.and_then(|report| why_to_do(step.id(), report)), undone) {
            (None, Some(undone)) => PlannedStep::new(host, step, Mark::Change, format!("again: {undone}")),
            (None, None) => PlannedStep::new(host, step, Mark::Done, "done"),
            (Some(why), _) if why == NOT_DONE => PlannedStep::new(host, step, Mark::Change, reason),
            (Some(why), _) => PlannedStep::new(host, step, Mark::Change, why),
        }
    }

    /// What on `host` is not as `step` leaves it.
    fn undone(&self, host: IpAddr, step: &Step, report: &HostReport) -> Option<&'static str> {
        let found = &report.inventory.cluster_cas;
        let trusts_others = "it trusts others by now";
        match &step.action {
            StepAction::TrustClusterCas { authorities, .. } => {
                let trusted = &found.trusted;
                let is_here = trusted.len() == authorities.len()
                    && trusted.iter().all(|ca| authorities.contains(&ca.pem));
                (!is_here).then_some(trusts_others)
            }
            StepAction::WithdrawClusterCa { ca, .. } => {
                let is_next = found.next.as_ref().is_some_and(|next| next.fingerprint == *ca);
                let is_left = is_next || found.has(ca) || self.is_outdated(host, step.id());
                is_left.then_some(trusts_others)
            }
            StepAction::SignByClusterCa { ca, .. } => {
                let signs = found
                    .trusted
                    .first()
                    .is_some_and(|first| first.fingerprint == *ca);
                (!signs).then_some("another one signs there by now")
            }
            _ => None,
        }
    }

    pub(super) fn plan(&self, mut waves: Vec<Wave>) -> Plan {
        waves.retain(|wave| !wave.steps.is_empty());
        let planned = |address: IpAddr| {
            let report = self.inventory.report(address)?;
            Some(PlannedHost {
                address,
                seen: report.latest(self.cluster, "rootfs").map(|record| record.id),
                ports: Vec::new(),
                etcd: self.control_planes.contains(&address),
                node: report.node(),
                kubernetes: None,
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
}

/// The step that waits for the nodes after `after`.
fn nodes_step(cluster: &ClusterName, after: StepId) -> Step {
    Step {
        action: StepAction::WaitForNodes {
            cluster: cluster.clone(),
            time_limit_s: NODES_LIMIT_S,
            // What the nodes of hosts that are off are called is not known here; it is not waited for any then.
            except: Vec::new(),
        },
        after: vec![after],
    }
}

/// Whether `record` of a host is the step that waited for the nodes while a CA was replaced. Unlike the one of the same name by
/// which a plan of a Clusterfile ends, it does not say that the cluster is complete.
pub(crate) fn waited_meanwhile(cluster: &ClusterName, report: &HostReport, record: &StepRecord) -> bool {
    let mut records = report.records(cluster);
    records.any(|before| nodes_step(cluster, before.id).id() == record.id)
}

pub(super) fn pems(cas: &[ClusterCa]) -> Vec<String> {
    cas.iter().map(|ca| ca.pem.clone()).collect()
}

pub(super) fn wave(title: &str, steps: Vec<PlannedStep>) -> Wave {
    Wave {
        title: title.into(),
        keep_going: false,
        steps,
    }
}
