//! This module owns [`Pipeline`]: the one task that knows what was asked for, what arrived and what is whole.

use std::sync::Arc;
use std::time::Duration;

use gantry_protocol::transfer::{FetchId, LayerIndex};
use gantry_protocol::{Transfer, Window};
use gantry_store::ReceiveError;
use gantry_transport::Connection;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::StagingError;
use super::buffers::Buffers;
use super::fetch::Fetcher;
use super::layer::Arriving;
use super::limits::{CHECKPOINT_BYTES, CHECKPOINT_EVERY, PROGRESS_EVERY};
use super::progress::Tally;
use super::worker::{Workers, Written};

/// One stage between its first chunk and its last finished layer.
pub(super) struct Pipeline {
    transfer: Transfer,
    layers: Vec<Place>,
    tally: Tally,
    fetcher: Fetcher,
    workers: Workers,
    written: UnboundedReceiver<Written>,
    fetches: JoinSet<(FetchId, Result<(), StagingError>)>,
    /// Checkpoints and finishes, at most one at a time for each layer.
    disk: JoinSet<(LayerIndex, Result<(), ReceiveError>)>,
}

/// What is known about one layer.
struct Place {
    /// None once it is being finished.
    arriving: Option<Arc<Arriving>>,
    /// Whether a checkpoint or its finish runs.
    busy: bool,
    /// Compressed bytes in place since the last checkpoint began.
    unsaved: u64,
    /// When that was.
    saved_at: Instant,
}

impl Pipeline {
    /// Ready to fetch what `layers` lack.
    pub(super) fn new(
        peer: &Connection,
        layers: Vec<Arriving>,
        tally: impl FnOnce(&Transfer) -> Tally,
    ) -> Result<Self, StagingError> {
        let transfer = Transfer::new(layers.iter().map(Arriving::wanted).collect(), Window::default());
        let tally = tally(&transfer);
        let (told, written) = unbounded_channel();
        let (workers, batches) = Workers::start(&told)
            .map_err(|error| StagingError::Internal(format!("cannot start a thread: {error}")))?;
        let fetcher = Fetcher {
            peer: peer.clone(),
            buffers: Buffers::new(),
            batches,
            received: tally.received(),
        };
        Ok(Self {
            transfer,
            layers: layers.into_iter().map(Place::new).collect(),
            tally,
            fetcher,
            workers,
            written,
            fetches: JoinSet::new(),
            disk: JoinSet::new(),
        })
    }

    /// Runs until every layer is finished, something fails or `cancel` fires. Whatever happens, what is verified by
    /// then is durable when this returns.
    pub(super) async fn run(mut self, cancel: &CancellationToken) -> (Tally, Result<(), StagingError>) {
        let result = self.pump(cancel).await;
        self.fetches.shutdown().await;
        let Self {
            mut layers,
            tally,
            fetcher,
            workers,
            mut disk,
            ..
        } = self;
        drop(fetcher);
        let joined = spawn_blocking(move || workers.join()).await;
        while let Some(ended) = disk.join_next().await {
            if let Ok((layer, Err(error))) = ended {
                tracing::warn!(layer, %error, "a layer could not be saved after the stage ended");
            }
        }
        tally.tell(layers.iter().filter_map(|place| place.arriving.as_deref()));
        let rest: Vec<Arc<Arriving>> = layers
            .iter_mut()
            .filter_map(|place| place.arriving.take())
            .collect();
        let saved = spawn_blocking(move || save_all(&rest)).await;
        if let Err(error) = joined.and(saved) {
            return (tally, result.and(Err(StagingError::internal(error))));
        }
        (tally, result)
    }

    async fn pump(&mut self, cancel: &CancellationToken) -> Result<(), StagingError> {
        let mut tick = interval(PROGRESS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            while let Some(fetch) = self.transfer.next_fetch() {
                let place = &self.layers[fetch.layer];
                let layer = place
                    .arriving
                    .clone()
                    .expect("a layer with chunks to fetch is not finished");
                let (id, fetcher) = (fetch.id, self.fetcher.clone());
                self.fetches
                    .spawn(async move { (id, fetcher.run(fetch, layer).await) });
            }
            self.finish_whole_layers();
            if self.disk.is_empty() && self.layers.iter().all(|place| place.arriving.is_none()) {
                return Ok(());
            }
            tokio::select! {
                () = cancel.cancelled() => return Err(StagingError::Cancelled),
                Some(written) = self.written.recv() => self.note(written)?,
                Some(ended) = self.fetches.join_next() => {
                    let (id, result) = ended.map_err(StagingError::internal)?;
                    result?;
                    self.transfer.received(id);
                }
                Some(ended) = self.disk.join_next() => {
                    let (layer, result) = ended.map_err(StagingError::internal)?;
                    self.layers[layer].busy = false;
                    result?;
                }
                _ = tick.tick() => {
                    self.tally.tell(self.layers.iter().filter_map(|place| place.arriving.as_deref()));
                    self.save_due(CHECKPOINT_EVERY);
                }
            }
        }
    }

    fn note(&mut self, written: Written) -> Result<(), StagingError> {
        match written {
            Written::Accepted { layer, chunks, bytes } => {
                self.transfer.accepted(layer, chunks);
                self.layers[layer].unsaved += bytes;
                if self.layers[layer].unsaved >= CHECKPOINT_BYTES {
                    self.save_due(Duration::MAX);
                }
                Ok(())
            }
            Written::Failed(error) => Err(error.into()),
        }
    }

    /// Finishes what is whole, each layer beside the others.
    fn finish_whole_layers(&mut self) {
        for (index, place) in self.layers.iter_mut().enumerate() {
            if place.busy || !self.transfer.is_whole(index) {
                continue;
            }
            let Some(arriving) = place.arriving.take() else {
                continue;
            };
            self.tally.add_whole(arriving.receiver.counters());
            place.busy = true;
            self.disk.spawn_blocking(move || {
                let arriving = Arc::into_inner(arriving)
                    .expect("no fetch, batch or checkpoint of a whole layer is left");
                (index, arriving.receiver.finish())
            });
        }
    }

    /// Starts checkpoints of layers that have enough new bytes, or any since `after`. The pipeline goes on meanwhile.
    fn save_due(&mut self, after: Duration) {
        for (index, place) in self.layers.iter_mut().enumerate() {
            let due =
                place.unsaved >= CHECKPOINT_BYTES || place.unsaved > 0 && place.saved_at.elapsed() >= after;
            if !due || place.busy || self.transfer.is_whole(index) {
                continue;
            }
            let Some(arriving) = place.arriving.clone() else {
                continue;
            };
            place.busy = true;
            place.unsaved = 0;
            place.saved_at = Instant::now();
            self.disk
                .spawn_blocking(move || (index, arriving.receiver.checkpoint()));
        }
    }
}

impl Place {
    fn new(arriving: Arriving) -> Self {
        Self {
            arriving: Some(Arc::new(arriving)),
            busy: false,
            unsaved: 0,
            saved_at: Instant::now(),
        }
    }
}

/// Makes what arrived durable when a stage ends early. A failure costs only that it travels again.
fn save_all(layers: &[Arc<Arriving>]) {
    for arriving in layers {
        if let Err(error) = arriving.receiver.checkpoint() {
            tracing::warn!(layer = %arriving.layer, %error, "what arrived of this layer could not be made durable");
        }
    }
}
