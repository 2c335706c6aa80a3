//! Documents of kind KubeadmConfig: fields of several of kubeadm's documents in one. Each goes to the document that has it.

use super::kubernetes;
use crate::clusterfile::kubernetes::{KUBEADM_CONFIG, KubernetesDocuments, KubernetesKind};
use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::spelling::closest;
use crate::clusterfile::tree::{Entry, Node, Value};

const INIT: &[&str] = &["bootstrapTokens", "certificateKey", "localAPIEndpoint"];
/// What hosts register with, however they come to the cluster.
const BOTH: &[&str] = &["nodeRegistration"];
const JOIN: &[&str] = &["caCertPath", "controlPlane", "discovery"];
const CLUSTER: &[&str] = &[
    "apiServer",
    "certificatesDir",
    "clusterName",
    "controlPlaneEndpoint",
    "controllerManager",
    "dns",
    "etcd",
    "imageRepository",
    "kubernetesVersion",
    "networking",
    "scheduler",
    "useHyperKubeImage",
];
const PROXY: &[&str] = &[
    "bindAddress",
    "bindAddressHardFail",
    "clusterCIDR",
    "configSyncPeriod",
    "conntrack",
    "detectLocalMode",
    "iptables",
    "ipvs",
    "metricsBindAddress",
    "mode",
    "nodePortAddresses",
    "portRange",
    "udpIdleTimeout",
];
/// Of kubelet.config.k8s.io/v1beta1, without those that kube-proxy has, too.
pub(super) const KUBELET: &[&str] = &[
    "address",
    "allowedUnsafeSysctls",
    "authentication",
    "authorization",
    "cgroupDriver",
    "cgroupRoot",
    "cgroupsPerQOS",
    "clusterDNS",
    "clusterDomain",
    "configMapAndSecretChangeDetectionStrategy",
    "containerLogMaxFiles",
    "containerLogMaxSize",
    "containerLogMaxWorkers",
    "containerLogMonitorInterval",
    "containerRuntimeEndpoint",
    "contentType",
    "cpuCFSQuota",
    "cpuCFSQuotaPeriod",
    "cpuManagerPolicy",
    "cpuManagerPolicyOptions",
    "cpuManagerReconcilePeriod",
    "crashLoopBackOff",
    "enableContentionProfiling",
    "enableControllerAttachDetach",
    "enableDebugFlagsHandler",
    "enableDebuggingHandlers",
    "enableProfilingHandler",
    "enableServer",
    "enableSystemLogHandler",
    "enableSystemLogQuery",
    "enforceNodeAllocatable",
    "eventBurst",
    "eventRecordQPS",
    "evictionHard",
    "evictionMaxPodGracePeriod",
    "evictionMinimumReclaim",
    "evictionPressureTransitionPeriod",
    "evictionSoft",
    "evictionSoftGracePeriod",
    "failCgroupV1",
    "failSwapOn",
    "fileCheckFrequency",
    "hairpinMode",
    "healthzPort",
    "httpCheckFrequency",
    "imageGCHighThresholdPercent",
    "imageGCLowThresholdPercent",
    "imageMaximumGCAge",
    "imageMinimumGCAge",
    "imagePullCredentialsVerificationPolicy",
    "imageServiceEndpoint",
    "iptablesDropBit",
    "iptablesMasqueradeBit",
    "kernelMemcgNotification",
    "kubeAPIBurst",
    "kubeAPIQPS",
    "kubeReserved",
    "kubeReservedCgroup",
    "kubeletCgroups",
    "localStorageCapacityIsolation",
    "logging",
    "makeIPTablesUtilChains",
    "maxOpenFiles",
    "maxParallelImagePulls",
    "maxPods",
    "memoryManagerPolicy",
    "memorySwap",
    "memoryThrottlingFactor",
    "mergeDefaultEvictionSettings",
    "nodeLeaseDurationSeconds",
    "nodeStatusMaxImages",
    "nodeStatusReportFrequency",
    "nodeStatusUpdateFrequency",
    "podCIDR",
    "podLogsDir",
    "podPidsLimit",
    "podsPerCore",
    "port",
    "preloadedImagesVerificationAllowlist",
    "protectKernelDefaults",
    "providerID",
    "qosReserved",
    "readOnlyPort",
    "registerNode",
    "registerWithTaints",
    "registryBurst",
    "registryPullQPS",
    "reservedMemory",
    "reservedSystemCPUs",
    "resolvConf",
    "rotateCertificates",
    "runOnce",
    "runtimeCgroups",
    "runtimeRequestTimeout",
    "seccompDefault",
    "serializeImagePulls",
    "serverTLSBootstrap",
    "shutdownGracePeriod",
    "shutdownGracePeriodByPodPriority",
    "shutdownGracePeriodCriticalPods",
    "singleProcessOOMKill",
    "staticPodPath",
    "staticPodURL",
    "staticPodURLHeader",
    "streamingConnectionIdleTimeout",
    "syncFrequency",
    "systemCgroups",
    "systemReserved",
    "systemReservedCgroup",
    "tlsCertFile",
    "tlsCipherSuites",
    "tlsMinVersion",
    "tlsPrivateKeyFile",
    "topologyManagerPolicy",
    "topologyManagerPolicyOptions",
    "topologyManagerScope",
    "tracing",
    "userNamespaces",
    "volumePluginDir",
    "volumeStatsAggPeriod",
];
/// Fields by the documents that have them.
const FIELDS: &[(&[&str], &[KubernetesKind])] = &[
    (INIT, &[KubernetesKind::InitConfiguration]),
    (
        BOTH,
        &[
            KubernetesKind::InitConfiguration,
            KubernetesKind::JoinConfiguration,
        ],
    ),
    (JOIN, &[KubernetesKind::JoinConfiguration]),
    (CLUSTER, &[KubernetesKind::ClusterConfiguration]),
    (KUBELET, &[KubernetesKind::KubeletConfiguration]),
    (PROXY, &[KubernetesKind::KubeProxyConfiguration]),
];
/// Fields that mean another thing in each of several documents.
pub(super) const AMBIGUOUS: &[&str] = &[
    "clientConnection",
    "enableProfiling",
    "featureGates",
    "healthzBindAddress",
    "hostnameOverride",
    "oomScoreAdj",
    "showHiddenMetricsForVersion",
];

/// Takes the fields of `node` into the documents they belong to.
pub(super) fn document(
    node: &Node,
    documents: &mut KubernetesDocuments,
    mistakes: &mut Vec<Mistake>,
    notes: &mut Vec<String>,
) {
    for entry in node.entries() {
        if !["apiVersion", "kind", "metadata", "spec"].contains(&entry.key.as_str()) {
            let message = format!("`{}` is not a field of {KUBEADM_CONFIG}", entry.key);
            let mistake = Mistake::new(entry.key_span.clone(), message);
            mistakes.push(mistake.help(format!(
                "what kubeadm is told stands in `spec`: `spec.{}`?",
                entry.key
            )));
        }
    }
    let spec = node
        .get("spec")
        .filter(|spec| matches!(spec.value, Value::Map(_)));
    let Some(spec) = spec else {
        let mistake = Mistake::new(
            node.span.clone(),
            format!("{KUBEADM_CONFIG} has no fields in `spec`"),
        );
        mistakes.push(
            mistake.help("write what kubeadm is told into it, e.g. `networking: {podSubnet: 10.244.0.0/16}`"),
        );
        return;
    };
    let mut by_kind: Vec<(KubernetesKind, Vec<Entry>)> = Vec::new();
    for entry in spec.entries() {
        let Some(kinds) = kinds_of(entry, mistakes) else {
            continue;
        };
        for &kind in kinds {
            let entry = without_address(entry, kind, notes);
            match by_kind.iter_mut().find(|(of, _)| *of == kind) {
                Some((_, entries)) => entries.push(entry),
                None => by_kind.push((kind, vec![entry])),
            }
        }
    }
    for (kind, entries) in by_kind {
        let names: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        notes.push(format!(
            "read from {KUBEADM_CONFIG} into {}: {}",
            kind.name(),
            names.join(", ")
        ));
        let part = Node {
            span: spec.span.clone(),
            value: Value::Map(entries),
        };
        kubernetes::document(&part, kind, documents, mistakes);
    }
}

fn kinds_of(entry: &Entry, mistakes: &mut Vec<Mistake>) -> Option<&'static [KubernetesKind]> {
    let key = entry.key.as_str();
    if let Some((_, kinds)) = FIELDS.iter().find(|(fields, _)| fields.contains(&key)) {
        return Some(kinds);
    }
    let mistake = |message: String| Mistake::new(entry.key_span.clone(), message);
    mistakes.push(if AMBIGUOUS.contains(&key) {
        mistake(format!("`{key}` is a field of several documents"))
            .help("write it into a document of the kind that is meant, e.g. `kind: KubeletConfiguration`")
    } else {
        let known = FIELDS.iter().flat_map(|(fields, _)| fields.iter().copied());
        let mistake = mistake(format!(
            "`{key}` is no field that kubeadm, kubelet or kube-proxy has"
        ));
        match closest(key, known) {
            Some(meant) => mistake.help(format!("did you mean `{meant}`?")),
            None => {
                mistake.help("write it into a document of its own kind, e.g. `kind: KubeletConfiguration`")
            }
        }
    });
    None
}

/// sealer's examples have the address of a first master, which is known anyway.
fn without_address(entry: &Entry, kind: KubernetesKind, notes: &mut Vec<String>) -> Entry {
    let mut entry = entry.clone();
    if let (KubernetesKind::InitConfiguration, "localAPIEndpoint") = (kind, entry.key.as_str())
        && let Value::Map(fields) = &mut entry.value.value
    {
        let before = fields.len();
        fields.retain(|field| field.key != "advertiseAddress");
        if fields.len() < before {
            notes.push(format!(
                "localAPIEndpoint.advertiseAddress of {KUBEADM_CONFIG} is not used: it is the first master's address"
            ));
        }
    }
    entry
}
