//! kubeadm of the image: what it is told, whether this host may be told so, and passes for hosts that join.
//!
//! ```text
//! KubeadmSpec (+ JoinPass) ─▶ traces: is this host somebody else's? ─▶ command: words of the program ─▶ scripts
//! control plane ─▶ readiness: waits for an API server that is a moment away
//! control plane ─▶ marks: labels and taints of nodes
//! control plane ─▶ cordon: keeps pods away from a node while it is upgraded · kubelet: starts it anew
//! control plane ─▶ renew: new certificates · static_pods: starts its pods anew and waits for them
//! control plane ─▶ system_pods: waits until the cluster's own pods are ready
//! control plane ─▶ api_server: stops and starts it around a restore of etcd
//! every member ─▶ cluster_ca: replaces the cluster's own CA
//! every member ─▶ kubelet_configuration: what kubelets are told, when that changes
//! control plane ─▶ pass: token, CA digest, certificate key ─▶ the joining host's JoinPass
//! ```

mod api_server;
mod cluster_ca;
mod command;
mod cordon;
mod health;
mod kubeconfig;
mod kubectl;
mod kubelet;
mod kubelet_configuration;
mod marks;
mod node_api;
mod node_patch;
mod pass;
mod pods;
mod readiness;
mod renew;
mod static_pods;
mod statics;
mod system_pods;
mod traces;

pub(crate) use api_server::{start as start_api_server, stop as stop_api_server};
pub(crate) use cluster_ca::{
    check_cluster_cas, cluster_cas, has_kubelet_moved, is_cluster_ca_made, is_cluster_ca_withdrawn,
    is_signed_by_cluster_ca, make_cluster_ca, publish_cluster_cas, renew_kubelet_certificate,
    sign_by_cluster_ca, trust_cluster_cas, trusts_cluster_cas, withdraw_cluster_ca,
};
pub(crate) use command::{check, check_config, check_version, program};
pub(crate) use cordon::{cordon, uncordon};
pub(crate) use health::health;
pub(crate) use kubeconfig::kubeconfig;
pub(crate) use kubectl::{KubectlCall, check_node};
pub(crate) use kubelet::restart as restart_kubelet;
pub(crate) use kubelet_configuration::{
    configure as configure_kubelet, publish as publish_kubelet_configuration,
};
pub(crate) use marks::{check_groups, mark_nodes};
pub(crate) use pass::{PassError, issue};
pub(crate) use readiness::wait_for_api_server;
pub(crate) use renew::renew;
pub(crate) use statics::{place as place_statics, remove as remove_statics};
pub(crate) use system_pods::wait as wait_for_system_pods;
pub(crate) use traces::traces;

/// kubeadm, below the rootfs.
pub(crate) const PROGRAM: &str = "bin/kubeadm";
/// kubectl, below the rootfs.
pub(crate) const KUBECTL: &str = "bin/kubectl";
/// The cluster's administrator, on a control plane.
pub(crate) const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// Whether this host is a control plane of some cluster.
pub(crate) fn is_control_plane() -> bool {
    std::path::Path::new(ADMIN).is_file()
}
