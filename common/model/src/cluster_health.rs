//! This module owns [`ClusterHealth`]: what a control plane says about its cluster.

use serde::{Deserialize, Serialize};

use crate::EtcdMembers;

/// What a control plane says about its cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterHealth {
    /// Its nodes, by name.
    pub nodes: Vec<NodeHealth>,
    /// Its etcd.
    pub etcd: EtcdMembers,
    /// What could not be found out, and why.
    pub problems: Vec<String>,
}

/// A node, as the API server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeHealth {
    /// Its name.
    pub name: String,
    /// Its address inside the cluster, if it told one.
    pub address: Option<std::net::IpAddr>,
    /// Version of its kubelet, e.g. `v1.20.2`.
    pub version: String,
    /// Why pods cannot run there; none when the node is ready.
    pub problem: Option<String>,
    /// New pods are kept away.
    pub cordoned: bool,
}
