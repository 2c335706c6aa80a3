//! This module owns [`ReceiveError`]: why a layer cannot be received.

use std::io;
use std::path::{Path, PathBuf};

use gantry_model::{Digest, ExitCode};
use rustix::io::Errno;

use crate::{LayerError, StoreError, TocError};

/// Why a layer cannot be received. Whatever happened, nothing of it is visible, and a new begin goes on or starts anew.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The layer is on this host already.
    #[error("layer {layer} is on this host already")]
    AlreadyPresent {
        /// The layer.
        layer: Digest,
    },
    /// Another process receives this layer now.
    #[error("layer {layer} is being received by another process; wait for it to end")]
    Busy {
        /// The layer.
        layer: Digest,
    },
    /// Not enough room.
    #[error(
        "layer {layer} needs {needed} more bytes below {}, {free} are free; make room or move the store",
        path.display()
    )]
    NoSpace {
        /// The layer.
        layer: Digest,
        /// Bytes it needs.
        needed: u64,
        /// Bytes there are.
        free: u64,
        /// Where.
        path: PathBuf,
    },
    /// The table of contents is refused.
    #[error("layer {layer}")]
    Toc {
        /// The layer.
        layer: Digest,
        /// Why.
        source: TocError,
    },
    /// A chunk is not what the table of contents says.
    #[error("layer {layer}, file {file:?}, chunk {chunk}: {reason}; nothing of it was written")]
    Chunk {
        /// The layer.
        layer: Digest,
        /// The file, cut to a readable length.
        file: String,
        /// The chunk's number in the layer.
        chunk: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// Chunks are missing, so the layer cannot be finished.
    #[error("layer {layer} is not complete: {missing} chunks are missing")]
    Incomplete {
        /// The layer.
        layer: Digest,
        /// How many.
        missing: u64,
    },
    /// The file system said no.
    #[error("layer {layer}: cannot {action} {}", path.display())]
    Io {
        /// The layer.
        layer: Digest,
        /// What was being done.
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is recorded about the layer cannot be read or written.
    #[error(transparent)]
    Record(#[from] Box<LayerError>),
}

impl From<LayerError> for ReceiveError {
    fn from(error: LayerError) -> Self {
        Self::Record(Box::new(error))
    }
}

impl ReceiveError {
    /// The exit code a command ends with when this is its error.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::AlreadyPresent { .. } => ExitCode::Done,
            Self::Busy { .. } => ExitCode::Locked,
            Self::NoSpace { .. } => ExitCode::Preflight,
            Self::Toc { .. } | Self::Chunk { .. } => ExitCode::Verification,
            Self::Incomplete { .. } | Self::Io { .. } => ExitCode::Failed,
            Self::Store(error) => error.exit_code(),
            Self::Record(error) => error.exit_code(),
        }
    }

    /// Whether the peer that sent the bytes is at fault, rather than this host.
    #[must_use]
    pub const fn is_peers_fault(&self) -> bool {
        matches!(self, Self::Toc { .. } | Self::Chunk { .. })
    }

    /// A [`ReceiveError::Io`] for use with `map_err`.
    pub(super) fn io<E: Into<io::Error>>(
        layer: Digest,
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Io {
            layer,
            action,
            path: path.as_ref().to_owned(),
            source: source.into(),
        }
    }

    /// Whether the disk or the owner's quota is full.
    pub(super) fn is_full(error: &io::Error) -> bool {
        [Errno::NOSPC, Errno::DQUOT]
            .iter()
            .any(|full| error.raw_os_error() == Some(full.raw_os_error()))
    }
}
