//! Whether a peer's certificate holds: one check, used by both sides' TLS verifiers.
//!
//! The verifiers leave their verdict in a [`Verdict`] made for that one connection, because TLS libraries pass
//! on only a word of why a handshake failed.

mod problem;
mod verifiers;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy};

pub(crate) use self::problem::{CertificateProblem, refused_by_peer};
pub(crate) use self::verifiers::{AgentVerifier, OperatorVerifier, tls12};
use crate::certificate::CertificateFacts;
use crate::identity::{Identity, PeerIdentity};

/// What the verifier of one connection found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict(Arc<Mutex<Option<Result<PeerIdentity, CertificateProblem>>>>);

impl Verdict {
    fn put(&self, verdict: Result<PeerIdentity, CertificateProblem>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
    }

    /// Who the peer is; none when no certificate was seen or it did not hold.
    pub(crate) fn peer(&self) -> Option<PeerIdentity> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()?
            .as_ref()
            .ok()
            .cloned()
    }

    /// Why the peer's certificate does not hold, if that is so.
    pub(crate) fn problem(&self) -> Option<CertificateProblem> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()?
            .as_ref()
            .err()
            .cloned()
    }
}

/// Checks a certificate of our own as an orchestrator will.
pub(crate) fn check_own(identity: &Identity, now: UnixTime) -> Result<PeerIdentity, CertificateProblem> {
    let algorithms = crate::tls::provider().signature_verification_algorithms;
    check_chain(
        identity,
        identity.certificate(),
        &[],
        now,
        KeyUsage::server_auth(),
        algorithms,
    )
}

/// Checks everything but role and name: signed by our CA, in its lifetime, not revoked, right usage.
fn check_chain(
    identity: &Identity,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    usage: KeyUsage,
    algorithms: WebPkiSupportedAlgorithms,
) -> Result<PeerIdentity, CertificateProblem> {
    let facts = CertificateFacts::read(end_entity).map_err(CertificateProblem::Malformed)?;
    let peer = PeerIdentity {
        name: facts.name,
        role: facts.role,
        serial: facts.serial,
        ca: facts.ca,
        not_after: facts.not_after,
    };
    let who = peer.to_string();
    let unusable = |error: webpki::Error| CertificateProblem::Unusable {
        who: who.clone(),
        reason: error.to_string(),
    };
    let certificate = EndEntityCert::try_from(end_entity).map_err(unusable)?;
    let trust = identity.trust();
    let mut anchors = Vec::new();
    for ca in trust.certificates() {
        anchors.push(webpki::anchor_from_trusted_cert(ca).map_err(unusable)?);
    }
    let lists: Vec<_> = trust
        .lists()
        .map(crate::revocation::RevocationList::list)
        .collect();
    // No list yet: nothing was revoked in this installation.
    let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
        options
            .with_depth(RevocationCheckDepth::EndEntity)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .build()
    });
    let verdict = certificate.verify_for_usage(
        algorithms.all,
        &anchors,
        intermediates,
        now,
        usage,
        revocation,
        None,
    );
    let clock = |at: UnixTime| UNIX_EPOCH + Duration::from_secs(at.as_secs());
    let problem = match verdict {
        // webpki heeds the list of the certificate's own CA; one that was dropped has no key to sign a new one with.
        Ok(_) if trust.revokes(&peer.serial) => CertificateProblem::Revoked { who },
        Ok(_) => return Ok(peer),
        Err(webpki::Error::CertExpired { time, not_after }) => CertificateProblem::Expired {
            who,
            not_after: clock(not_after),
            now: clock(time),
        },
        Err(webpki::Error::CertNotValidYet { time, not_before }) => CertificateProblem::NotYetValid {
            who,
            not_before: clock(not_before),
            now: clock(time),
        },
        Err(webpki::Error::CertRevoked) => CertificateProblem::Revoked { who },
        Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) => {
            CertificateProblem::OtherCa { who }
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(_)) => CertificateProblem::WrongRole {
            who,
            needed: "for this use",
        },
        Err(error) => CertificateProblem::Unusable {
            who,
            reason: error.to_string(),
        },
    };
    Err(problem)
}
