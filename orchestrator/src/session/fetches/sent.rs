//! This module owns [`SentCounters`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

    pub(super) fn count_toc(&self, bytes: u64) {
        self.inner.toc_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_chunks(&self, bytes: u64) {
        self.inner.chunk_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_request(&self) {
        self.inner.requests.fetch_add(1, Ordering::Relaxed);
    }
}
