//! This module owns [`CertificateRecord`]: a certificate that lies on a host, and when it ends.

use serde::{Deserialize, Serialize};

/// A certificate that lies on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRecord {
    /// The file it is in: a certificate, or a kubeconfig that holds one.
    pub file: String,
    /// Whom it names: the common name of its subject.
    pub subject: String,
    /// When it ends, seconds since the epoch.
    pub not_after: i64,
    /// Who makes it anew.
    pub keeper: CertificateKeeper,
}

/// Who makes a certificate anew before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateKeeper {
    /// kubeadm, when it is told to.
    Kubeadm,
    /// kubelet, by itself.
    Kubelet,
    /// The orchestrator.
    Gantry,
    /// Nobody: it is an authority, and what it signed ends with it.
    Nobody,
}
