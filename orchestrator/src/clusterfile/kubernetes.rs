//! This module owns [`KubernetesKind`]: the kinds of document that configure Kubernetes itself, and what of them the
//! operator wrote.

use std::collections::BTreeMap;

use serde_json::{Number, Value as Json};

use super::tree::Node;
use super::yaml::Yaml;

/// What an operator says about Kubernetes, by kind of document.
pub type KubernetesDocuments = BTreeMap<KubernetesKind, Json>;

/// The kind of documents that have fields of several of them.
pub const KUBEADM_CONFIG: &str = "KubeadmConfig";

/// A kind of document that configures Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KubernetesKind {
    /// How the first control plane starts.
    InitConfiguration,
    /// How further hosts join.
    JoinConfiguration,
    /// What holds for the whole cluster.
    ClusterConfiguration,
    /// Kubelets.
    KubeletConfiguration,
    /// kube-proxy.
    KubeProxyConfiguration,
}

impl KubernetesKind {
    /// Every kind, in the order kubeadm's own files have them.
    pub const ALL: [Self; 5] = [
        Self::InitConfiguration,
        Self::JoinConfiguration,
        Self::ClusterConfiguration,
        Self::KubeletConfiguration,
        Self::KubeProxyConfiguration,
    ];

    /// Its name in `kind`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InitConfiguration => "InitConfiguration",
            Self::JoinConfiguration => "JoinConfiguration",
            Self::ClusterConfiguration => "ClusterConfiguration",
            Self::KubeletConfiguration => "KubeletConfiguration",
            Self::KubeProxyConfiguration => "KubeProxyConfiguration",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A node as plain data, by YAML's core schema (YAML 1.2, section 10.3.2): unquoted words may be numbers or truths.
#[must_use]
pub fn plain_data(node: &Node) -> Json {
    Yaml::of(node).to_json()
}

/// What an unquoted word is.
pub(super) fn scalar(text: &str) -> Json {
    match text {
        "true" => return Json::Bool(true),
        "false" => return Json::Bool(false),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return Json::Number(number.into());
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
        && !text.contains(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E'));
    text.parse::<f64>()
        .ok()
        .filter(|_| numeric)
        .and_then(Number::from_f64)
        .map_or_else(|| Json::String(text.to_owned()), Json::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clusterfile::tree;

    #[test]
    fn words_without_quotes_are_what_yaml_says_they_are() {
        let (documents, mistakes) = tree::parse(
            "a: 110\nb: '110'\nc: true\nd: v1.20.2\ne: 0.5\nf: 1h0m0s\ng: [~, -1]\nh: 10.0.0.1\ni: inf\n",
        );
        assert!(mistakes.is_empty());
        assert_eq!(
            plain_data(&documents[0]),
            json!({ "a": 110, "b": "110", "c": true, "d": "v1.20.2", "e": 0.5, "f": "1h0m0s", "g": [null, -1],
                    "h": "10.0.0.1", "i": "inf" })
        );
    }
}
