//! This module owns [`Toc`]: the validated table of contents of one layer.
//!
//! The bytes are those of the `zstd:chunked` format (containers/storage, `pkg/chunked`). Nothing outside this
//! folder ever sees an entry that was not checked.

mod builder;
mod chunk_digest;
pub(crate) mod document;
pub(crate) mod names;
mod parse;
mod pieces;
#[cfg(test)]
mod tests;

use std::ops::Range;

use gantry_model::{Digest, TocLocation};

pub(crate) use chunk_digest::BLAKE3_FROM;
pub use chunk_digest::{Blake3, ChunkDigest};

/// The table of contents of one layer, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toc {
    entries: Vec<TocEntry>,
    chunks: Vec<Chunk>,
    /// Indices of entries, sorted by path.
    by_path: Vec<u32>,
    content_len: u64,
}

/// One file, folder, link or whiteout of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TocEntry {
    /// Path below the layer's root: no leading or trailing `/`, no `.` or `..`. Empty for the root itself.
    /// For a whiteout, the path that it hides.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When its content changed last.
    pub mtime: Mtime,
    /// Extended attributes that layers may carry (`security.capability`, `user.*`), sorted by name.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// A point in time as tar keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtime {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds on top, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Directory {
        /// Hides everything lower layers have in it (`.wh..wh..opq`).
        opaque: bool,
    },
    /// A regular file.
    File {
        /// Bytes, holes included.
        size: u64,
        /// Digest of the whole content, as the layer's maker states it. What is verified on arrival are the chunks.
        digest: Digest,
        /// Its chunks, as indices into [`Toc::chunks`]. Empty for an empty file.
        chunks: Range<u32>,
    },
    /// A symbolic link. Its target is data: it may point anywhere.
    Symlink {
        /// The target as written.
        target: String,
    },
    /// Another name of a regular file of the same layer.
    HardLink {
        /// That file, as an index into [`Toc::entries`].
        target: u32,
    },
    /// Hides what lower layers have at this path (`.wh.NAME`).
    Whiteout,
}

/// A piece of one file, compressed and verified on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The file, as an index into [`Toc::entries`].
    pub entry: u32,
    /// Where it starts in the file.
    pub file_offset: u64,
    /// Bytes, uncompressed. At most [`MAX_CHUNK_LEN`](crate::limits::MAX_CHUNK_LEN) unless it is zeros.
    pub len: u64,
    /// Digest of the uncompressed bytes. Means nothing for zeros.
    pub digest: ChunkDigest,
    /// Where its zstd frame starts in the layer's blob.
    pub blob_offset: u64,
    /// Length of that frame.
    pub compressed_len: u32,
    /// Only zero bytes: a hole. It never travels.
    pub zeros: bool,
}

/// Why a table of contents is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TocError {
    /// The bytes are not those the image names.
    #[error(
        "the table of contents of the layer is {found}, the image says {expected}: the copy is damaged or forged; fetch the layer again"
    )]
    WrongDigest {
        /// From the image.
        expected: Digest,
        /// Of the bytes.
        found: Digest,
    },
    /// A length is not what was announced, or above its bound.
    #[error("the table of contents of the layer ({toc}) {reason}")]
    Malformed {
        /// Digest of the table.
        toc: Digest,
        /// What is wrong.
        reason: String,
    },
    /// One entry lies or asks for something layers may not do.
    #[error("table of contents {toc}, entry {entry:?}: {reason}")]
    Entry {
        /// Digest of the table.
        toc: Digest,
        /// Name of the entry as written, cut to a readable length.
        entry: String,
        /// What is wrong.
        reason: String,
    },
}

impl TocEntry {
    /// A folder that is there without having been listed: root's, for everybody to read.
    pub(crate) fn implied_folder(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            kind: EntryKind::Directory { opaque: false },
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
            xattrs: Vec::new(),
        }
    }
}

impl Toc {
    /// The table of contents in `compressed`, if it is the one `location` names and everything in it is sound.
    ///
    /// # Errors
    /// When the digest differs, a bound of [`limits`](crate::limits) is passed, or an entry lies.
    pub fn parse(compressed: &[u8], location: &TocLocation) -> Result<Self, TocError> {
        parse::parse(compressed, location)
    }

    /// The entries. Folders that entries lie in are always among them.
    #[must_use]
    pub fn entries(&self) -> &[TocEntry] {
        &self.entries
    }

    /// All chunks of all files, in the order of the table. Positions in this list name chunks on the wire.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Bytes of file content, holes included.
    #[must_use]
    pub const fn content_len(&self) -> u64 {
        self.content_len
    }

    /// Compressed bytes of all chunks that travel.
    #[must_use]
    pub fn compressed_len(&self) -> u64 {
        self.chunks
            .iter()
            .filter(|chunk| !chunk.zeros)
            .map(|chunk| u64::from(chunk.compressed_len))
            .sum()
    }

    /// The entry at `path` (no leading `/`), if there is one.
    #[must_use]
    pub fn entry(&self, path: &str) -> Option<&TocEntry> {
        self.by_path
            .binary_search_by(|index| self.entries[*index as usize].path.as_str().cmp(path))
            .ok()
            .map(|place| &self.entries[self.by_path[place] as usize])
    }

    /// The entries sorted by path: every folder comes before what lies in it.
    pub fn by_path(&self) -> impl DoubleEndedIterator<Item = &TocEntry> {
        self.by_path.iter().map(|index| &self.entries[*index as usize])
    }
}
