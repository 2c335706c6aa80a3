//! The chunks of one regular file: contiguous in the file, in bounds in the blob.

use std::ops::Range;

use gantry_model::Digest;

use super::document::{CHUNK_TYPE_ZEROS, EntryDocument};
use super::names::readable;
use super::parse::Fault;
use super::{Blake3, Chunk, ChunkDigest, TocEntry};
use crate::limits::{MAX_CHUNK_LEN, MAX_CHUNKS, MAX_COMPRESSED_CHUNK_LEN};

/// The chunks of the regular file that is being read.
pub(super) struct Pieces {
    name: String,
    entry: u32,
    size: u64,
    digest: Digest,
    /// Where the file's last frame ends in the blob.
    end: i64,
    pieces: Vec<Piece>,
}

struct Piece {
    file_offset: i64,
    /// 0: the rest of the file.
    len: i64,
    blob_offset: i64,
    digest: Option<Digest>,
    blake3: Option<Blake3>,
    zeros: bool,
}

impl Pieces {
    /// Begins with the `reg` entry, which is also the first chunk.
    pub(super) fn start(
        document: &EntryDocument<'_>,
        entry: u32,
        size: u64,
        digest: Digest,
    ) -> Result<Self, Fault> {
        let first = Piece::read(document)?;
        let name = document.name.clone().into_owned();
        Ok(Self {
            name,
            entry,
            size,
            digest,
            end: document.end_offset,
            pieces: vec![first],
        })
    }

    /// Takes a `chunk` entry.
    pub(super) fn follow(&mut self, document: &EntryDocument<'_>) -> Result<(), Fault> {
        if document.name != self.name {
            let reason = format!(
                "it is a chunk of another file, between those of {:?}",
                readable(&self.name)
            );
            return Err(Fault::entry(&document.name, reason));
        }
        if self.pieces.len() >= MAX_CHUNKS {
            return Err(Fault::entry(
                &document.name,
                format!("it has more than {MAX_CHUNKS} chunks"),
            ));
        }
        if document.end_offset > self.end {
            return Err(Fault::entry(
                &document.name,
                "one of its chunks ends after the file does",
            ));
        }
        self.pieces.push(Piece::read(document)?);
        Ok(())
    }

    pub(super) const fn entry(&self) -> u32 {
        self.entry
    }

    /// Appends the file's chunks to `chunks` if they add up; `content_end` is where file content ends in the blob.
    pub(super) fn finish(self, content_end: u64, chunks: &mut Vec<Chunk>) -> Result<Range<u32>, Fault> {
        let refuse = |reason: String| Fault::entry(&self.name, reason);
        if chunks.len() + self.pieces.len() > MAX_CHUNKS {
            return Err(Fault::table(format!("has more than {MAX_CHUNKS} chunks")));
        }
        let start = chunks.len() as u32;
        let end =
            u64::try_from(self.end).map_err(|_| refuse("its end in the blob is negative".to_owned()))?;
        if end > content_end {
            return Err(refuse(format!(
                "it ends at byte {end} of the blob, where content ends at {content_end}"
            )));
        }
        let single = self.pieces.len() == 1;
        let mut file_offset = 0_u64;
        for (at, piece) in self.pieces.iter().enumerate() {
            let wrong = |what: &str| refuse(format!("its chunk {at} {what}"));
            if u64::try_from(piece.file_offset) != Ok(file_offset) {
                return Err(wrong(&format!(
                    "starts at {} of the file, not at {file_offset}",
                    piece.file_offset
                )));
            }
            let rest = self.size - file_offset;
            let len = match piece.len {
                0 if single => rest,
                len => u64::try_from(len)
                    .ok()
                    .filter(|len| (1..=rest).contains(len))
                    .ok_or_else(|| wrong(&format!("has {len} bytes where the file has {rest} left")))?,
            };
            if !piece.zeros && len > u64::from(MAX_CHUNK_LEN) {
                return Err(wrong(&format!(
                    "has {len} bytes, at most {MAX_CHUNK_LEN} are allowed"
                )));
            }
            let next = self.pieces.get(at + 1).map_or(self.end, |next| next.blob_offset);
            let (blob_offset, compressed_len) = frame(piece, next).ok_or_else(|| {
                wrong(&format!(
                    "lies at {}..{next} of the blob, which cannot be",
                    piece.blob_offset
                ))
            })?;
            let digest = match piece.digest {
                Some(digest) if single && digest != self.digest => {
                    return Err(wrong("is the whole file and has another digest than the file"));
                }
                Some(digest) => digest,
                None if single => self.digest,
                None if piece.zeros => Digest::from_bytes([0; 32]),
                None => return Err(wrong("has no digest")),
            };
            chunks.push(Chunk {
                entry: self.entry,
                file_offset,
                len,
                digest: piece
                    .blake3
                    .map_or(ChunkDigest::Sha256(digest), ChunkDigest::Blake3),
                blob_offset,
                compressed_len,
                zeros: piece.zeros,
            });
            file_offset += len;
        }
        if file_offset != self.size {
            return Err(refuse(format!(
                "its chunks have {file_offset} bytes in all, the file has {}",
                self.size
            )));
        }
        Ok(start..chunks.len() as u32)
    }
}

impl Piece {
    fn read(document: &EntryDocument<'_>) -> Result<Self, Fault> {
        let zeros = match &*document.chunk_type {
            "" => false,
            CHUNK_TYPE_ZEROS => true,
            other => {
                let reason = format!("its chunk type {:?} is unknown", readable(other));
                return Err(Fault::entry(&document.name, reason));
            }
        };
        let wrong = |error: &dyn std::fmt::Display| {
            Fault::entry(
                &document.name,
                format!("the digest of one of its chunks is wrong: {error}"),
            )
        };
        let digest = match &*document.chunk_digest {
            "" => None,
            text => Some(text.parse().map_err(|error| wrong(&error))?),
        };
        let blake3 = match &*document.blake3 {
            "" => None,
            text => Some(text.parse().map_err(|error| wrong(&error))?),
        };
        Ok(Self {
            file_offset: document.chunk_offset,
            len: document.chunk_size,
            blob_offset: document.offset,
            digest,
            blake3,
            zeros,
        })
    }
}

/// Where the frame of `piece` lies in the blob, if it can lie there.
fn frame(piece: &Piece, next: i64) -> Option<(u64, u32)> {
    let offset = u64::try_from(piece.blob_offset).ok()?;
    let len = u32::try_from(next.checked_sub(piece.blob_offset)?).ok()?;
    let fits = piece.zeros || len <= MAX_COMPRESSED_CHUNK_LEN;
    (len > 0 && fits).then_some((offset, len))
}

/// No byte of the blob belongs to two chunks.
pub(super) fn check_overlaps(chunks: &[Chunk], entries: &[TocEntry]) -> Result<(), Fault> {
    let end = |chunk: &Chunk| chunk.blob_offset + u64::from(chunk.compressed_len);
    if chunks.is_sorted_by(|a, b| end(a) <= b.blob_offset) {
        return Ok(());
    }
    let mut order: Vec<u32> = (0..chunks.len() as u32).collect();
    order.sort_unstable_by_key(|index| chunks[*index as usize].blob_offset);
    for pair in order.windows(2) {
        let (a, b) = (&chunks[pair[0] as usize], &chunks[pair[1] as usize]);
        if end(a) > b.blob_offset {
            let other = readable(&entries[a.entry as usize].path);
            let reason = format!("its bytes in the blob overlap those of {other:?}");
            return Err(Fault::entry(&entries[b.entry as usize].path, reason));
        }
    }
    Ok(())
}
