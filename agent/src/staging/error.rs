//! This module owns [`StagingError`]: why a stage did not end well.

use std::path::PathBuf;

use gantry_model::Digest;
use gantry_protocol::{Refusal, RefusalKind};
use gantry_store::ReceiveError;
use tokio::task::JoinError;

/// Why a stage did not end well. Whatever it was, what arrived verified is kept for the next one, and no layer is
/// visible that is not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StagingError {
    /// The layers together do not fit. Nothing was fetched.
    #[error(
        "not enough room below {}: the image's missing layers need {needed} bytes, {free} are free; make room or move the store",
        path.display()
    )]
    NoSpace {
        /// Bytes the missing layers need.
        needed: u64,
        /// Bytes there are.
        free: u64,
        /// Where.
        path: PathBuf,
    },
    /// A layer cannot be received: the peer lied, or this host failed.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The peer does not give what was asked for.
    #[error("the peer refuses layer {layer}: {refusal}")]
    Refused {
        /// The layer.
        layer: Digest,
        /// What it said.
        refusal: Refusal,
    },
    /// The peer broke the protocol.
    #[error("layer {layer}: {reason}")]
    Protocol {
        /// The layer.
        layer: Digest,
        /// What it did.
        reason: String,
    },
    /// The connection was lost. What arrived is kept; stage again to go on.
    #[error("the transfer was interrupted: {reason}; what arrived is kept, stage again to go on")]
    Interrupted {
        /// How.
        reason: String,
    },
    /// The step was cancelled. What arrived is kept.
    #[error("the transfer was cancelled; what arrived is kept, stage again to go on")]
    Cancelled,
    /// A defect or a failure of this host outside of the store.
    #[error("staging failed on this host: {0}")]
    Internal(String),
}

impl StagingError {
    /// A task that ended without a result.
    pub(super) fn internal(error: JoinError) -> Self {
        Self::Internal(error.to_string())
    }

    /// What a program is told.
    #[must_use]
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::NoSpace { .. } | Self::Receive(ReceiveError::NoSpace { .. }) => RefusalKind::NoSpace,
            Self::Receive(ReceiveError::Busy { .. }) => RefusalKind::Busy,
            Self::Receive(ReceiveError::Toc { .. } | ReceiveError::Chunk { .. }) | Self::Protocol { .. } => {
                RefusalKind::Invalid
            }
            Self::Refused { refusal, .. } => refusal.kind,
            Self::Receive(_) | Self::Interrupted { .. } | Self::Cancelled | Self::Internal(_) => {
                RefusalKind::Internal
            }
        }
    }

    /// Whether the same stage can be expected to go further when it is simply tried again.
    #[must_use]
    pub const fn is_interruption(&self) -> bool {
        matches!(
            self,
            Self::Interrupted { .. } | Self::Cancelled | Self::Receive(ReceiveError::Busy { .. })
        )
    }
}
