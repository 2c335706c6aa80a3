//! This module owns [`LayerError`]: why a layer cannot be made, read, unpacked or removed.

use std::io;
use std::path::{Path, PathBuf};

use gantry_model::{Digest, ExitCode};

use crate::{ReceiveError, StoreError, TocError};

/// Why a layer cannot be made, read, unpacked or removed.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The file system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done, e.g. `open`.
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A tree or tar stream has something layers may not have.
    #[error("{path:?} cannot be in a layer: {reason}")]
    Entry {
        /// The entry, cut to a readable length.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A tar stream cannot be read.
    #[error("the layer's tar stream is damaged: {reason}")]
    Tar {
        /// What is wrong.
        reason: String,
    },
    /// A blob is not a chunked layer.
    #[error("blob {layer} is not a layer in zstd:chunked form: {reason}")]
    NotChunked {
        /// The blob.
        layer: Digest,
        /// What is missing.
        reason: String,
    },
    /// A layer is not in the store.
    #[error("layer {layer} is not on this host; stage the image first")]
    Missing {
        /// The layer.
        layer: Digest,
    },
    /// A table of contents is refused.
    #[error("layer {layer}")]
    Toc {
        /// The layer.
        layer: Digest,
        /// What is wrong with it.
        source: TocError,
    },
    /// A file's bytes in a layer's blob are not what its table of contents says.
    #[error("{path} in layer {layer} is damaged: {reason}; `gantry store check` finds what else is")]
    Damaged {
        /// The layer.
        layer: Digest,
        /// The file, below the layer's root.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Unpacking failed.
    #[error(transparent)]
    Receive(#[from] Box<ReceiveError>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LayerError {
    /// A [`LayerError::Io`] for use with `map_err`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.as_ref().to_owned(),
            source,
        }
    }

    /// The exit code a command ends with when this is its error.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Io { .. } => ExitCode::Failed,
            Self::Entry { .. } | Self::Tar { .. } | Self::Missing { .. } => ExitCode::Input,
            Self::NotChunked { .. } | Self::Toc { .. } | Self::Damaged { .. } => ExitCode::Verification,
            Self::Receive(error) => error.exit_code(),
            Self::Store(error) => error.exit_code(),
        }
    }
}

impl From<ReceiveError> for LayerError {
    fn from(error: ReceiveError) -> Self {
        Self::Receive(Box::new(error))
    }
}
