//! What other programs of this family accept in a Clusterfile and this version refuses by name.

const LIST_HOSTS: &str = "hosts are not created; list the addresses of running ones in `ipList`";
const NETWORK_IS_THE_IMAGES: &str =
    "the image brings the network; change its manifest with a document of kind Config";

/// Fields, by their path, and what to do instead. One that is empty says nothing, and is passed over.
const FIELDS: &[(&str, &str)] = &[
    (
        "spec.provider",
        "hosts are not created; list the addresses of running ones in `spec.hosts`",
    ),
    (
        "spec.network",
        "set the ranges in `spec.env`, e.g. PodCIDR=100.64.0.0/10 and SvcCIDR=10.96.0.0/22",
    ),
    ("spec.certSANS", "set them in `spec.env`: CertSANs=NAME,ADDRESS"),
    (
        "spec.masters",
        "write `hosts: [{ips: [ADDRESS], roles: [master]}]`",
    ),
    ("spec.nodes", "write `hosts: [{ips: [ADDRESS], roles: [node]}]`"),
    ("spec.masters.count", LIST_HOSTS),
    ("spec.masters.cpu", LIST_HOSTS),
    ("spec.masters.memory", LIST_HOSTS),
    ("spec.masters.systemDisk", LIST_HOSTS),
    ("spec.masters.dataDisks", LIST_HOSTS),
    ("spec.nodes.count", LIST_HOSTS),
    ("spec.nodes.cpu", LIST_HOSTS),
    ("spec.nodes.memory", LIST_HOSTS),
    ("spec.nodes.systemDisk", LIST_HOSTS),
    ("spec.nodes.dataDisks", LIST_HOSTS),
    ("spec.network.interface", NETWORK_IS_THE_IMAGES),
    ("spec.network.cniName", NETWORK_IS_THE_IMAGES),
    ("spec.network.withoutCNI", NETWORK_IS_THE_IMAGES),
    ("spec.network.ipip", NETWORK_IS_THE_IMAGES),
    ("spec.network.mtu", NETWORK_IS_THE_IMAGES),
    (
        "spec.registry.externalRegistry",
        "leave it out: the cluster's own registry is used, see `spec.registry.mode`",
    ),
    (
        "spec.registry.localRegistry.username",
        "leave it out: the registry runs without users",
    ),
    (
        "spec.registry.localRegistry.password",
        "leave it out: the registry runs without users",
    ),
    (
        "spec.registry.localRegistry.cert",
        "leave it out: the image's init-registry.sh decides, and agents make their own",
    ),
    (
        "spec.hosts[].containerRuntime",
        "set `spec.containerRuntime`, for all hosts",
    ),
    ("status", "leave it out: `gantry status` asks the hosts"),
    ("metadata.creationTimestamp", "leave it out"),
    ("metadata.annotations", "leave them out"),
    ("metadata.labels", "leave them out"),
    ("metadata.namespace", "leave it out: a cluster has no namespace"),
];

/// Kinds of document that are known and not supported by this version, and what to do instead.
pub(crate) const KINDS: &[(&str, &str)] = &[(
    "Infra",
    "hosts are not created; list the addresses of running ones in `spec.hosts`",
)];

/// Types of Plugin, and what to do instead.
const PLUGINS: &[(&str, &str)] = &[(
    "ETCD",
    "leave it out; `gantry backup -o FILE` writes a snapshot of etcd",
)];

/// What to do instead of a Plugin of a type that is known and not supported.
pub(crate) fn instead_of_plugin(of: &str) -> Option<&'static str> {
    let plugin = PLUGINS.iter().find(|(plugin, _)| *plugin == of);
    plugin.map(|(_, instead)| *instead)
}

/// What to do instead of a field that is known and not supported; `path` with `[]` for any item of a list.
pub(crate) fn instead_of(path: &str) -> Option<&'static str> {
    FIELDS
        .iter()
        .find(|(field, _)| *field == path)
        .map(|(_, instead)| *instead)
}
