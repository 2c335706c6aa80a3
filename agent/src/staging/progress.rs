//! This module owns [`Tally`]: the numbers of a stage while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_protocol::TransferProgress;
use gantry_store::Counters;
use tokio::sync::watch;

use super::layer::Arriving;

/// The numbers of a stage while it runs.
#[derive(Debug)]
pub(super) struct Tally {
    wanted: u64,
    received: Arc<AtomicU64>,
    /// Of layers that are whole.
    whole: Counters,
    told: watch::Sender<TransferProgress>,
}

impl Tally {
    /// `wanted` compressed bytes will travel; `present` bytes of content are in layers that were here.
    pub(super) fn new(wanted: u64, present: u64, told: watch::Sender<TransferProgress>) -> Self {
        Self {
            wanted,
            received: Arc::default(),
            whole: Counters {
                reused: present,
                written: 0,
                total: present,
            },
            told,
        }
    }

    /// Where fetches count compressed bytes.
    pub(super) fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// A layer is about to be whole: these are its last numbers.
    pub(super) fn add_whole(&mut self, counters: Counters) {
        add(&mut self.whole, counters);
    }

    /// Tells how far the stage is; gives the same numbers.
    pub(super) fn tell<'a>(&self, arriving: impl Iterator<Item = &'a Arriving>) -> TransferProgress {
        let mut sum = self.whole;
        arriving.for_each(|layer| add(&mut sum, layer.receiver.counters()));
        let now = TransferProgress {
            wanted: self.wanted,
            received: self.received.load(Ordering::Relaxed),
            reused: sum.reused,
            written: sum.written,
            total: sum.total,
        };
        self.told.send_if_modified(|told| {
            let changed = *told != now;
            *told = now;
            changed
        });
        now
    }
}

fn add(sum: &mut Counters, more: Counters) {
    sum.reused += more.reused;
    sum.written += more.written;
    sum.total += more.total;
}
