//! This module owns [`content`]: from the frame that travelled to the verified bytes of a chunk.

use std::fmt;

use zstd::bulk::Decompressor;

use crate::limits::MAX_CHUNK_LEN;
use crate::raw_frame::RawBlocks;
use crate::toc::Chunk;

/// What one worker thread needs to accept chunks, so that no chunk allocates: about 1.2 MiB.
pub struct Scratch {
    decompressor: Decompressor<'static>,
    buffer: Vec<u8>,
}

impl Scratch {
    /// Memory for one worker thread.
    #[must_use]
    pub fn new() -> Self {
        Self {
            decompressor: Decompressor::default(),
            buffer: vec![0; MAX_CHUNK_LEN as usize],
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

/// Verified bytes of a chunk, in pieces that follow each other.
#[derive(Debug, Clone)]
pub(crate) enum Content<'a> {
    /// Content that was not worth compressing: where it arrived, not copied.
    Stored(RawBlocks<'a>),
    /// In the scratch memory; none once it was given.
    Decompressed(Option<&'a [u8]>),
}

impl<'a> Iterator for Content<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Self::Stored(blocks) => blocks.next(),
            Self::Decompressed(bytes) => bytes.take(),
        }
    }
}

/// The bytes of `chunk` in `frame`, verified. What is wrong, in words, otherwise.
pub(crate) fn content<'a>(
    chunk: &Chunk,
    frame: &'a [u8],
    scratch: &'a mut Scratch,
) -> Result<Content<'a>, String> {
    if chunk.zeros {
        return Err("it is a hole, which does not travel".to_owned());
    }
    if frame.len() != chunk.compressed_len as usize {
        let expected = chunk.compressed_len;
        return Err(format!("{} bytes came where it has {expected}", frame.len()));
    }
    let content = match RawBlocks::of(frame, chunk.len) {
        Some(blocks) => Content::Stored(blocks),
        None => Content::Decompressed(Some(decompress(chunk, frame, scratch)?)),
    };
    let found = chunk.digest.same_kind_of(content.clone());
    if found != chunk.digest {
        return Err(format!(
            "its digest is {found}, the table of contents says {}",
            chunk.digest
        ));
    }
    Ok(content)
}

fn decompress<'a>(chunk: &Chunk, frame: &[u8], scratch: &'a mut Scratch) -> Result<&'a [u8], String> {
    // The slice is as long as announced, so a decompression bomb ends here.
    let buffer = &mut scratch.buffer[..chunk.len as usize];
    let len = scratch
        .decompressor
        .decompress_to_buffer(frame, buffer)
        .map_err(|error| {
            format!(
                "it does not decompress within the {} bytes announced: {error}",
                chunk.len
            )
        })?;
    if len as u64 != chunk.len {
        return Err(format!(
            "it decompresses to {len} bytes, {} were announced",
            chunk.len
        ));
    }
    Ok(buffer)
}
