//! This module owns [`CertificateProblem`] and the words for a refused certificate, ours or theirs.

use std::fmt;
use std::time::SystemTime;

use rustls::{AlertDescription, CertificateError, Error};

use crate::certificate::show;
use crate::identity::Identity;

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
                    "the certificate of {who} is signed by another CA: it belongs to another installation, or its CA was replaced"
                )
            }
            Self::Expired { who, not_after, now } => write!(
                f,
                "the certificate of {who} expired at {}, and the clock here says {}; {}, or set the clock if it is wrong",
                show(*not_after),
                show(*now),
                renewal(who)
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
    pub(super) fn to_tls(&self) -> Error {
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

/// How whoever `who` begins with comes to a new certificate.
fn renewal(who: &str) -> &'static str {
    if who.starts_with("agent") {
        "renew it: gantry-agent unenroll on the host, then enrol it anew"
    } else {
        "renew it: gantry operator add where its CA is"
    }
}

/// What a peer's alert says about our own certificate, beginning with a verb: `refused our certificate …`.
pub(crate) fn refused_by_peer(alert: AlertDescription, identity: &Identity, now: SystemTime) -> String {
    let who = format!("the certificate of {} {}", identity.role(), identity.name());
    match alert {
        AlertDescription::CertificateExpired if now > identity.not_after() => format!(
            "refused {who}: it expired at {}, and the clock here says {}; {}",
            show(identity.not_after()),
            show(now),
            renewal(&identity.role().to_string())
        ),
        AlertDescription::CertificateExpired => format!(
            "refused {who} by its clock: clock skew. It holds from {} to {}, and the clock here says {}: set the clocks of both machines",
            show(identity.not_before()),
            show(identity.not_after()),
            show(now)
        ),
        AlertDescription::CertificateRevoked => format!("refused {who}: it is revoked"),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            format!(
                "refused {who}: it is signed by another CA. The peer belongs to another installation, or the CA was replaced; {}",
                renewal(&identity.role().to_string())
            )
        }
        AlertDescription::AccessDenied | AlertDescription::UnsupportedCertificate => {
            format!("refused {who}: it is not for this role")
        }
        AlertDescription::CertificateRequired => format!("refused {who}: none was shown"),
        AlertDescription::BadCertificate => format!("refused {who}: it expected somebody else"),
        other => format!("refused the TLS handshake: {other:?}"),
    }
}
