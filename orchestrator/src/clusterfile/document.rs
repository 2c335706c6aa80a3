//! The text shape of a Clusterfile: one type per mapping. Only the JSON Schema is made of these types, and with
//! it [`super::structure`] checks names and kinds of values; what values mean is decided in [`super::validate`].

mod application;
mod first_version;
mod plugin;

use std::collections::BTreeMap;

use schemars::JsonSchema;

pub use application::ApplicationDocument;
pub use first_version::DocumentV1;
pub use plugin::PluginDocument;

/// What one cluster shall be
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// Version of this format
    pub api_version: ApiVersion,
    /// Kind of document
    pub kind: Kind,
    /// Names the cluster
    pub metadata: Metadata,
    /// What the cluster shall be
    pub spec: Spec,
}

/// Version of this format
#[derive(Debug, JsonSchema)]
pub enum ApiVersion {
    /// Since sealer 0.9.3
    #[serde(rename = "sealer.io/v2")]
    SealerIo,
    /// Sealer 0.6 to 0.8
    #[serde(rename = "sealer.cloud/v2")]
    SealerCloud,
}

/// Kind of document
#[derive(Debug, JsonSchema)]
pub enum Kind {
    /// The hosts of a cluster, and what runs on them
    Cluster,
}

/// Names the cluster
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Name of the cluster: 1 to 63 of a-z, 0-9 and '-'
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: String,
}

/// What the cluster shall be
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// The ClusterImage, e.g. kubernetes:v1.19.8
    pub image: String,
    /// Environment of the image's scripts on every host: NAME=VALUE
    #[serde(default)]
    pub env: Vec<String>,
    /// The hosts, in groups that have something in common
    pub hosts: Vec<HostGroup>,
    /// How scripts of older images reached hosts; not used, agents are enrolled
    pub ssh: Option<Ssh>,
    /// The cluster's own registry
    pub registry: Option<Registry>,
    /// Which container runtime the image's scripts shall install
    pub container_runtime: Option<ContainerRuntime>,
    /// More lines for /etc/hosts of every host
    #[serde(default)]
    pub host_aliases: Vec<HostAlias>,
    /// Commands run on the first master in the place of the image's, where its agent allows it
    #[serde(default)]
    pub cmd: Vec<String>,
    /// Values of variables that those commands, or the image's, name: NAME=VALUE
    #[serde(default, rename = "cmd_args")]
    pub cmd_args: Vec<String>,
    /// The applications of the image that are launched, in order; [""] launches none [default: those that the image launches]
    #[serde(default)]
    pub app_names: Vec<String>,
    /// Where old scripts find rootfs folders; has to be /var/lib/sealer/data
    pub data_root: Option<String>,
}

/// Hosts that have something in common
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostGroup {
    /// IPv4 or IPv6 addresses of the hosts
    pub ips: Vec<String>,
    /// "master" or "node", and free names, which become labels node-role.kubernetes.io/NAME
    pub roles: Vec<String>,
    /// Environment of the image's scripts on these hosts, over the cluster's: NAME=VALUE
    #[serde(default)]
    pub env: Vec<String>,
    /// Labels of the nodes that these hosts become
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints of the nodes that these hosts become: KEY[=VALUE]:EFFECT; with '-' behind it one that is to go
    #[serde(default)]
    pub taints: Vec<String>,
    /// How scripts of older images reached hosts; not used, agents are enrolled
    pub ssh: Option<Ssh>,
}

/// Not used: agents are enrolled, nothing goes over ssh
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ssh {
    /// Not used
    pub user: Option<String>,
    /// Not used
    pub passwd: Option<String>,
    /// Not used
    pub pk: Option<String>,
    /// Not used
    pub pk_passwd: Option<String>,
    /// Not used
    pub port: Option<String>,
    /// Not used
    pub encrypted: Option<bool>,
}

/// The cluster's registry
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// Who serves it [default: image, if it has scripts/init-registry.sh, else agent]
    pub mode: Option<RegistryMode>,
    /// How it is found
    pub local_registry: Option<LocalRegistry>,
}

/// Who serves the cluster's registry
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RegistryMode {
    /// Every agent serves the rootfs's registry/ to its own host, read-only, over TLS that its runtimes trust
    Agent,
    /// The image's scripts/init-registry.sh, on the first master
    Image,
}

/// How the cluster's registry is found
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalRegistry {
    /// Its name in image references [default: sea.hub]
    pub domain: Option<String>,
    /// Its port [default: 5000]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// As sealer has it: whether it outlives a host. May be true, which agents see to
    pub ha: Option<bool>,
    /// As sealer has it: whether it has no TLS. May be false
    pub insecure: Option<bool>,
}

/// Which container runtime the image's scripts shall install
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerRuntime {
    /// The runtime
    #[serde(rename = "type")]
    pub kind: Runtime,
}

/// A container runtime
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Runtime {
    /// scripts/docker.sh
    Docker,
    /// scripts/containerd.sh
    Containerd,
}

/// What one file of the rootfs shall be, on every host
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigDocument {
    /// Version of this format
    pub api_version: Option<ConfigApiVersion>,
    /// Kind of document
    pub kind: ConfigKind,
    /// Names the document
    pub metadata: Option<ConfigMetadata>,
    /// What the file shall be
    pub spec: ConfigSpec,
}

/// Version of this format
#[derive(Debug, JsonSchema)]
pub enum ConfigApiVersion {
    /// Since sealer 0.9.3
    #[serde(rename = "sealer.io/v1")]
    SealerIoV1,
    /// The version that Clusters have
    #[serde(rename = "sealer.io/v2")]
    SealerIoV2,
    /// Sealer 0.6 to 0.8
    #[serde(rename = "sealer.cloud/v1")]
    SealerCloudV1,
    /// The version that Clusters had
    #[serde(rename = "sealer.cloud/v2")]
    SealerCloudV2,
    /// Before sealer 0.9.3
    #[serde(rename = "sealer.aliyun.com/v1alpha1")]
    SealerAliyun,
}

/// Kind of document
#[derive(Debug, JsonSchema)]
pub enum ConfigKind {
    /// One file of the rootfs
    Config,
}

/// Names the document
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMetadata {
    /// A name for people
    pub name: Option<String>,
}

/// What the file shall be
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigSpec {
    /// The file, below the rootfs, e.g. etc/daemon.json
    pub path: String,
    /// The application below whose folder the file is
    pub app_name: Option<String>,
    /// Its text, or what is merged into it
    pub data: String,
    /// What is done with the data [default: overwrite]
    pub strategy: Option<ConfigStrategy>,
    /// What the data goes through before: value, toJson, toBase64 and toSecret, with '|' between them
    pub process: Option<String>,
}

/// What is done with the data
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ConfigStrategy {
    /// It is the file
    Overwrite,
    /// It is merged, as YAML, into every document of the image's file
    Merge,
}

/// A line for /etc/hosts of every host
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostAlias {
    /// The address
    pub ip: String,
    /// The names that lead to it
    pub hostnames: Vec<String>,
}
