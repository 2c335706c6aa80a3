//! This module owns [`Buffers`]: the memory between the network and the disk, taken once and used again.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::{BUFFER_LEN, BUFFERS};

/// A bounded pool of buffers. When all are in use, whoever needs one waits: that is what slows the sender down.
#[derive(Debug)]
pub(super) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
    permits: Arc<Semaphore>,
}

/// A buffer of the pool, [`BUFFER_LEN`] bytes long whatever is in it. Goes back when dropped.
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

    /// A buffer, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Buffer {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the pool's semaphore is never closed");
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer {
            bytes: free.unwrap_or_else(|| vec![0; BUFFER_LEN]),
            pool: Arc::clone(self),
            _permit: permit,
        }
    }
}

impl Buffer {
    /// All of its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All of its bytes, to be filled.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
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
    async fn buffers_are_used_again_and_no_more_than_the_bound_are_out() {
        let pool = Buffers::new();
        let mut out = Vec::new();
        for _ in 0..BUFFERS {
            out.push(pool.take().await);
        }
        assert_eq!(pool.permits.available_permits(), 0);
        let address = out.swap_remove(0).bytes().as_ptr();
        let again = pool.take().await;
        assert_eq!(
            (again.bytes().as_ptr(), again.bytes().len()),
            (address, BUFFER_LEN)
        );
    }
}
