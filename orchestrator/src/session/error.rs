//! This module owns [`SessionError`]: why an agent did not do what it was asked, and whether trying again may help.

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
            Self::Protocol(_) => false,
        }
    }

    /// The exit code of a command that ends with this.
    #[must_use]
    pub const fn exit_code(&self) -> ExitCode {
        match self {
            Self::Dial(DialError::Certificate { .. } | DialError::NotEnrolled { .. }) => {
                ExitCode::Verification
            }
            Self::Dial(_) | Self::Lost(_) => ExitCode::Unreachable,
            Self::Refused(refusal)
                if matches!(refusal.kind, RefusalKind::NotFound | RefusalKind::Invalid) =>
            {
                ExitCode::Input
            }
            Self::Refused(_) | Self::Protocol(_) => ExitCode::Failed,
        }
    }
}
