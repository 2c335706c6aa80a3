//! The Kubernetes cluster's own CA is replaced, by overlap (kubernetes.io, "Manual Rotation of CA Certificates", fitted to the
//! files of kubeadm).
//!
//! ```text
//! make ─▶ pki/next-ca/ca.{crt,key}            nobody uses it yet
//! trust [old, new] ─▶ pki/ca.crt, kubeconfigs; control plane and kubelet start anew
//! publish [old, new] ─▶ cluster-info; the cluster's own pods start anew
//! sign ─▶ pki/ca.{crt,key}: the new one first; kubeadm makes every certificate of the control plane anew
//! kubelet_certificate ─▶ kubelet's, signed by the cluster
//! trust [new], publish [new] ─▶ the old one is gone
//! ```
//!
//! Until the new one signs, `withdraw` takes it back out.
//!
//! kubeadm reads the first certificate in `ca.crt` as the one whose key is in `ca.key`. The controller manager takes exactly one
//! as its signing certificate, so that has a file of its own while there are two.

mod authority;
mod fetch;
mod key;
mod kubelet_api;
mod kubelet_certificate;
mod make;
mod own_pods;
mod pki;
mod publish;
mod sign;
mod trust;
mod withdraw;

use std::io;
use std::path::{Path, PathBuf};

use gantry_model::{ClusterCas, Digest};
use gantry_system::processes::ProcessError;

pub(crate) use authority::check as check_cluster_cas;
pub(crate) use kubelet_certificate::renew as renew_kubelet_certificate;
pub(crate) use make::make as make_cluster_ca;
pub(crate) use publish::publish as publish_cluster_cas;
pub(crate) use sign::sign as sign_by_cluster_ca;
pub(crate) use trust::trust as trust_cluster_cas;
pub(crate) use withdraw::withdraw as withdraw_cluster_ca;

use kubelet_certificate::Standing;

use super::PassError;
use super::kubelet::KubeletError;
use super::node_api::NodeError;
pub(super) use pki::Pki;

/// Why the cluster's CA is not replaced as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterCaError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A certificate is none, or no CA's.
    #[error("{what}: {reason}")]
    Certificate {
        /// Where it is from.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The CA that signs here would no longer be trusted.
    #[error(
        "the CA that signs on this host is not among those that are to be trusted, and it was not changed; look again with \
         `gantry certs rotate-cluster-ca`. A host that was put back to what it was before (a snapshot of its disk) leaves the \
         cluster by `gantry delete`, and comes back by `gantry join`"
    )]
    StillSigns,
    /// Another one signs already than the one that is to be replaced.
    #[error(
        "the CA of this host is not the one that is to be replaced; look again with `gantry certs rotate-cluster-ca`"
    )]
    Another,
    /// A new CA would not be the newer one: which of two that is, is told by when they begin.
    #[error(
        "by this host's clock the new CA would begin on {made}, and the one that signs on {signing}: the clock is behind, or was ahead \
         when that one was made. The new one was thrown away, and nothing was changed; set the clock right (chronyd, ntpd), or \
         wait until then, and run `gantry certs rotate-cluster-ca` again"
    )]
    NotNewer {
        /// When the new one begins.
        made: String,
        /// When the one that signs began.
        signing: String,
    },
    /// This host's clock says that kubelet's certificate does not hold at this time.
    #[error(
        "{what} is of the right CA, but {when} by this host's clock, and nothing was changed; set the clock right (chronyd, ntpd), \
         and run the same command again. Where it is right, `gantry delete` takes the host out of the cluster, and `gantry join` \
         brings it back"
    )]
    OutOfTime {
        /// Which certificate.
        what: &'static str,
        /// What the clock says of it.
        when: &'static str,
    },
    /// kubelet would be refused.
    #[error(
        "kubelet's certificate on this host is of a CA that is to go: the cluster would refuse it, so nothing was changed; \
         `gantry delete` takes the host out of the cluster, and `gantry join` brings it back"
    )]
    KubeletHasNotMoved,
    /// The key of the CA that is to sign is not here.
    #[error(
        "this host has no key of CA {}, and it was not changed; `gantry certs rotate-cluster-ca --abort` takes that CA out again",
        _0.short()
    )]
    NoKey(Digest),
    /// What is to be taken out signs.
    #[error(
        "CA {} signs on this host already, and it was not changed; `gantry certs rotate-cluster-ca` goes on to its end. Where that \
         says that the CA is being taken out, an agent is too old to tell which CA signs: put the newer package gantry-agent on \
         every control plane, and run it again",
        _0.short()
    )]
    Signs(Digest),
    /// A file is not as kubeadm makes it.
    #[error("{}: {what}; put it right, and run the same command again", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
    /// kubeadm cannot be used, or the control plane does not come back.
    #[error(transparent)]
    Kubeadm(#[from] PassError),
    /// kubelet does not come back.
    #[error(transparent)]
    Kubelet(#[from] KubeletError),
    /// The API server refuses.
    #[error(transparent)]
    Api(#[from] NodeError),
    /// kubectl fails as kubelet.
    #[error(
        "kubelet's access to the cluster cannot {what}: {source}; `journalctl -u kubelet` on this host says more"
    )]
    AsKubelet {
        /// What was asked.
        what: &'static str,
        /// What it said.
        source: ProcessError,
    },
    /// Something takes too long.
    #[error("after {limit_s} s {what}")]
    TooLate {
        /// How long it was waited for, in seconds.
        limit_s: u64,
        /// What is not as it should be.
        what: String,
    },
}

/// The CAs of the cluster that this host is a member of. What cannot be read is not there.
pub(crate) fn cluster_cas() -> ClusterCas {
    Pki::here().cas()
}

/// Whether everything on this host that is a file trusts `authorities`, and nothing else.
pub(crate) fn trusts_cluster_cas(authorities: &[String]) -> bool {
    Pki::here().trusts(authorities)
}

/// Whether a CA that will replace `replaces` was made here.
pub(crate) fn is_cluster_ca_made(replaces: &Digest) -> bool {
    let cas = cluster_cas();
    let signs = cas.trusted.first().is_some_and(|ca| ca.fingerprint == *replaces);
    cas.next.is_some() && signs
}

/// Whether the CA with fingerprint `ca` signs on this host, a control plane.
pub(crate) fn is_signed_by_cluster_ca(ca: &Digest) -> bool {
    let cas = cluster_cas();
    cas.next.is_none() && cas.trusted.first().is_some_and(|first| first.fingerprint == *ca)
}

/// Whether kubelet of this host has a certificate of the CA with fingerprint `ca`, which the host trusts.
pub(crate) fn has_kubelet_moved(ca: &Digest) -> bool {
    let trusted = cluster_cas().trusted;
    let mut issuer = trusted.iter().filter(|one| one.fingerprint == *ca);
    issuer.any(|issuer| kubelet_certificate::standing(std::slice::from_ref(issuer)) == Standing::Good)
}

/// Whether nothing is left here of the CA with fingerprint `ca`, and `authorities` alone are trusted.
pub(crate) fn is_cluster_ca_withdrawn(ca: &Digest, authorities: &[String]) -> bool {
    let pki = Pki::here();
    let has = pki.cas().next.is_some_and(|next| next.fingerprint == *ca);
    pki.trusts(authorities) && !has && !pki.is_signing_parted()
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClusterCaError {
    let path = path.to_owned();
    move |source| ClusterCaError::Io { action, path, source }
}
