//! The Stage step: brings layers to this host and changes nothing that runs here.
//!
//! ```text
//! stage()  ── which layers are missing ─▶ prepare: those that are here verified, tables of contents, reuse, free space
//!                                          │
//!          ┌── fetch ── fetch ── fetch ────┘   a few streams, one FetchRequest each
//!          ▼ pooled buffers of whole chunks
//!        workers (threads): decompress, verify, write at the place in the final file
//!          ▼
//!        checkpoints beside them · each layer finished as soon as it is whole · what was not read in this stage verified
//! ```
//!
//! Reading order: this file, `error`, `limits`, `prepare`, `pipeline`, `fetch`, `worker`, `verify`.

mod buffers;
mod error;
mod fetch;
mod layer;
mod limits;
mod pipeline;
mod prepare;
mod progress;
mod verify;
mod worker;

use gantry_model::LayerDescriptor;
use gantry_protocol::TransferProgress;
use gantry_store::Store;
use gantry_transport::Connection;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

pub use error::StagingError;

use layer::Arriving;
use pipeline::Pipeline;
use progress::Tally;

/// What a stage did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageOutcome {
    /// Layers that were on the host before. When all were, the step is answered with `AlreadyDone`.
    pub present: usize,
    /// Layers that are on the host now and were not before.
    pub staged: usize,
    /// The final numbers, also the last value of the progress channel. All zero when nothing was missing.
    pub progress: TransferProgress,
}

/// Brings every layer of `layers` that `store` lacks to this host, asking `peer` for the bytes.
///
/// Layers that are here are verified, too: see [`StagingError::Damaged`].
///
/// Everything that arrives is verified before it is written, and kept whatever happens after: when this ends early,
/// the next call asks only for the rest. `progress` changes at most ten times a second. Nothing of a layer is
/// visible before all of it is verified and durable. A layer that another stage receives now is waited for.
///
/// End it early with `cancel`. Dropping the future is safe too, but what arrived in the last second may travel again.
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
    let prepared = tokio::select! {
        prepared = prepare::prepare(store, peer, layers) => prepared?,
        () = cancel.cancelled() => return Err(StagingError::Cancelled),
    };
    let (present, staged) = (prepared.present.len(), prepared.missing.len());
    if staged == 0 {
        // One that another stage finished in between was not.
        verify_all(store, layers, &cancel).await?;
        return Ok(StageOutcome {
            present,
            staged,
            progress: TransferProgress::default(),
        });
    }
    let arriving = prepared.missing.into_iter().enumerate();
    let arriving = arriving.map(|(index, (layer, receiver))| Arriving {
        index,
        layer: layer.digest,
        receiver,
    });
    let content = content_len(store.clone(), prepared.present).await?;
    let pipeline = Pipeline::new(peer, arriving.collect(), |transfer| {
        Tally::new(transfer.wanted_bytes(), content, progress)
    })?;
    let (tally, result) = pipeline.run(&cancel).await;
    result?;
    verify_all(store, layers, &cancel).await?;
    Ok(StageOutcome {
        present,
        staged,
        progress: tally.tell(std::iter::empty()),
    })
}

async fn verify_all(
    store: &Store,
    layers: &[LayerDescriptor],
    cancel: &CancellationToken,
) -> Result<(), StagingError> {
    tokio::select! {
        verified = verify::verify(store, layers.to_vec()) => verified,
        () = cancel.cancelled() => Err(StagingError::Cancelled),
    }
}

/// Bytes of file content in layers that are here. One that cannot be read counts as empty: it only shows in progress.
async fn content_len(store: Store, layers: Vec<LayerDescriptor>) -> Result<u64, StagingError> {
    let sum = spawn_blocking(move || {
        let tocs = layers
            .iter()
            .filter_map(|layer| store.layer_toc(&layer.digest).ok());
        tocs.map(|toc| toc.content_len()).sum()
    });
    sum.await.map_err(StagingError::internal)
}
