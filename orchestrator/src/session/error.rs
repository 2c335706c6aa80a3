//! This module owns [`SessionError`]: why an agent did not do what it was asked, and whether trying again may help.

use std::net::IpAddr;

use gantry_model::ExitCode;
use gantry_protocol::{Refusal, RefusalKind};
use gantry_transport::DialError;

/// Why an agent did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    /// No session came to be.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The session ended in the middle.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The agent refuses.
    #[error("{0}")]
    Refused(Refusal),
    /// It began and did not come to its end.
    #[error("{0}")]
    Failed(String),
    /// The agent is older than what it is asked.
    #[error(
        "its agent, version {version}, does not understand {asked}; install the package gantry-agent {} on it",
        env!("CARGO_PKG_VERSION")
    )]
    NotUnderstood {
        /// The agent's program version.
        version: String,
        /// What it was asked, in words.
        asked: String,
    },
    /// The agent answers something else than the protocol says.
    #[error("the agent does not follow the protocol: {0}")]
    Protocol(String),
}

impl SessionError {
    /// Whether the same request may work a little later: the network or the agent may come back.
    #[must_use]
    pub const fn heals(&self) -> bool {
        match self {
            Self::Dial(error) => matches!(error, DialError::Unreachable { .. } | DialError::Refused { .. }),
            Self::Lost(_) => true,
            Self::Refused(refusal) => matches!(refusal.kind, RefusalKind::Draining | RefusalKind::Busy),
            Self::Failed(_) | Self::Protocol(_) | Self::NotUnderstood { .. } => false,
        }
    }

    /// The error for a reader who sees the host's address beside it: hosts that fail alike read alike.
    #[must_use]
    pub fn without_address(&self, host: IpAddr) -> String {
        let text = self.to_string();
        let address = match host {
            IpAddr::V4(host) => format!("{host}:"),
            IpAddr::V6(host) => format!("[{host}]:"),
        };
        let Some((before, rest)) = text.split_once(&address) else {
            return text;
        };
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        match before {
            "" => rest.trim_start_matches([':', ' ']).to_owned(),
            _ => format!("{}{rest}", before.trim_end_matches(" at ")),
        }
    }

    /// The exit code of a command that ends with this.
    #[must_use]
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Dial(DialError::Certificate { .. } | DialError::NotEnrolled { .. }) => {
                ExitCode::Verification
            }
            Self::Refused(refusal) if matches!(refusal.kind, RefusalKind::Untrusted) => {
                ExitCode::Verification
            }
            Self::Dial(_) | Self::Lost(_) => ExitCode::Unreachable,
            Self::Refused(refusal)
                if matches!(refusal.kind, RefusalKind::NotFound | RefusalKind::Invalid) =>
            {
                ExitCode::Input
            }
            Self::Refused(_) | Self::Failed(_) | Self::Protocol(_) | Self::NotUnderstood { .. } => {
                ExitCode::Failed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_left_out_where_it_stands_beside() {
        let host: IpAddr = "10.0.0.2".parse().unwrap();
        let refused = DialError::NotEnrolled {
            addr: (host, 7443).into(),
        };
        let text = SessionError::Dial(refused).without_address(host);
        assert!(text.starts_with("the agent is not enrolled"), "{text}");
        let lost = SessionError::Lost("10.0.0.2:7443: it went away".into());
        assert!(lost.without_address(host).contains("it went away"));
    }
}
