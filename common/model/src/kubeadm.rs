//! This module owns [`KubeadmSpec`] (one run of kubeadm) and [`JoinPass`] (what lets a host into a cluster).

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ClusterName;

/// One run of kubeadm on a host: the program `bin/kubeadm` of the cluster's current generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeadmSpec {
    /// The cluster whose image has the program, and whose host this becomes or was.
    pub cluster: ClusterName,
    /// What it does.
    pub act: KubeadmAct,
    /// The version of Kubernetes that the program brings, e.g. `v1.20.2`; empty when it takes one away.
    pub kubernetes: String,
    /// What kubeadm is given as `--config`: YAML documents. The words `{token}`, `{ca-hash}` and
    /// `{certificate-key}` stand for what a [`JoinPass`] says. Empty when it leaves a cluster.
    pub config: String,
    /// Phases it goes without, e.g. `addon/coredns`.
    pub skipped_phases: Vec<String>,
    /// Checks of its own whose failure is only a warning, e.g. `ImagePull`.
    pub ignored_checks: Vec<String>,
    /// Seconds after which it is ended. 0: no limit.
    pub time_limit_s: u32,
}

/// What a run of kubeadm does to its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KubeadmAct {
    /// Begins the cluster: its first control plane.
    Init,
    /// Joins the cluster.
    Join {
        /// The control-plane host that lets it in.
        from: IpAddr,
        /// As one more control plane rather than as a worker.
        control_plane: bool,
    },
    /// Leaves the cluster, or undoes what an unfinished run left behind.
    Reset,
    /// Takes a member of the cluster to the program's version.
    Upgrade {
        /// As the first control plane, with which what the cluster has in common gets the version; the others follow it.
        first: bool,
    },
}

impl KubeadmAct {
    /// A few words for people, which also name the step: `kubeadm init`.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        match self {
            Self::Init => "kubeadm init",
            Self::Join { .. } => "kubeadm join",
            Self::Reset => "kubeadm reset",
            Self::Upgrade { .. } => "kubeadm upgrade",
        }
    }
}

/// What a host needs to be let into a cluster, made by one of its control planes when it is needed. Secret and
/// short-lived: it travels in requests and is no part of any step, plan or journal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinPass {
    /// Bootstrap token: six characters, a dot, sixteen characters.
    pub token: String,
    /// `sha256:` and the digest of the cluster CA's public key (RFC 7469, section 2.4).
    pub ca_hash: String,
    /// Key to the control plane's certificates in the cluster, in hex; for control planes only.
    pub certificate_key: Option<String>,
}

impl JoinPass {
    /// Longest of its texts, in bytes: the digest.
    pub const MAX_LEN: usize = 128;

    /// `config` with its words replaced by what the pass says.
    #[must_use]
    pub fn fill_in(&self, config: &str) -> String {
        config
            .replace("{token}", &self.token)
            .replace("{ca-hash}", &self.ca_hash)
            .replace(
                "{certificate-key}",
                self.certificate_key.as_deref().unwrap_or_default(),
            )
    }

    /// Whether its texts are of the kind they should be: nothing that could be taken for more YAML.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let texts = [
            Some(&self.token),
            Some(&self.ca_hash),
            self.certificate_key.as_ref(),
        ];
        texts.into_iter().flatten().all(|text| {
            text.len() <= Self::MAX_LEN
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':'))
        })
    }
}

impl fmt::Debug for JoinPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinPass(secret)")
    }
}

/// The newest form of kubeadm's own documents that every kubeadm of this version of Kubernetes reads
/// (kubernetes.io, "kubeadm Configuration"): `v1.20.2` gives `kubeadm.k8s.io/v1beta2`.
#[must_use]
pub fn kubeadm_api_version(kubernetes: &str) -> &'static str {
    let mut numbers = kubernetes.trim_start_matches('v').split('.');
    let mut next = || numbers.next()?.parse::<u32>().ok();
    match (next(), next()) {
        (Some(1), Some(..15)) => "kubeadm.k8s.io/v1beta1",
        (Some(1), Some(15..22)) => "kubeadm.k8s.io/v1beta2",
        _ => "kubeadm.k8s.io/v1beta3",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_fills_a_configuration_in_and_does_not_show_itself() {
        let pass = JoinPass {
            token: "abcdef.0123456789abcdef".into(),
            ca_hash: "sha256:11".into(),
            certificate_key: None,
        };
        assert_eq!(
            pass.fill_in("token: {token}\nhash: {ca-hash}\nkey: '{certificate-key}'\n"),
            "token: abcdef.0123456789abcdef\nhash: sha256:11\nkey: ''\n"
        );
        assert!(!format!("{pass:?}").contains("abcdef"));
        assert!(pass.is_plain());
        let forged = JoinPass {
            token: "x\nkind: ClusterConfiguration".into(),
            ..pass
        };
        assert!(!forged.is_plain());
    }

    #[test]
    fn every_version_gets_documents_it_reads() {
        for (version, api) in [
            ("v1.14.9", "v1beta1"),
            ("v1.20.2", "v1beta2"),
            ("1.21.0", "v1beta2"),
            ("v1.22.15", "v1beta3"),
            ("", "v1beta3"),
        ] {
            assert_eq!(
                kubeadm_api_version(version),
                format!("kubeadm.k8s.io/{api}"),
                "{version}"
            );
        }
    }
}
