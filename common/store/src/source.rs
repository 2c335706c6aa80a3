//! This module owns [`ChunkSource`]: what whoever sends a layer reads from its blob.

use std::io;
use std::ops::Range;

use gantry_model::{Digest, TocLocation};

use crate::{LayerError, Store, Toc};

/// A layer's blob, opened for sending chunks of it.
#[derive(Debug)]
pub struct ChunkSource {
    toc: Toc,
    toc_bytes: Vec<u8>,
    location: TocLocation,
}

impl ChunkSource {
    /// Opens the blob of `layer` in the store.
    ///
    /// # Errors
    /// When it is missing, not in chunked form, or its table of contents is refused.
    pub fn open(_store: &Store, _layer: &Digest) -> Result<Self, LayerError> {
        unimplemented!()
    }

    /// The compressed table of contents, as it travels.
    #[must_use]
    pub fn toc_bytes(&self) -> &[u8] {
        &self.toc_bytes
    }

    /// Where the table of contents lies in the blob.
    #[must_use]
    pub const fn toc_location(&self) -> &TocLocation {
        &self.location
    }

    /// The table of contents.
    #[must_use]
    pub const fn toc(&self) -> &Toc {
        &self.toc
    }

    /// What to send for these chunks, in order: offsets in the blob and lengths. Neighbours in the blob are joined,
    /// holes have no bytes. None when the range goes past the last chunk.
    #[must_use]
    pub fn span(&self, _chunks: Range<u32>) -> Option<Vec<(u64, u64)>> {
        unimplemented!()
    }

    /// Fills `buffer` with the blob's bytes from `offset` on.
    ///
    /// # Errors
    /// When the blob ends before or cannot be read.
    pub fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> io::Result<()> {
        unimplemented!()
    }
}
