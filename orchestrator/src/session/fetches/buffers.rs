//! This module owns [`Pool`]: how much memory the sending of chunks may take, for one host and for all.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes read from a blob at a time.
pub(super) const BUFFER_LEN: usize = 512 << 10;
/// Buffers each host has for itself, so that hosts which do not take their bytes hold up no other.
const OWN_PER_HOST: usize = 3;
/// Buffers a host may take from the shared ones on top.
const SHARED_PER_HOST: usize = 13;
/// Buffers all hosts share: 64 MiB.
const SHARED: usize = 128;
/// Unused buffers that are kept for the next read: making one costs a page fault for each of its pages.
const KEPT: usize = 32;

/// The buffers of all hosts. Clones are the same pool.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    shared: Arc<Semaphore>,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// One host's share of a [`Pool`].
#[derive(Debug, Clone)]
pub(super) struct HostBuffers {
    own: Arc<Semaphore>,
    extra: Arc<Semaphore>,
    pool: Pool,
}

/// A buffer of [`BUFFER_LEN`] bytes, of which the first `filled` are sent. Goes back when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
    pool: Pool,
    _held: Held,
}

/// The right to one buffer.
#[derive(Debug)]
enum Held {
    Own {
        _own: OwnedSemaphorePermit,
    },
    Shared {
        _extra: OwnedSemaphorePermit,
        _shared: OwnedSemaphorePermit,
    },
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::new(Semaphore::new(SHARED)),
            free: Arc::default(),
        }
    }

    /// The share of one more host.
    pub(super) fn host(&self) -> HostBuffers {
        HostBuffers {
            own: Arc::new(Semaphore::new(OWN_PER_HOST)),
            extra: Arc::new(Semaphore::new(SHARED_PER_HOST)),
            pool: self.clone(),
        }
    }
}

impl HostBuffers {
    /// Waits until the host may have another buffer.
    pub(super) async fn take(&self) -> Buffer {
        let own = async {
            Held::Own {
                _own: acquire(&self.own).await,
            }
        };
        let shared = async {
            let extra = acquire(&self.extra).await;
            Held::Shared {
                _extra: extra,
                _shared: acquire(&self.pool.shared).await,
            }
        };
        let held = tokio::select! {
            biased;
            held = own => held,
            held = shared => held,
        };
        let free = self
            .pool
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        Buffer {
            bytes: free.unwrap_or_else(|| vec![0; BUFFER_LEN]),
            filled: 0,
            pool: self.pool.clone(),
            _held: held,
        }
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore)
        .acquire_owned()
        .await
        .expect("these semaphores are never closed")
}

impl Buffer {
    /// All of its bytes, whatever is in them.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The first `filled` bytes, for sending. The buffer is given back when the last user of them is gone: when the
    /// host has acknowledged them.
    pub(super) fn into_bytes(mut self, filled: usize) -> Bytes {
        self.filled = filled;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_that_takes_nothing_holds_up_no_other() {
        let pool = Pool::new();
        let mut stuck = Vec::new();
        while pool.shared.available_permits() > 0 {
            let host = pool.host();
            for _ in 0..OWN_PER_HOST + SHARED_PER_HOST.min(pool.shared.available_permits()) {
                stuck.push(host.take().await.into_bytes(1));
            }
        }
        let quick = pool.host();
        for _ in 0..100 {
            drop(quick.take().await.into_bytes(1));
        }
        drop(stuck);
        assert_eq!(pool.shared.available_permits(), SHARED);
        assert_eq!(pool.free.lock().unwrap().len(), KEPT);
    }
}
