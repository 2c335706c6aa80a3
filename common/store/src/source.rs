//! This module owns [`ChunkSource`]: what whoever sends a layer reads from its blob.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use gantry_model::{Digest, LayerDescriptor, TocLocation};

use crate::layer_writer::footer;
use crate::limits::MAX_TOC_LEN;
use crate::receive::content;
use crate::toc::names;
use crate::{EntryKind, LayerError, Scratch, Store, Toc, TocEntry, TocError};

/// A layer's blob, opened for sending chunks of it. Share it by reference: reading needs no lock.
#[derive(Debug)]
pub struct ChunkSource {
    layer: Digest,
    blob: File,
    toc: Toc,
    toc_bytes: Vec<u8>,
    location: TocLocation,
}

impl ChunkSource {
    /// Opens the blob of `layer` in the store.
    ///
    /// The blob's content is not read here: a receiver verifies every chunk against the table of contents, and that
    /// against the image.
    ///
    /// # Errors
    /// When it is missing, not in chunked form, or its table of contents is refused.
    pub fn open(store: &Store, layer: &Digest) -> Result<Self, LayerError> {
        let blob = store.blobs().open(layer, "layer")?;
        let path = store.blobs().path(layer);
        let read = || LayerError::io("read", &path);
        let not_chunked = |reason: &str| LayerError::NotChunked {
            layer: *layer,
            reason: reason.to_owned(),
        };
        let len = blob.metadata().map_err(read())?.len();
        let Some(footer_at) = len.checked_sub(footer::FRAME_LEN as u64) else {
            return Err(not_chunked("it is too short"));
        };
        let mut frame = [0; footer::FRAME_LEN];
        blob.read_exact_at(&mut frame, footer_at).map_err(read())?;
        let mut location =
            footer::decode(&frame, len).ok_or_else(|| not_chunked("it has no valid footer"))?;
        if location.compressed_len > MAX_TOC_LEN {
            return Err(not_chunked("its table of contents is too large"));
        }
        let mut toc_bytes = vec![0; location.compressed_len as usize];
        blob.read_exact_at(&mut toc_bytes, location.offset)
            .map_err(read())?;
        location.digest = Digest::of(&toc_bytes);
        let toc = Toc::parse(&toc_bytes, &location).map_err(|source| LayerError::Toc {
            layer: *layer,
            source,
        })?;
        Ok(Self {
            layer: *layer,
            blob,
            toc,
            toc_bytes,
            location,
        })
    }

    /// Opens the blob of a layer of an image, whose table of contents has to be the one that the image names.
    ///
    /// # Errors
    /// Like [`ChunkSource::open`], and when it is another table of contents.
    pub fn open_verified(store: &Store, layer: &LayerDescriptor) -> Result<Self, LayerError> {
        let source = Self::open(store, &layer.digest)?;
        let (expected, found) = (layer.toc.digest, source.location.digest);
        if found != expected {
            return Err(LayerError::Toc {
                layer: layer.digest,
                source: TocError::WrongDigest { expected, found },
            });
        }
        Ok(source)
    }

    /// The layer.
    #[must_use]
    pub const fn layer(&self) -> &Digest {
        &self.layer
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
    pub fn span(&self, chunks: Range<u32>) -> Option<Vec<(u64, u64)>> {
        let chunks = self
            .toc
            .chunks()
            .get(chunks.start as usize..chunks.end as usize)?;
        let mut span: Vec<(u64, u64)> = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.zeros) {
            let len = u64::from(chunk.compressed_len);
            match span.last_mut() {
                Some((offset, before)) if *offset + *before == chunk.blob_offset => *before += len,
                _ => span.push((chunk.blob_offset, len)),
            }
        }
        Some(span)
    }

    /// The verified content of a regular file of this layer; nothing for what is no regular file. All of it is in
    /// memory at once: look at its size first. Whoever reads many files gives the same `scratch` to each: making one
    /// takes longer than reading a small file.
    ///
    /// # Errors
    /// When the blob cannot be read or a chunk is damaged.
    pub fn read_file(&self, entry: &TocEntry, scratch: &mut Scratch) -> Result<Vec<u8>, LayerError> {
        let mut file = Vec::new();
        self.copy_file(entry, scratch, &mut file)?;
        Ok(file)
    }

    /// Writes the verified content of a regular file of this layer to `out`, a chunk at a time; nothing for what is no
    /// regular file.
    ///
    /// # Errors
    /// When the blob cannot be read, a chunk is damaged, or `out` cannot be written.
    pub fn copy_file(
        &self,
        entry: &TocEntry,
        scratch: &mut Scratch,
        out: &mut dyn Write,
    ) -> Result<(), LayerError> {
        let damaged = |reason: String| LayerError::Damaged {
            layer: self.layer,
            path: names::readable(&entry.path),
            reason,
        };
        let EntryKind::File { chunks, .. } = &entry.kind else {
            return Ok(());
        };
        let mut frame = Vec::new();
        let mut write = |bytes: &[u8]| {
            out.write_all(bytes)
                .map_err(LayerError::io("write the content of", &entry.path))
        };
        for chunk in &self.toc.chunks()[chunks.start as usize..chunks.end as usize] {
            if chunk.zeros {
                let zeros = [0; 4096];
                let mut left = chunk.len;
                while left > 0 {
                    let len = left.min(zeros.len() as u64);
                    write(&zeros[..len as usize])?;
                    left -= len;
                }
                continue;
            }
            frame.resize(chunk.compressed_len as usize, 0);
            self.read_at(chunk.blob_offset, &mut frame)
                .map_err(|error| damaged(error.to_string()))?;
            for piece in content(chunk, &frame, scratch).map_err(damaged)? {
                write(piece)?;
            }
        }
        Ok(())
    }

    /// Fills `buffer` with the blob's bytes from `offset` on.
    ///
    /// # Errors
    /// When the blob ends before or cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.blob.read_exact_at(buffer, offset)
    }
}
