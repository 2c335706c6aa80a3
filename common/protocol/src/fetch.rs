//! What a receiver asks of whoever holds a layer. The asking side opens the stream.

use gantry_model::Digest;
use serde::{Deserialize, Serialize};

use crate::reply::Refusal;

/// Chunks `first .. first + count` of a layer, in the order of its table of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRange {
    /// Index of the first chunk.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// A fetch. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchRequest {
    /// The compressed table of contents of a layer. `FetchReply::Bytes`, then that many raw bytes.
    Toc {
        /// The layer.
        layer: Digest,
    },
    /// Compressed chunks, in the order asked. `FetchReply::Bytes`, then that many raw bytes, chunk after chunk:
    /// both sides know each chunk's compressed length from the table of contents.
    Chunks {
        /// The layer.
        layer: Digest,
        /// At most [`crate::limits::MAX_RANGES_PER_FETCH`], ascending, not overlapping.
        ranges: Vec<ChunkRange>,
    },
}

/// The answer to a fetch. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchReply {
    /// This many raw bytes follow on the stream.
    Bytes(u64),
    /// Refused.
    Refused(Refusal),
}
