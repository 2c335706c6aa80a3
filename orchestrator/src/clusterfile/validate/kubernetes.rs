//! Documents that configure Kubernetes. kubeadm knows their fields; refused here is what would break the cluster, and
//! what Gantry makes itself for every host.

use super::super::kubernetes::{KubernetesDocuments, KubernetesKind, plain_data};
use super::super::mistake::Mistake;
use super::super::tree::Node;
use super::kubernetes_fields;
use crate::plan::planner::{API_SERVER, API_SERVER_PORT};

const A_PASS_OF_ITS_OWN: &str = "every host that joins gets a token and the CA's digest of its own";

/// Fields that cannot be set, by kind and path, and why.
const NOT_YOURS: &[(KubernetesKind, &str, &str)] = &[
    (
        KubernetesKind::InitConfiguration,
        "bootstrapTokens",
        "tokens are made when hosts join, and end after an hour",
    ),
    (
        KubernetesKind::InitConfiguration,
        "certificateKey",
        "the key is made when control planes join, and ends after two hours",
    ),
    (
        KubernetesKind::InitConfiguration,
        "localAPIEndpoint.advertiseAddress",
        "it is the address of the first master in `spec.hosts`",
    ),
    (
        KubernetesKind::InitConfiguration,
        "nodeRegistration.name",
        "nodes have the names of their hosts",
    ),
    (
        KubernetesKind::ClusterConfiguration,
        "etcd.external",
        "etcd runs on the control planes: its members come and go with them, and its snapshots are part of upgrades and backups",
    ),
    (
        KubernetesKind::JoinConfiguration,
        "discovery.bootstrapToken",
        A_PASS_OF_ITS_OWN,
    ),
    (
        KubernetesKind::JoinConfiguration,
        "discovery.tlsBootstrapToken",
        A_PASS_OF_ITS_OWN,
    ),
    (
        KubernetesKind::JoinConfiguration,
        "discovery.file",
        A_PASS_OF_ITS_OWN,
    ),
    (
        KubernetesKind::JoinConfiguration,
        "controlPlane.certificateKey",
        "the key is made when control planes join, and ends after two hours",
    ),
    (
        KubernetesKind::JoinConfiguration,
        "controlPlane.localAPIEndpoint.advertiseAddress",
        "it is the address of each host in `spec.hosts`",
    ),
    (
        KubernetesKind::JoinConfiguration,
        "nodeRegistration.name",
        "nodes have the names of their hosts",
    ),
];

/// The document of one of these kinds, taken into `documents`.
pub(super) fn document(
    node: &Node,
    kind: KubernetesKind,
    documents: &mut KubernetesDocuments,
    mistakes: &mut Vec<Mistake>,
) {
    for (_, path, why) in NOT_YOURS.iter().filter(|(of, ..)| *of == kind) {
        if let Some(found) = find(node, path) {
            let message = format!("`{path}` of {} cannot be set", kind.name());
            mistakes.push(Mistake::new(found.span.clone(), message).help(format!("leave it out: {why}")));
        }
    }
    let (port, endpoint) = (
        API_SERVER_PORT.to_string(),
        format!("{API_SERVER}:{API_SERVER_PORT}"),
    );
    let by_that_name =
        "every host of the cluster, and every certificate, finds the API server by that name and port";
    let fixed: &[(&str, &str, &str)] = match kind {
        KubernetesKind::InitConfiguration => &[("localAPIEndpoint.bindPort", &port, by_that_name)],
        KubernetesKind::JoinConfiguration => {
            &[("controlPlane.localAPIEndpoint.bindPort", &port, by_that_name)]
        }
        KubernetesKind::ClusterConfiguration => &[
            ("controlPlaneEndpoint", &endpoint, by_that_name),
            (
                "certificatesDir",
                "/etc/kubernetes/pki",
                "control planes that join, renewals and backups of etcd find the certificates there",
            ),
        ],
        _ => &[],
    };
    for (path, only, help) in fixed {
        let other = find(node, path).filter(|found| found.text().is_some_and(|text| text != *only));
        if let Some(found) = other {
            let message = format!("`{path}` of {} can only be {only}", kind.name());
            mistakes.push(Mistake::new(found.span.clone(), message).help(*help));
        }
    }
    kubernetes_fields::check(node, kind, mistakes);
    if documents.insert(kind, plain_data(node)).is_some() {
        let message = format!("a second document of kind {}", kind.name());
        mistakes.push(Mistake::new(node.span.clone(), message).help("write its fields into the first"));
    }
}

pub(super) fn find<'a>(node: &'a Node, path: &str) -> Option<&'a Node> {
    path.split('.').try_fold(node, |node, name| node.get(name))
}
