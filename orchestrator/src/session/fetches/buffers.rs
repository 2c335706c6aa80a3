//! This module owns [`HostBuffers`]: how much memory the sending of chunks may take, for one host and for all.

use std::sync::Arc;

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

/// The buffers all hosts share.
pub(super) fn shared() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(SHARED))
}

/// The right to fill buffers for one host.
#[derive(Debug, Clone)]
pub(super) struct HostBuffers {
    own: Arc<Semaphore>,
    extra: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

/// The right to one buffer; ends when the host has acknowledged its bytes.
#[derive(Debug)]
pub(super) struct Permit(#[expect(dead_code, reason = "held, not read")] Held);

#[derive(Debug)]
enum Held {
    Own(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit),
    Shared(#[expect(dead_code, reason = "held, not read")] [OwnedSemaphorePermit; 2]),
}

impl HostBuffers {
    /// For one more host.
    pub(super) fn new(shared: Arc<Semaphore>) -> Self {
        Self {
            own: Arc::new(Semaphore::new(OWN_PER_HOST)),
            extra: Arc::new(Semaphore::new(SHARED_PER_HOST)),
            shared,
        }
    }

    /// Waits until the host may have another buffer.
    pub(super) async fn permit(&self) -> Permit {
        let shared = async {
            let extra = acquire(&self.extra).await;
            let shared = acquire(&self.shared).await;
            Held::Shared([extra, shared])
        };
        let own = async { Held::Own(acquire(&self.own).await) };
        Permit(tokio::select! {
            biased;
            held = own => held,
            held = shared => held,
        })
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore)
        .acquire_owned()
        .await
        .expect("these semaphores are never closed")
}

/// `bytes`, holding on to `permit` until the last user of them is gone.
pub(super) fn with_permit(bytes: Vec<u8>, permit: Permit) -> Bytes {
    struct Owner(Vec<u8>, #[expect(dead_code, reason = "held, not read")] Permit);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Owner(bytes, permit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_that_takes_nothing_holds_up_no_other() {
        let shared = shared();
        let mut stuck = Vec::new();
        for _ in 0..SHARED.div_ceil(SHARED_PER_HOST) {
            let host = HostBuffers::new(Arc::clone(&shared));
            for _ in 0..OWN_PER_HOST {
                stuck.push(with_permit(vec![0], host.permit().await));
            }
            while shared.available_permits() > 0 && host.extra.available_permits() > 0 {
                stuck.push(with_permit(vec![0], host.permit().await));
            }
        }
        assert_eq!(shared.available_permits(), 0);
        let quick = HostBuffers::new(Arc::clone(&shared));
        for _ in 0..100 {
            drop(with_permit(vec![0], quick.permit().await));
        }
        drop(stuck);
        assert_eq!(shared.available_permits(), SHARED);
    }
}
