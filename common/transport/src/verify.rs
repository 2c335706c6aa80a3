//! Whether a peer's certificate holds: one check, used by both sides' TLS verifiers.
//!
//! The verifiers leave their verdict in a [`Verdict`] made for that one connection, because TLS libraries pass
//! on only a word of why a handshake failed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy};

use crate::certificate::{CertificateFacts, Role, show};
use crate::identity::{Identity, PeerIdentity};

/// Why a certificate does not hold. `Display` is one line that names the certificate and says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CertificateProblem {
    Malformed(String),
    OtherCa {
        who: String,
    },
    Expired {
        who: String,
        not_after: SystemTime,
        now: SystemTime,
    },
    NotYetValid {
        who: String,
        not_before: SystemTime,
        now: SystemTime,
    },
    Revoked {
        who: String,
    },
    WrongRole {
        who: String,
        needed: &'static str,
    },
    WrongName {
        who: String,
        expected: String,
    },
    Unusable {
        who: String,
        reason: String,
    },
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(reason) => write!(f, "the certificate is not one of Gantry's: {reason}"),
            Self::OtherCa { who } => {
                write!(
                    f,
                    "the certificate of {who} is signed by another CA: it belongs to another installation"
                )
            }
            Self::Expired { who, not_after, now } => write!(
                f,
                "the certificate of {who} expired at {}, and the clock here says {}: renew it, or set the clock if it is wrong",
                show(*not_after),
                show(*now)
            ),
            Self::NotYetValid { who, not_before, now } => write!(
                f,
                "clock skew: the certificate of {who} holds from {}, but the clock here says {}, {} s earlier: set the clocks of both machines",
                show(*not_before),
                show(*now),
                not_before.duration_since(*now).map_or(0, |ahead| ahead.as_secs())
            ),
            Self::Revoked { who } => write!(f, "the certificate of {who} is revoked"),
            Self::WrongRole { who, needed } => write!(f, "the certificate of {who} is not {needed}"),
            Self::WrongName { who, expected } => {
                write!(
                    f,
                    "the certificate is of {who}, but agent {expected} was expected there: the address leads to another host"
                )
            }
            Self::Unusable { who, reason } => write!(f, "the certificate of {who} cannot be used: {reason}"),
        }
    }
}

impl CertificateProblem {
    /// The TLS error whose alert tells the peer most.
    fn to_tls(&self) -> Error {
        Error::InvalidCertificate(match self {
            Self::Malformed(_) => CertificateError::BadEncoding,
            Self::OtherCa { .. } => CertificateError::UnknownIssuer,
            Self::Expired { .. } => CertificateError::Expired,
            Self::NotYetValid { .. } => CertificateError::NotValidYet,
            Self::Revoked { .. } => CertificateError::Revoked,
            Self::WrongRole { .. } => CertificateError::ApplicationVerificationFailure,
            Self::WrongName { .. } => CertificateError::NotValidForName,
            Self::Unusable { .. } => CertificateError::InvalidPurpose,
        })
    }
}

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

/// Checks an agent's certificate, for a dialling side.
#[derive(Debug)]
pub(crate) struct AgentVerifier {
    pub(crate) identity: Identity,
    /// The name it must carry, when one is expected.
    pub(crate) expected: Option<String>,
    pub(crate) verdict: Verdict,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

/// Checks the certificate of whoever dials an agent.
#[derive(Debug)]
pub(crate) struct OperatorVerifier {
    pub(crate) identity: Identity,
    pub(crate) verdict: Verdict,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl AgentVerifier {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<PeerIdentity, CertificateProblem> {
        let usage = KeyUsage::server_auth();
        let peer = check_chain(
            &self.identity,
            end_entity,
            intermediates,
            now,
            usage,
            self.algorithms,
        )?;
        if peer.role != Role::Agent {
            return Err(CertificateProblem::WrongRole {
                who: peer.to_string(),
                needed: "an agent's",
            });
        }
        match &self.expected {
            Some(expected) if *expected != peer.name => Err(CertificateProblem::WrongName {
                who: peer.to_string(),
                expected: expected.clone(),
            }),
            _ => Ok(peer),
        }
    }
}

impl OperatorVerifier {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<PeerIdentity, CertificateProblem> {
        let usage = KeyUsage::client_auth();
        let peer = check_chain(
            &self.identity,
            end_entity,
            intermediates,
            now,
            usage,
            self.algorithms,
        )?;
        match peer.role {
            Role::Operator | Role::Reader => Ok(peer),
            Role::Agent => Err(CertificateProblem::WrongRole {
                who: peer.to_string(),
                needed: "an operator's or a reader's",
            }),
        }
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
    };
    let who = peer.to_string();
    let unusable = |error: webpki::Error| CertificateProblem::Unusable {
        who: who.clone(),
        reason: error.to_string(),
    };
    let certificate = EndEntityCert::try_from(end_entity).map_err(unusable)?;
    let anchor = webpki::anchor_from_trusted_cert(identity.ca()).map_err(unusable)?;
    let lists: Vec<_> = identity
        .crl()
        .map(crate::revocation::RevocationList::list)
        .into_iter()
        .collect();
    // No list yet: nothing was revoked in this installation.
    let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
        options
            .with_depth(RevocationCheckDepth::EndEntity)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .build()
    });
    let anchors = [anchor];
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

impl ServerCertVerifier for AgentVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.judge(end_entity, intermediates, now);
        let answer = verdict
            .as_ref()
            .map(|_| ServerCertVerified::assertion())
            .map_err(CertificateProblem::to_tls);
        self.verdict.put(verdict);
        answer
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for OperatorVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = self.judge(end_entity, intermediates, now);
        let answer = verdict
            .as_ref()
            .map(|_| ClientCertVerified::assertion())
            .map_err(CertificateProblem::to_tls);
        self.verdict.put(verdict);
        answer
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a peer's alert says about our own certificate, beginning with a verb: `refused our certificate …`.
pub(crate) fn refused_by_peer(alert: AlertDescription, identity: &Identity, now: SystemTime) -> String {
    let who = format!("the certificate of {} {}", identity.role(), identity.name());
    match alert {
        AlertDescription::CertificateExpired if now > identity.not_after() => format!(
            "refused {who}: it expired at {}, and the clock here says {}: renew it",
            show(identity.not_after()),
            show(now)
        ),
        AlertDescription::CertificateExpired => format!(
            "refused {who} by its clock: clock skew. It holds from {} to {}, and the clock here says {}: set the clocks of both machines",
            show(identity.not_before()),
            show(identity.not_after()),
            show(now)
        ),
        AlertDescription::CertificateRevoked => format!("refused {who}: it is revoked"),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            format!("refused {who}: it is signed by another CA, the peer belongs to another installation")
        }
        AlertDescription::AccessDenied | AlertDescription::UnsupportedCertificate => {
            format!("refused {who}: it is not for this role")
        }
        AlertDescription::CertificateRequired => format!("refused {who}: none was shown"),
        AlertDescription::BadCertificate => format!("refused {who}: it expected somebody else"),
        other => format!("refused the TLS handshake: {other:?}"),
    }
}

pub(crate) fn tls12() -> Error {
    Error::General("TLS 1.2 is not spoken here".into())
}
