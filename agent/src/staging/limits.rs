//! How much a stage may hold at a time, by name and with its reason.
//!
//! Together: buffers 16 × 1 MiB, two workers' scratch memory, and the connection's receive window.

use std::time::Duration;

use gantry_protocol::limits::MAX_COMPRESSED_CHUNK_LEN;

/// Tables of contents fetched and checked at the same time: each may take 64 MiB while it is read.
pub(super) const TOCS_AT_ONCE: usize = 2;
/// Room for one chunk of the largest kind, or for many small ones that are handed over together.
pub(super) const BUFFER_LEN: usize = MAX_COMPRESSED_CHUNK_LEN as usize;
/// Buffers between the network and the disk.
pub(super) const BUFFERS: usize = 16;
/// Most chunks in one buffer: few enough that both workers have something to do.
pub(super) const CHUNKS_PER_BATCH: usize = 256;
/// Threads that decompress, verify and write.
pub(super) const WORKERS: usize = 2;
/// Compressed bytes after which what arrived is made durable.
pub(super) const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Time after which what arrived is made durable.
pub(super) const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// How often progress is told.
pub(super) const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// How often a layer that another stage receives is looked at again.
pub(super) const BUSY_RETRY: Duration = Duration::from_millis(500);
