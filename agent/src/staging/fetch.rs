//! The network's half: one stream per fetch, its bytes cut into batches of whole chunks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use bytes::Bytes;
use gantry_model::{Digest, LayerDescriptor};
use gantry_protocol::limits::MAX_TOC_LEN;
use gantry_protocol::transfer::Fetch;
use gantry_protocol::{FetchReply, FetchRequest};
use gantry_transport::{Connection, RecvStream, StreamError};

use super::StagingError;
use super::buffers::Buffers;
use super::layer::Arriving;
use super::worker::{Batch, batches};

/// What the fetches of a stage share.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    pub(super) peer: Connection,
    pub(super) buffers: Arc<Buffers>,
    /// To the workers. Not bounded itself: what goes through it is in one of the buffers.
    pub(super) batches: mpsc::Sender<Batch>,
    /// Compressed bytes of chunks that came.
    pub(super) received: Arc<AtomicU64>,
}

impl Fetcher {
    /// Asks for the chunks of `fetch` and hands them to the workers as they come.
    pub(super) async fn run(self, fetch: Fetch, layer: Arc<Arriving>) -> Result<(), StagingError> {
        let failed = |error| stream_failed(layer.layer, error);
        let mut stream = ask(&self.peer, &fetch.request, fetch.bytes, layer.layer).await?;
        for chunks in batches(&fetch.chunks) {
            let mut buffer = self.buffers.take().await;
            // Chunks are bounded by the table of contents, batches by `batches`: all of it fits.
            let len = chunks.iter().map(|&(_, length)| length as usize).sum();
            let mut room = &mut buffer.bytes_mut()[..len];
            while !room.is_empty() {
                let read = stream.read_into(room).await.map_err(failed)?;
                if read == 0 {
                    return Err(failed(StreamError::Early));
                }
                self.received.fetch_add(read as u64, Ordering::Relaxed);
                room = &mut room[read..];
            }
            let batch = Batch {
                layer: Arc::clone(&layer),
                chunks: chunks.to_vec(),
                buffer,
            };
            if self.batches.send(batch).is_err() {
                return Err(StagingError::Internal("its worker threads ended early".into()));
            }
        }
        ended(stream, layer.layer).await
    }
}

/// The compressed table of contents of a layer. Whether it is the right one is for the store to say.
pub(super) async fn toc(peer: &Connection, layer: &LayerDescriptor) -> Result<Bytes, StagingError> {
    let len = layer.toc.compressed_len;
    if len > MAX_TOC_LEN {
        return Err(StagingError::Protocol {
            layer: layer.digest,
            reason: format!("its table of contents has {len} bytes, at most {MAX_TOC_LEN} are accepted"),
        });
    }
    let request = FetchRequest::Toc { layer: layer.digest };
    let mut stream = ask(peer, &request, len, layer.digest).await?;
    // At most `MAX_TOC_LEN`, which any `usize` holds.
    let bytes = stream.read_exact(len as usize).await;
    let bytes = bytes.map_err(|error| stream_failed(layer.digest, error))?;
    ended(stream, layer.digest).await?;
    Ok(bytes)
}

/// Opens a stream, asks, and reads the reply, which must announce `bytes` bytes.
async fn ask(
    peer: &Connection,
    request: &FetchRequest,
    bytes: u64,
    layer: Digest,
) -> Result<RecvStream, StagingError> {
    let failed = |error| stream_failed(layer, error);
    let (mut send, mut recv) = peer.open_bi().await.map_err(failed)?;
    send.send(request).await.map_err(failed)?;
    send.finish().await.map_err(failed)?;
    match recv.recv::<FetchReply>().await.map_err(failed)? {
        FetchReply::Bytes(announced) if announced == bytes => Ok(recv),
        FetchReply::Bytes(announced) => Err(StagingError::Protocol {
            layer,
            reason: format!(
                "the peer announced {announced} bytes where the layer's descriptor and table of contents say {bytes}; \
                 its copy of the layer is damaged"
            ),
        }),
        FetchReply::Refused(refusal) => Err(StagingError::Refused { layer, refusal }),
    }
}

/// Reads the end of a stream after its last byte: only then is the stream over for the transport too.
async fn ended(mut stream: RecvStream, layer: Digest) -> Result<(), StagingError> {
    match stream
        .read_chunk(1)
        .await
        .map_err(|error| stream_failed(layer, error))?
    {
        None => Ok(()),
        Some(_) => Err(StagingError::Protocol {
            layer,
            reason: "the peer sent more bytes than it announced".into(),
        }),
    }
}

/// A stream that broke off is an interruption; a stream that speaks another language is a broken peer.
fn stream_failed(layer: Digest, error: StreamError) -> StagingError {
    match error {
        StreamError::Codec(error) => StagingError::Protocol {
            layer,
            reason: format!("the peer's answer cannot be understood: {error}"),
        },
        StreamError::Closed(closed) => StagingError::Interrupted {
            reason: format!("the connection ended: {closed}"),
        },
        error @ (StreamError::Ended(_) | StreamError::Early) => StagingError::Interrupted {
            reason: format!("layer {}: {error}", layer.short()),
        },
    }
}
