//! The text shape of the first version of documents of kind Cluster.

use schemars::JsonSchema;

use super::{ContainerRuntime, Kind, Metadata, Ssh};

/// What one cluster shall be, in the first version of the format
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DocumentV1 {
    /// Version of this format
    pub api_version: ApiVersionV1,
    /// Kind of document
    pub kind: Kind,
    /// Names the cluster
    pub metadata: Metadata,
    /// What the cluster shall be
    pub spec: SpecV1,
}

/// Version of this format
#[derive(Debug, JsonSchema)]
pub enum ApiVersionV1 {
    /// Before sealer 0.3
    #[serde(rename = "zlink.aliyun.com/v1alpha1")]
    Zlink,
    /// Sealer 0.3 to 0.6
    #[serde(rename = "sealer.aliyun.com/v1alpha1")]
    SealerAliyun,
    /// The same since sealer 0.7
    #[serde(rename = "sealer.cloud/v1")]
    SealerCloud,
    /// The same since sealer 0.9.3
    #[serde(rename = "sealer.io/v1")]
    SealerIo,
}

/// What the cluster shall be
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpecV1 {
    /// The ClusterImage, e.g. kubernetes:v1.19.8
    pub image: String,
    /// Environment of the image's scripts on every host: NAME=VALUE
    #[serde(default)]
    pub env: Vec<String>,
    /// Where hosts come from; has to be BAREMETAL
    pub provider: Option<String>,
    /// How scripts of older images reached hosts; not used, agents are enrolled
    pub ssh: Option<Ssh>,
    /// Addresses of pods and services
    pub network: Option<Network>,
    /// More names and addresses of the API server
    #[serde(rename = "certSANS", default)]
    pub cert_sans: Vec<String>,
    /// Which container runtime the image's scripts shall install
    pub container_runtime: Option<ContainerRuntime>,
    /// The hosts that run the control plane
    pub masters: HostList,
    /// The hosts that run workloads
    pub nodes: Option<HostList>,
}

/// Addresses of pods and services
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Addresses of pods
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    /// Addresses of services
    #[serde(rename = "svcCIDR")]
    pub svc_cidr: Option<String>,
}

/// Hosts of one role
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostList {
    /// IPv4 or IPv6 addresses of the hosts
    pub ip_list: Vec<String>,
}
