//! The Stage step: brings layers to this host and changes nothing that runs here.
//!
//! ```text
//! stage()  ── which layers are missing ─▶ prepare: tables of contents, reuse, free space
//!                                          │
//!          ┌── fetch ── fetch ── fetch ────┘   a few streams, each with one FetchRequest at a time
//!          ▼ pooled buffers of whole chunks
//!        workers (threads): decompress, verify, write at the place in the final file
//!          ▼
//!        checkpoints beside them · each layer finished as soon as it is whole
//! ```
//!
//! Reading order: this file, [`error`](StagingError), `limits`, `prepare`, `fetch`, `worker`, `pipeline`.

mod error;

use gantry_model::LayerDescriptor;
use gantry_protocol::TransferProgress;
use gantry_store::Store;
use gantry_transport::Connection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use error::StagingError;

/// What a stage did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageOutcome {
    /// Layers that were on the host before. When all were, the step is answered with `AlreadyDone`.
    pub present: usize,
    /// Layers that are on the host now and were not before.
    pub staged: usize,
    /// The final numbers, also the last value of the progress channel.
    pub progress: TransferProgress,
}

/// Brings every layer of `layers` that `store` lacks to this host, asking `peer` for the bytes.
///
/// Everything that arrives is verified before it is written, and kept whatever happens after: when this ends early,
/// the next call asks only for the rest. `progress` changes at most ten times a second. Nothing of a layer is
/// visible before all of it is verified and durable.
///
/// # Errors
/// See [`StagingError`]; layers that were whole by then stay.
pub async fn stage(
    store: &Store,
    peer: &Connection,
    layers: &[LayerDescriptor],
    progress: watch::Sender<TransferProgress>,
    cancel: CancellationToken,
) -> Result<StageOutcome, StagingError> {
    let _ = (store, peer, layers, progress, cancel);
    unimplemented!()
}
