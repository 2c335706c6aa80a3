//! This module owns [`Closed`]: why a connection ended, the same for QUIC and TCP.

use std::fmt;

use gantry_protocol::CloseCode;
use quinn::ConnectionError;
use rustls::AlertDescription;

use crate::limits::{IDLE_TIMEOUT, MAX_REASON_LEN};

/// QUIC carries TLS alerts as error codes from here on (RFC 9001, section 4.8).
const CRYPTO_ERROR: u64 = 0x100;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The code the closing side gave; none when the connection was lost.
    pub code: Option<CloseCode>,
    /// What happened, one line, for people.
    pub reason: String,
    /// Whether the other side closed it.
    pub by_peer: bool,
    /// The TLS alert the peer sent, if that ended it.
    pub(crate) alert: Option<AlertDescription>,
    /// Whether this side ended the TLS handshake because the peer asked for a protocol not offered now.
    pub(crate) other_protocol: bool,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Closed {}

impl Closed {
    /// The connection broke.
    pub(crate) fn lost(reason: impl fmt::Display) -> Self {
        Self {
            code: None,
            reason: one_line(&reason.to_string()),
            by_peer: false,
            alert: None,
            other_protocol: false,
        }
    }

    /// This side closed it.
    pub(crate) fn local(code: CloseCode, reason: &str) -> Self {
        Self {
            code: Some(code),
            reason: described(code, reason),
            by_peer: false,
            alert: None,
            other_protocol: false,
        }
    }

    /// The other side closed it. Its words are cut and freed of control characters.
    pub(crate) fn peer(code: u64, reason: &[u8]) -> Self {
        let code = CloseCode::from_number(code);
        let reason = one_line(&String::from_utf8_lossy(
            &reason[..reason.len().min(MAX_REASON_LEN)],
        ));
        let reason = match code {
            Some(code) => described(code, &reason),
            None => format!("unknown close code; {reason}"),
        };
        Self {
            code,
            reason,
            by_peer: true,
            alert: None,
            other_protocol: false,
        }
    }

    /// The peer ended the TLS handshake.
    pub(crate) fn alert(alert: AlertDescription) -> Self {
        Self {
            code: None,
            reason: format!("the peer refused the handshake: {alert:?}"),
            by_peer: true,
            alert: Some(alert),
            other_protocol: false,
        }
    }
}

impl Closed {
    /// This side ended the TLS handshake: the peer asked for a protocol that is not offered.
    pub(crate) fn other_protocol() -> Self {
        Self {
            other_protocol: true,
            ..Self::lost("it asked for a protocol that is not offered now")
        }
    }
}

impl From<ConnectionError> for Closed {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                Self::peer(close.error_code.into_inner(), &close.reason)
            }
            ConnectionError::ConnectionClosed(close) => {
                let code = u64::from(close.error_code);
                match code
                    .checked_sub(CRYPTO_ERROR)
                    .and_then(|alert| u8::try_from(alert).ok())
                {
                    Some(alert) => Self::alert(AlertDescription::from(alert)),
                    None => Self {
                        by_peer: true,
                        ..Self::lost(format_args!("the peer's QUIC failed: {close}"))
                    },
                }
            }
            ConnectionError::TimedOut => {
                Self::lost(format_args!("nothing was heard for {} s", IDLE_TIMEOUT.as_secs()))
            }
            ConnectionError::TransportError(error)
                if u64::from(error.code).checked_sub(CRYPTO_ERROR)
                    == Some(u64::from(u8::from(AlertDescription::NoApplicationProtocol))) =>
            {
                Self::other_protocol()
            }
            ConnectionError::Reset => Self::lost("the peer restarted"),
            ConnectionError::LocallyClosed => Self::local(CloseCode::Done, ""),
            other => Self::lost(other),
        }
    }
}

/// `reason`, or what the code means when none was given.
fn described(code: CloseCode, reason: &str) -> String {
    if reason.is_empty() {
        code.to_string()
    } else {
        reason.to_owned()
    }
}

/// A text without control characters: it goes into logs and terminals.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
