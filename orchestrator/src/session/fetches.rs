//! Serves agents' [`FetchRequest`]s: tables of contents and chunks of layers, as they lie in the store.
//!
//! ```text
//! FetchServer (one per store) ── serve(connection) per host ── answer() per stream
//!      │ open layers                 │ own buffers                 │ pread on a blocking thread
//!      └ shared buffers ◀────────────┴──── Bytes, given back ◀─────┘ write_bytes, no copy between
//!                                          when the host acknowledged them
//! ```

mod buffers;
mod reads;
mod sent;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use gantry_model::Digest;
use gantry_protocol::transfer::check_ranges;
use gantry_protocol::{ChunkRange, CloseCode, FetchReply, FetchRequest, Refusal, RefusalKind};
use gantry_store::{ChunkSource, LayerError, Store};
use gantry_transport::{Closed, Connection, RecvStream, SendStream, StreamError};
use tokio::task::{JoinSet, spawn_blocking};

pub use sent::SentCounters;

use buffers::{Buffer, HostBuffers, Pool};
use reads::{Read, Reads};

/// Fetches of one host answered at the same time; an agent opens half as many.
const FETCHES_PER_HOST: usize = 8;

/// Answers the fetches of all hosts out of one store. Clones are the same server.
#[derive(Debug, Clone)]
pub struct FetchServer {
    store: Store,
    /// Layers that some host is fetching now, opened once for all of them.
    open: Arc<Mutex<HashMap<Digest, Weak<ChunkSource>>>>,
    buffers: Pool,
}

/// One host's part of a [`FetchServer`].
#[derive(Debug, Clone)]
struct Host {
    server: FetchServer,
    buffers: HostBuffers,
    sent: SentCounters,
    /// The layers this host fetched from, so that they stay open between its fetches.
    layers: Arc<Mutex<HashMap<Digest, Arc<ChunkSource>>>>,
}

/// Why a fetch was not answered to its end.
#[derive(Debug)]
enum Failure {
    /// The host is told so.
    Refused(Refusal),
    /// The blob could not be read after the reply was sent: the stream is reset.
    Read(io::Error),
    /// The host gave the stream up, or the connection is gone.
    Stream(StreamError),
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl FetchServer {
    /// A server for the layers of `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            open: Arc::default(),
            buffers: Pool::new(),
        }
    }

    /// The store whose layers it serves.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Answers every stream the agent opens on `connection`, a few at a time, until the connection ends; gives how it
    /// ended. Run it as a task of its own beside the session's requests.
    ///
    /// A bad request is refused on its own stream and the rest goes on. Read buffers of all hosts together are
    /// bounded; a host that does not take its bytes holds up no other.
    pub async fn serve(&self, connection: Connection, sent: SentCounters) -> Closed {
        let host = Host {
            server: self.clone(),
            buffers: self.buffers.host(),
            sent,
            layers: Arc::default(),
        };
        let mut answers = JoinSet::new();
        loop {
            tokio::select! {
                stream = connection.accept_bi(), if answers.len() < FETCHES_PER_HOST => {
                    let Ok((send, recv)) = stream else { break };
                    answers.spawn(host.clone().answer(send, recv));
                }
                Some(_) = answers.join_next(), if !answers.is_empty() => {}
            }
        }
        answers.shutdown().await;
        connection.closed().await
    }

    /// The layer, opened now or by another host before. Blocks.
    fn source(&self, layer: &Digest) -> Result<Arc<ChunkSource>, LayerError> {
        let open = |map: &HashMap<Digest, Weak<ChunkSource>>| map.get(layer).and_then(Weak::upgrade);
        if let Some(source) = open(&self.open.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(source);
        }
        // Not under the lock: a large layer takes a while, and other layers need not wait for it.
        let source = Arc::new(ChunkSource::open(&self.store, layer)?);
        let mut map = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = open(&map) {
            return Ok(other);
        }
        map.retain(|_, source| source.strong_count() > 0);
        map.insert(*layer, Arc::downgrade(&source));
        Ok(source)
    }
}

impl Host {
    /// One stream from request to end.
    async fn answer(self, mut send: SendStream, mut recv: RecvStream) {
        self.sent.count_request();
        let result = match recv.recv::<FetchRequest>().await {
            Ok(FetchRequest::Toc { layer }) => self.send_toc(&mut send, layer).await,
            Ok(FetchRequest::Chunks { layer, ranges }) => self.send_chunks(&mut send, layer, ranges).await,
            Err(error) => Err(Failure::Stream(error)),
        };
        match result {
            Ok(()) => {
                let _ = send.finish().await;
            }
            Err(Failure::Refused(refusal)) => {
                tracing::warn!(%refusal, "refused a fetch");
                if send.send(&FetchReply::Refused(refusal)).await.is_ok() {
                    let _ = send.finish().await;
                }
            }
            Err(Failure::Read(error)) => {
                tracing::error!(%error, "cannot read a layer's blob any further");
                send.reset(CloseCode::Internal);
            }
            Err(Failure::Stream(StreamError::Codec(error))) => {
                tracing::warn!(%error, "an agent sent a fetch that cannot be understood");
                send.reset(CloseCode::Protocol);
            }
            Err(Failure::Stream(error)) => tracing::debug!(%error, "a fetch ended early"),
        }
    }

    async fn send_toc(&self, send: &mut SendStream, layer: Digest) -> Result<(), Failure> {
        let source = self.source(layer).await?;
        let len = source.toc_bytes().len();
        send.send(&FetchReply::Bytes(len as u64)).await?;
        let toc = Bytes::from_owner(TocOf(source));
        send.write_bytes(toc).await?;
        self.sent.count_toc(len as u64);
        Ok(())
    }

    async fn send_chunks(
        &self,
        send: &mut SendStream,
        layer: Digest,
        ranges: Vec<ChunkRange>,
    ) -> Result<(), Failure> {
        let source = self.source(layer).await?;
        // A layer has at most `gantry_store::limits::MAX_CHUNKS` chunks.
        check_ranges(&ranges, source.toc().chunks().len() as u32).map_err(Failure::Refused)?;
        let spans: Vec<(u64, u64)> = ranges
            .iter()
            .filter_map(|range| source.span(range.first..range.first + range.count))
            .flatten()
            .collect();
        send.send(&FetchReply::Bytes(spans.iter().map(|&(_, len)| len).sum()))
            .await?;
        for read in Reads::new(spans.into_iter()) {
            let buffer = self.buffers.take().await;
            let blob = Arc::clone(&source);
            let bytes = spawn_blocking(move || fill(buffer, &blob, &read))
                .await
                .map_err(|error| Failure::Read(io::Error::other(error)))?
                .map_err(Failure::Read)?;
            let len = bytes.len() as u64;
            send.write_bytes(bytes).await?;
            self.sent.count_chunks(len);
        }
        Ok(())
    }

    async fn source(&self, layer: Digest) -> Result<Arc<ChunkSource>, Failure> {
        let known = self
            .layers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&layer)
            .cloned();
        if let Some(source) = known {
            return Ok(source);
        }
        let server = self.server.clone();
        let source = spawn_blocking(move || server.source(&layer))
            .await
            .map_err(|error| Failure::Refused(internal(&error)))?
            .map_err(|error| Failure::Refused(refusal_of(&error)))?;
        self.layers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(layer, Arc::clone(&source));
        Ok(source)
    }
}

/// Reads what `read` names into `buffer` and leaves only what is sent.
fn fill(mut buffer: Buffer, source: &ChunkSource, read: &Read) -> io::Result<Bytes> {
    let room = &mut buffer.room()[..read.len];
    source.read_at(read.offset, room)?;
    let len = reads::squeeze(room, &read.pieces);
    Ok(buffer.into_bytes(len))
}

/// The table of contents of an open layer, sent without copying it.
struct TocOf(Arc<ChunkSource>);

impl AsRef<[u8]> for TocOf {
    fn as_ref(&self) -> &[u8] {
        self.0.toc_bytes()
    }
}

fn internal(error: &dyn std::error::Error) -> Refusal {
    Refusal {
        kind: RefusalKind::Internal,
        message: format!("the orchestrator cannot open the layer: {error}"),
    }
}

/// What the agent is told: a missing layer is the orchestrator's to bring, everything else is its store's trouble.
fn refusal_of(error: &LayerError) -> Refusal {
    use std::error::Error as _;
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(&format!(": {error}"));
        cause = error.source();
    }
    let kind = match error {
        LayerError::Missing { .. } | LayerError::NotChunked { .. } => RefusalKind::NotFound,
        _ => RefusalKind::Internal,
    };
    Refusal {
        kind,
        message: format!("the orchestrator's store: {message}"),
    }
}
