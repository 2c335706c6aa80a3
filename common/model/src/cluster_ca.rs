//! This module owns [`ClusterCas`]: the certificate authorities of a Kubernetes cluster, as a host has them.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// A certificate authority of a Kubernetes cluster, without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterCa {
    /// Its certificate, PEM, with a newline at the end.
    pub pem: String,
    /// SHA-256 of the certificate's DER form.
    pub fingerprint: Digest,
    /// From when it holds, seconds since the epoch.
    pub not_before: i64,
    /// When it ends, seconds since the epoch.
    pub not_after: i64,
}

/// The certificate authorities of a Kubernetes cluster, as a host has them. More than one while one is being replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterCas {
    /// Those that the host trusts (`/etc/kubernetes/pki/ca.crt`); on a control plane the first one signs.
    pub trusted: Vec<ClusterCa>,
    /// One that was made here, has its key here, and signs nothing yet.
    pub next: Option<ClusterCa>,
}

impl ClusterCas {
    /// Whether one is being replaced.
    #[must_use]
    pub fn are_replaced(&self) -> bool {
        self.next.is_some() || self.trusted.len() > 1
    }

    /// Whether the host trusts this one.
    #[must_use]
    pub fn has(&self, fingerprint: &Digest) -> bool {
        self.trusted.iter().any(|ca| ca.fingerprint == *fingerprint)
    }
}
