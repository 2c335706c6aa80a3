//! What of kubeadm's configuration has changed since the last apply and reaches no host: members keep what they were given.

use std::net::IpAddr;

use gantry_model::{KubeadmAct, StepAction};
use serde_json::Value as Json;

use super::super::{Mark, Plan};
use crate::clusterfile::kubernetes::KubernetesKind;

/// Kinds that a cluster lives by and is told once, when it begins.
const TOLD_ONCE: [KubernetesKind; 2] = [
    KubernetesKind::ClusterConfiguration,
    KubernetesKind::KubeProxyConfiguration,
];

/// The kinds in which `plan` says something else than `applied`, the plan before, to a cluster that runs. Versions are what
/// upgrades are for, and addresses of the API server come and go with hosts.
#[must_use]
pub fn unreached(applied: &Plan, plan: &Plan) -> Vec<KubernetesKind> {
    let (Some((_, before)), Some((Mark::Done, now))) = (init(applied), init(plan)) else {
        return Vec::new();
    };
    let changed = |kind: &KubernetesKind| document(before, *kind) != document(now, *kind);
    TOLD_ONCE.into_iter().filter(changed).collect()
}

/// How an operator takes a change of this kind to a cluster that runs.
#[must_use]
pub fn by_hand(kind: KubernetesKind) -> String {
    let edit = |name: &str| format!("`kubectl -n kube-system edit configmap {name}`");
    match kind {
        KubernetesKind::KubeProxyConfiguration => format!(
            "{}, then `kubectl -n kube-system rollout restart daemonset kube-proxy`",
            edit("kube-proxy")
        ),
        _ => format!(
            "{}, which upgrades go by, and the same in /etc/kubernetes/manifests of one control plane after the other",
            edit("kubeadm-config")
        ),
    }
}

/// What begins the cluster, and whether that is to be done.
fn init(plan: &Plan) -> Option<(Mark, &str)> {
    plan.steps().find_map(|planned| match &planned.step.action {
        StepAction::Kubeadm(spec) if spec.act == KubeadmAct::Init => {
            Some((planned.mark, spec.config.as_str()))
        }
        _ => None,
    })
}

/// The document of this kind, without what is not compared.
fn document(config: &str, kind: KubernetesKind) -> Option<Json> {
    let documents = config
        .split("---\n")
        .filter_map(|text| serde_saphyr::from_str::<Json>(text).ok());
    let mut found = documents
        .into_iter()
        .find(|document| document["kind"] == kind.name())?;
    let fields = found.as_object_mut()?;
    fields.remove("apiVersion");
    fields.remove("kubernetesVersion");
    if let Some(names) = fields
        .get_mut("apiServer")
        .and_then(|server| server.get_mut("certSANs")?.as_array_mut())
    {
        names.retain(|name| name.as_str().is_none_or(|name| name.parse::<IpAddr>().is_err()));
    }
    Some(found)
}
