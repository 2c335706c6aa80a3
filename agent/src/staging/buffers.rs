//! This module owns [`Buffers`]: the memory between the network and the disk, taken once and used again.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::{BUFFER_LEN, BUFFERS};

/// A bounded pool of buffers. When all are in use, whoever needs one waits: that is what slows the sender down.
#[derive(Debug)]
pub(super) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
    permits: Arc<Semaphore>,
}

/// A buffer of the pool; empty when it is taken, goes back when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    pool: Arc<Buffers>,
    _permit: OwnedSemaphorePermit,
}

impl Buffers {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::default(),
            permits: Arc::new(Semaphore::new(BUFFERS)),
        })
    }

    /// An empty buffer with room for [`BUFFER_LEN`] bytes, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Buffer {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the pool's semaphore is never closed");
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer {
            bytes: free.unwrap_or_else(|| Vec::with_capacity(BUFFER_LEN)),
            pool: Arc::clone(self),
            _permit: permit,
        }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.pool
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_buffer_comes_back_empty_and_no_more_than_the_bound_are_out() {
        let pool = Buffers::new();
        let mut out = Vec::new();
        for _ in 0..BUFFERS {
            out.push(pool.take().await);
        }
        assert_eq!(pool.permits.available_permits(), 0);
        out[0].extend_from_slice(b"used");
        let address = out[0].as_ptr();
        out.swap_remove(0);
        let again = pool.take().await;
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), address);
    }
}
