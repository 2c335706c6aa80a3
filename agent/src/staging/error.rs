//! This module owns [`StagingError`]: why a stage did not end well.

use std::path::PathBuf;

use gantry_model::Digest;
use gantry_protocol::{Refusal, RefusalKind};
use gantry_store::{LayerDamage, LayerError, ReceiveError};
use tokio::task::JoinError;

/// Damaged files that a message names; of more it says how many.
const NAMED_FILES: usize = 3;
/// Longest name of a file in a message, in characters.
const MAX_NAME_LEN: usize = 200;

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
    /// What is on this host's disk is not what was verified. Nothing was fetched for it; the next stage puts it right.
    #[error(
        "{}; it was changed on this host's disk after it was verified, and nothing was done with it; \
         run the same command again: what is damaged is fetched again",
        named(damage)
    )]
    Damaged {
        /// Everything that was found.
        damage: Vec<LayerDamage>,
    },
    /// A layer that is on this host cannot be looked at.
    #[error("a layer on this host cannot be verified")]
    Unreadable(#[source] Box<LayerError>),
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
            Self::Receive(ReceiveError::Toc { .. } | ReceiveError::Chunk { .. })
            | Self::Protocol { .. }
            | Self::Damaged { .. } => RefusalKind::Invalid,
            Self::Refused { refusal, .. } => refusal.kind,
            Self::Receive(_)
            | Self::Unreadable(_)
            | Self::Interrupted { .. }
            | Self::Cancelled
            | Self::Internal(_) => RefusalKind::Internal,
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

/// The first of what is damaged, and how much more is.
fn named(damage: &[LayerDamage]) -> String {
    let name = |one: &LayerDamage| {
        let path: String = one.path.escape_debug().take(MAX_NAME_LEN).collect();
        format!("layer {}, {path}: {}", one.layer.short(), one.reason)
    };
    let mut text = damage
        .iter()
        .take(NAMED_FILES)
        .map(name)
        .collect::<Vec<_>>()
        .join("; ");
    if let more @ 1.. = damage.len().saturating_sub(NAMED_FILES) {
        text.push_str(&format!("; and {more} more"));
    }
    text
}
