//! Values in documents that configure Kubernetes that would be found out about on the hosts only: ranges, numbers, and fields that
//! kubelets pass over because they do not know them.

use gantry_model::IpRange;

use super::kubeadm_config::{AMBIGUOUS, KUBELET};
use super::kubernetes::find;
use crate::clusterfile::kubernetes::KubernetesKind;
use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::spelling::closest;
use crate::clusterfile::tree::{Node, Value};

/// What every document has.
const OF_DOCUMENTS: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// Ranges of addresses in ClusterConfiguration, two for both families.
const RANGES: [&str; 2] = ["networking.podSubnet", "networking.serviceSubnet"];
/// Fields of KubeletConfiguration that are whole numbers (kubelet.config.k8s.io/v1beta1).
const NUMBERS: &[&str] = &[
    "containerLogMaxFiles",
    "eventBurst",
    "eventRecordQPS",
    "evictionMaxPodGracePeriod",
    "healthzPort",
    "imageGCHighThresholdPercent",
    "imageGCLowThresholdPercent",
    "iptablesDropBit",
    "iptablesMasqueradeBit",
    "kubeAPIBurst",
    "kubeAPIQPS",
    "maxOpenFiles",
    "maxParallelImagePulls",
    "maxPods",
    "nodeLeaseDurationSeconds",
    "nodeStatusMaxImages",
    "oomScoreAdj",
    "podPidsLimit",
    "podsPerCore",
    "port",
    "readOnlyPort",
    "registryBurst",
    "registryPullQPS",
];
/// And those that are truth values.
const TRUTHS: &[&str] = &[
    "cgroupsPerQOS",
    "cpuCFSQuota",
    "enableControllerAttachDetach",
    "enableDebuggingHandlers",
    "enableProfilingHandler",
    "enableServer",
    "enableSystemLogHandler",
    "enableSystemLogQuery",
    "failCgroupV1",
    "failSwapOn",
    "localStorageCapacityIsolation",
    "makeIPTablesUtilChains",
    "protectKernelDefaults",
    "registerNode",
    "rotateCertificates",
    "runOnce",
    "seccompDefault",
    "serializeImagePulls",
    "serverTLSBootstrap",
];

/// The values of a document of this kind that cannot be used.
pub(super) fn check(node: &Node, kind: KubernetesKind, mistakes: &mut Vec<Mistake>) {
    match kind {
        KubernetesKind::ClusterConfiguration => {
            for path in RANGES {
                mistakes.extend(find(node, path).and_then(|found| no_range(found, path)));
            }
        }
        KubernetesKind::KubeletConfiguration => {
            for entry in node.entries() {
                mistakes.extend(no_kubelet_would_start(&entry.key, &entry.value));
            }
        }
        _ => {}
    }
}

fn no_range(node: &Node, path: &str) -> Option<Mistake> {
    let parts = node.text()?.split(',').map(str::trim);
    let mut parts = parts.filter(|part| !part.is_empty());
    let error = parts.find_map(|part| part.parse::<IpRange>().err())?;
    let message = format!("`{path}` of ClusterConfiguration: {error}");
    let mistake = Mistake::new(node.span.clone(), message);
    Some(mistake.help("two ranges, one of each family of addresses, have a comma between them"))
}

fn no_kubelet_would_start(field: &str, node: &Node) -> Option<Mistake> {
    let plain = match &node.value {
        Value::Null => return None,
        Value::Scalar { text, plain: true } => Some(text.as_str()),
        _ => None,
    };
    let wanted = if NUMBERS.contains(&field) {
        let is_number = plain.is_some_and(|text| text.parse::<i64>().is_ok());
        (!is_number).then_some("a whole number")?
    } else if TRUTHS.contains(&field) {
        let is_truth = plain.is_some_and(|text| matches!(text, "true" | "false"));
        (!is_truth).then_some("true or false, without quotes")?
    } else {
        return None;
    };
    let message = format!(
        "`{field}` of KubeletConfiguration has to be {wanted}, this is {}",
        node.kind()
    );
    Some(Mistake::new(node.span.clone(), message).help("a kubelet that reads this does not start"))
}

/// What to know about fields of a KubeletConfiguration, a part of `text`, that no kubelet is known to have.
pub(super) fn notes(node: &Node, text: &str) -> Vec<String> {
    let known = || [KUBELET, AMBIGUOUS, &OF_DOCUMENTS].into_iter().flatten().copied();
    let unknown = node
        .entries()
        .iter()
        .filter(|entry| !known().any(|known| known == entry.key));
    let note = |entry: &crate::clusterfile::tree::Entry| {
        let before = text.get(..entry.key_span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let meant = closest(&entry.key, known())
            .map(|meant| format!("; did you mean `{meant}`?"))
            .unwrap_or_default();
        format!(
            "line {line}: `{}` is no field of KubeletConfiguration that is known here, and kubelets pass over what they do not know{meant}",
            entry.key
        )
    };
    unknown.map(note).collect()
}
