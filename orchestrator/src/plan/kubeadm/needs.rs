//! This module owns [`KubernetesNeeds`]: what hosts must have, and must leave free, to become members of the cluster.

use gantry_model::{ExitCode, IpRange, KubeadmAct};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::super::{PlanImage, scripts};
use super::{ImageSwap, config};
use crate::clusterfile::Clusterfile;
use crate::clusterfile::kubernetes::KubernetesKind;
use crate::exit::failure_hint;

/// What kubeadm takes when nobody says otherwise (kubeadm.k8s.io, `networking.serviceSubnet`).
const DEFAULT_SERVICES: &str = "10.96.0.0/12";
/// Where etcd keeps its data when nobody says otherwise (`etcd.local.dataDir`).
const DEFAULT_ETCD_FOLDER: &str = "/var/lib/etcd";
/// What kubeadm insists on finding on every host.
const TOOLS: [&str; 5] = ["conntrack", "ip", "iptables", "mount", "nsenter"];
/// And what it talks to runtimes with; to docker it talks by docker's own socket.
const RUNTIME_TOOL: &str = "crictl";

/// What hosts must have, and must leave free, to become members of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesNeeds {
    /// Addresses of pods.
    pub pods: Vec<IpRange>,
    /// Addresses of services.
    pub services: Vec<IpRange>,
    /// Whether swap may be on, or is turned off by the image.
    pub bears_swap: bool,
    /// Whether the image turns it off, but not when the host boots.
    #[serde(default)]
    pub swap_off_until_boot: bool,
    /// Whether control planes keep etcd's data in `/var/lib/etcd`.
    pub etcd_in_default_folder: bool,
    /// Tools that have to be on the host, because the image does not bring them.
    pub tools: Vec<String>,
}

/// What members of `clusterfile`'s cluster need; none for an image without kubeadm.
///
/// # Errors
/// When a configuration cannot be used, or names a range that is none.
pub(in super::super) fn needs(
    clusterfile: &Clusterfile,
    image: &PlanImage,
) -> anyhow::Result<Option<KubernetesNeeds>> {
    let Some(kubernetes) = &image.kubernetes else {
        return Ok(None);
    };
    let documents = config::documents(clusterfile, image, clusterfile.first_master(), &KubeadmAct::Init)?;
    let of = |kind| documents.get(&kind).cloned().unwrap_or_default();
    let cluster: Json = of(KubernetesKind::ClusterConfiguration);
    let external_etcd = !cluster["etcd"]["external"].is_null();
    let etcd_folder = cluster["etcd"]["local"]["dataDir"].as_str();
    let docker = scripts::runtime(clusterfile, image) == "docker";
    let bears_swap = bears_swap(&of(KubernetesKind::KubeletConfiguration));
    let tools = TOOLS.into_iter().chain((!docker).then_some(RUNTIME_TOOL));
    Ok(Some(KubernetesNeeds {
        pods: ranges(&cluster, "podSubnet", "")?,
        services: ranges(&cluster, "serviceSubnet", DEFAULT_SERVICES)?,
        bears_swap: bears_swap || kubernetes.swap != ImageSwap::Stays,
        swap_off_until_boot: !bears_swap && kubernetes.swap == ImageSwap::OffUntilBoot,
        etcd_in_default_folder: !external_etcd
            && etcd_folder.is_none_or(|folder| folder == DEFAULT_ETCD_FOLDER),
        tools: tools
            .filter(|tool| !kubernetes.programs.contains(*tool))
            .map(str::to_owned)
            .collect(),
    }))
}

/// Whether kubelets start although swap is on.
pub(super) fn bears_swap(kubelet: &Json) -> bool {
    kubelet["failSwapOn"] == Json::Bool(false)
}

fn ranges(cluster: &Json, field: &str, default: &str) -> anyhow::Result<Vec<IpRange>> {
    let text = cluster["networking"][field].as_str().unwrap_or(default);
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            part.parse().map_err(|error| {
                failure_hint(
                    ExitCode::Input,
                    format!("`networking.{field}` of ClusterConfiguration: {error}"),
                    "it comes from that document, or from PodCIDR and SvcCIDR in `env`",
                )
            })
        })
        .collect()
}
