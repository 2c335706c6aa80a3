//! This module owns moving one blob: fetched in as many attempts as it takes, sent or, where the registry can take it from
//! another repository, not sent.

mod fetch;
mod send;

pub(crate) use fetch::on_thread;

use std::sync::Arc;
use std::time::Duration;

use gantry_model::Digest;

/// Something happened that people may want to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// So many blobs with so many bytes in all are looked at.
    Planned {
        /// Blobs.
        blobs: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// Bytes of a blob moved.
    Moved {
        /// The blob.
        digest: Digest,
        /// How far it is now, in bytes.
        at: u64,
        /// Its size.
        size: u64,
    },
    /// A blob is where it should be.
    Done {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// How it got there.
        how: How,
    },
    /// A registry is asked again in a while.
    Waiting {
        /// The registry.
        registry: String,
        /// Why.
        reason: String,
        /// How long.
        wait: Duration,
    },
    /// A mirror could not help; the next one is asked.
    Passed {
        /// What it said.
        reason: String,
    },
}

/// How a blob got where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It was there.
    Present,
    /// It was moved over the network.
    Moved,
    /// The registry took it from another of its repositories.
    Mounted,
}

/// Who is told what happens.
pub type Events = Arc<dyn Fn(Event) + Send + Sync>;

/// So many bytes make an attempt worth another: fewer, and a registry could keep us busy for ever.
const WORTHWHILE: u64 = 64 << 10;
