//! This module owns [`LayerReceiver`]: how a layer arrives on a host, chunk by chunk, in any order.
//!
//! ```text
//! begin ── table of contents verified, folders made, files of other layers taken, room checked
//!   │
//!   ├─ missing ─▶ whoever has the layer ─▶ accept, from many threads:
//!   │             decompress (bounded) ─ verify ─ write at its place in the final file ─ mark
//!   ├─ checkpoint: sync the data, then the marks
//!   │
//! finish ── links, owners, modes, times, whiteouts ─ sync ─ rename to data/overlay2/<hex>
//! ```
//!
//! No byte is written before its digest matched, each is written once, and nothing is visible before the rename. Of a layer that is
//! here and was found damaged, what is wrong is put right where it is (`repair`).

mod begin;
mod complete;
mod content;
mod error;
mod marks;
mod open_files;
pub(crate) mod partial;
pub(crate) mod received;
mod repair;
mod reuse;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_damage;
pub(crate) mod tree;

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gantry_model::{Digest, LayerDescriptor};
use gantry_system::files;

use self::content::Content;
use self::marks::Marks;
use self::open_files::{OpenFile, OpenFiles};
use self::partial::Partial;
use self::received::Received;
use self::tree::Tree;
use crate::toc::{Chunk, EntryKind, names};
use crate::{Store, StoreLock, Toc};

pub use content::Scratch;
pub(crate) use content::content;
pub use error::ReceiveError;
pub(crate) use reuse::content_id;

/// Up to this many files are synced one by one at a checkpoint; more of them with the whole file system at once.
const MAX_SINGLE_SYNCS: usize = 16;

/// Receives one layer. Share it by reference: [`LayerReceiver::accept`] may be called from many threads.
///
/// Dropped at any point, it leaves a state that the next [`LayerReceiver::begin`] continues.
#[derive(Debug)]
pub struct LayerReceiver {
    store: Store,
    layer: LayerDescriptor,
    toc: Toc,
    compressed_toc: Vec<u8>,
    tree: Tree,
    received: Received,
    marks: Marks,
    files: OpenFiles,
    reused: AtomicU64,
    written: AtomicU64,
    /// Held while a checkpoint is made: one after the other.
    checkpoint: Mutex<()>,
    /// Whether owners can be set.
    root: bool,
    /// Files, by entry, of which something was written in an earlier session: nothing of that was read again.
    unread: HashSet<u32>,
    /// What is put right of a layer that is here, by entry. None: the layer is not here.
    repaired: Option<HashSet<u32>>,
    partial: Partial,
    _lock: StoreLock,
}

/// How far a layer has come, in bytes of file content. `reused + written == total` when nothing is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Taken in this session from layers that were on the host already.
    pub reused: u64,
    /// Verified and in place, in this and earlier sessions; holes count as soon as the transfer begins.
    pub written: u64,
    /// Of the whole layer.
    pub total: u64,
}

impl LayerReceiver {
    /// The layer.
    #[must_use]
    pub const fn layer(&self) -> &Digest {
        &self.layer.digest
    }

    /// The layer's table of contents.
    #[must_use]
    pub const fn toc(&self) -> &Toc {
        &self.toc
    }

    /// The chunks to ask for, ascending. Holes and chunks that are here are not among them.
    #[must_use]
    pub fn missing(&self) -> Vec<Range<u32>> {
        self.received.missing()
    }

    /// Takes one compressed chunk: decompresses it within its announced length, verifies it, writes it at its place.
    /// A chunk that is here already is left as it is.
    ///
    /// # Errors
    /// [`ReceiveError::Chunk`] when it is not what the table of contents says (then nothing is written), or a failing
    /// file system.
    pub fn accept(&self, chunk: u32, compressed: &[u8], scratch: &mut Scratch) -> Result<(), ReceiveError> {
        let Some(expected) = self.toc.chunks().get(chunk as usize) else {
            let last = self.toc.chunks().len();
            return Err(self.lie(chunk, "", format!("the layer has only {last} chunks")));
        };
        if self.received.has(chunk) {
            return Ok(());
        }
        let entry = &self.toc.entries()[expected.entry as usize];
        let content =
            content(expected, compressed, scratch).map_err(|reason| self.lie(chunk, &entry.path, reason))?;
        self.write(expected, content)
            .map_err(|error| self.failed_to_write(error, expected.len, &entry.path))?;
        self.files.written(expected.entry);
        self.count(chunk, false);
        Ok(())
    }

    /// Makes what was accepted so far durable, so that it need not travel again even when the host goes down; when
    /// only this program does, nothing accepted travels again anyway. Costs a sync: call it every 64 MiB or every
    /// second, and before a planned stop.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn checkpoint(&self) -> Result<(), ReceiveError> {
        let _one = self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        // Encoded before the sync: what is marked now was written before, what is marked later may not be synced.
        let content = self.written.load(Ordering::Relaxed) + self.reused.load(Ordering::Relaxed);
        let received = self.received.encode(&self.layer.toc.digest, content);
        let written = self.files.take_written();
        let synced = if written.len() <= MAX_SINGLE_SYNCS {
            written
                .iter()
                .try_for_each(|entry| self.file(*entry).and_then(|file| file.sync_data()))
        } else {
            rustix::fs::syncfs(self.tree.root()).map_err(io::Error::from)
        };
        if let Err(error) = synced {
            for entry in written {
                self.files.written(entry);
            }
            return Err(self.failed_to_write(error, 0, ""));
        }
        self.partial.save_received(&received)
    }

    /// How far it is.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            reused: self.reused.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            total: self.toc.content_len(),
        }
    }

    /// Completes the layer: links, owners, modes, times, whiteouts, sync, and the one rename that makes it visible.
    ///
    /// # Errors
    /// [`ReceiveError::Incomplete`], or a failing file system.
    pub fn finish(self) -> Result<(), ReceiveError> {
        let missing: u64 = self
            .missing()
            .iter()
            .map(|run| u64::from(run.end - run.start))
            .sum();
        if missing > 0 {
            return Err(ReceiveError::Incomplete {
                layer: self.layer.digest,
                missing,
            });
        }
        if let Some(wrong) = &self.repaired {
            self.complete_repair(wrong)?;
        } else {
            self.complete_tree()?;
            self.publish()?;
        }
        self.partial.discard()
    }

    fn write(&self, chunk: &Chunk, content: Content<'_>) -> io::Result<()> {
        self.file(chunk.entry)?.write_at(content, chunk.file_offset)
    }

    /// The file of an entry, open for writing.
    fn file(&self, entry: u32) -> io::Result<Arc<OpenFile>> {
        self.files.get(entry, || {
            let found = &self.toc.entries()[entry as usize];
            match found.kind {
                EntryKind::File { size, .. } if self.repaired.is_some() => {
                    self.tree.shared_file_for_writing(&found.path, size)
                }
                EntryKind::File { size, .. } => self.tree.file_for_writing(&found.path, size),
                _ => Err(io::Error::other("only regular files have content")),
            }
        })
    }

    /// Marks `chunk` and counts its bytes, once.
    fn count(&self, chunk: u32, reused: bool) {
        if self.received.set(chunk) {
            self.marks.set(chunk);
            let len = self.toc.chunks()[chunk as usize].len;
            let counter = if reused { &self.reused } else { &self.written };
            counter.fetch_add(len, Ordering::Relaxed);
        }
    }

    fn lie(&self, chunk: u32, file: &str, reason: String) -> ReceiveError {
        ReceiveError::Chunk {
            layer: self.layer.digest,
            file: names::readable(file),
            chunk,
            reason,
        }
    }

    fn failed_to_write(&self, error: io::Error, needed: u64, path: &str) -> ReceiveError {
        let path = self.tree.display(path);
        if ReceiveError::is_full(&error) {
            let free = files::space(self.store.root()).map_or(0, |space| space.free);
            return ReceiveError::NoSpace {
                layer: self.layer.digest,
                needed,
                free,
                path,
            };
        }
        ReceiveError::io(self.layer.digest, "write", path)(error)
    }
}
