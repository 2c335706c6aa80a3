//! What two images have in common: files that are the same, and what a host with the one need not be sent for the other.

use std::collections::HashSet;
use std::io::{self, Write};

use gantry_model::Digest;
use sha2::{Digest as _, Sha256};

use super::Rootfs;
use crate::receive::content_id;
use crate::{Chunk, ChunkSource, EntryKind, LayerError, TocEntry};

impl Rootfs {
    /// Bytes that a host which holds all layers of `before`, and nothing else, is sent to hold this: tables of contents
    /// and chunks of the layers it lacks, but for files whose content it has (see [`crate::LayerReceiver`]).
    #[must_use]
    pub fn bytes_to_send(&self, before: &Self) -> u64 {
        let mut held_layers: HashSet<&Digest> = before.layers.iter().map(ChunkSource::layer).collect();
        let held: HashSet<Digest> = before.layers.iter().flat_map(files).map(content_id).collect();
        let mut bytes = 0;
        for layer in &self.layers {
            if !held_layers.insert(layer.layer()) {
                continue;
            }
            let travel = files(layer).filter(|file| !held.contains(&content_id(file)));
            let chunks = travel.flatten().filter(|chunk| !chunk.zeros);
            bytes += chunks.map(|chunk| u64::from(chunk.compressed_len)).sum::<u64>();
            bytes += layer.toc_bytes().len() as u64;
        }
        bytes
    }

    /// Whether the regular files at `path` here and in `other` have the same content.
    ///
    /// Equal chunks are enough. The digest of a whole file is only what its maker states: where it alone says that two
    /// files are the same (another program cut them into other chunks), both are read.
    ///
    /// # Errors
    /// When a file that must be read is damaged.
    pub fn has_same_content(&self, other: &Self, path: &str) -> Result<bool, LayerError> {
        let file = |rootfs: &Self| {
            let place = rootfs.places.get(path)?;
            match &rootfs.entry_at(*place).kind {
                EntryKind::File { size, digest, .. } => {
                    let chunks = chunks_of(&rootfs.layers[place.layer], rootfs.entry_at(*place));
                    Some((*size, *digest, content_id(chunks)))
                }
                _ => None,
            }
        };
        let (Some(mine), Some(others)) = (file(self), file(other)) else {
            return Ok(false);
        };
        if mine.2 == others.2 {
            return Ok(true);
        }
        if (mine.0, mine.1) != (others.0, others.1) {
            return Ok(false);
        }
        Ok(self.digest_of(path)? == other.digest_of(path)?)
    }

    fn digest_of(&self, path: &str) -> Result<Digest, LayerError> {
        let mut hashed = Hashed(Sha256::new());
        self.copy_file(path, &mut hashed)?;
        Ok(Digest::from_bytes(hashed.0.finalize().into()))
    }
}

/// The chunks of each regular file that has any.
fn files(layer: &ChunkSource) -> impl Iterator<Item = &[Chunk]> {
    let files = layer.toc().entries().iter();
    files
        .map(|entry| chunks_of(layer, entry))
        .filter(|chunks| !chunks.is_empty())
}

fn chunks_of<'l>(layer: &'l ChunkSource, entry: &TocEntry) -> &'l [Chunk] {
    match &entry.kind {
        EntryKind::File { chunks, .. } => &layer.toc().chunks()[chunks.start as usize..chunks.end as usize],
        _ => &[],
    }
}

/// Where bytes go that are only hashed.
struct Hashed(Sha256);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
