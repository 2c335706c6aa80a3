//! This module owns [`LayerReceiver`]: how a layer arrives on a host, chunk by chunk, in any order.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use gantry_model::{Digest, ExitCode, LayerDescriptor};

use crate::{Store, StoreError, Toc, TocError};

/// Receives one layer. Share it by reference: [`LayerReceiver::accept`] may be called from many threads.
///
/// Dropped at any point, it leaves a state that the next [`LayerReceiver::begin`] continues.
#[derive(Debug)]
pub struct LayerReceiver {
    toc: Toc,
}

/// What one worker thread needs to accept chunks, so that no chunk allocates: about 1.2 MiB.
#[derive(Debug, Default)]
pub struct Scratch {}

/// How far a layer has come, in bytes of file content. `reused + written == total` when nothing is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Taken from layers that were on the host already.
    pub reused: u64,
    /// Verified and in place, in this and earlier sessions; holes count as soon as the transfer begins.
    pub written: u64,
    /// Of the whole layer.
    pub total: u64,
}

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
    #[error("layer {layer} needs {needed} bytes below {}, {free} are free; make room or move the store", path.display())]
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
        }
    }

    /// Whether the peer that sent the bytes is at fault, rather than this host.
    #[must_use]
    pub const fn is_peers_fault(&self) -> bool {
        matches!(self, Self::Toc { .. } | Self::Chunk { .. })
    }
}

impl Scratch {
    /// Memory for one worker thread.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl LayerReceiver {
    /// Begins to receive `layer`, or goes on where it stopped. Takes files that other layers of the store have, then
    /// checks that the rest fits on the disk.
    ///
    /// # Errors
    /// [`ReceiveError::AlreadyPresent`], [`ReceiveError::Busy`], [`ReceiveError::NoSpace`], a refused table of
    /// contents, or a failing file system.
    pub fn begin(
        _store: &Store,
        _layer: &LayerDescriptor,
        _compressed_toc: &[u8],
    ) -> Result<Self, ReceiveError> {
        unimplemented!()
    }

    /// The layer's table of contents.
    #[must_use]
    pub const fn toc(&self) -> &Toc {
        &self.toc
    }

    /// The chunks to ask for, ascending. Holes and chunks that are here are not among them.
    #[must_use]
    pub fn missing(&self) -> Vec<Range<u32>> {
        unimplemented!()
    }

    /// Takes one compressed chunk: decompresses it within its announced length, verifies it, writes it at its place.
    ///
    /// # Errors
    /// [`ReceiveError::Chunk`] when it is not what the table of contents says (then nothing is written), or a failing
    /// file system.
    pub fn accept(
        &self,
        _chunk: u32,
        _compressed: &[u8],
        _scratch: &mut Scratch,
    ) -> Result<(), ReceiveError> {
        unimplemented!()
    }

    /// Makes what was accepted so far durable, so that it need not travel again. Costs a sync: call it every 64 MiB
    /// or every second, and before a planned stop.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn checkpoint(&self) -> Result<(), ReceiveError> {
        unimplemented!()
    }

    /// How far it is.
    #[must_use]
    pub fn counters(&self) -> Counters {
        unimplemented!()
    }

    /// Completes the layer: links, owners, modes, times, whiteouts, sync, and the one rename that makes it visible.
    ///
    /// # Errors
    /// [`ReceiveError::Incomplete`], or a failing file system.
    pub fn finish(self) -> Result<(), ReceiveError> {
        unimplemented!()
    }
}
