//! This module owns [`Received`]: which chunks of a layer are in place, in memory and on disk.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_model::Digest;

const MAGIC: [u8; 8] = *b"GANTRYR1";
const DIGEST_LEN: usize = 32;
/// Magic, digest of the table of contents, number of chunks, bytes of content.
const HEADER_LEN: usize = MAGIC.len() + DIGEST_LEN + 4 + 8;

/// Which chunks are verified and written. One bit each; set by many threads.
#[derive(Debug)]
pub(crate) struct Received {
    bits: Vec<AtomicU64>,
    len: u32,
}

impl Received {
    /// Nothing of `len` chunks.
    pub(super) fn none(len: u32) -> Self {
        Self {
            bits: (0..len.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            len,
        }
    }

    /// Whether `chunk` is in place.
    pub(super) fn has(&self, chunk: u32) -> bool {
        self.bits[chunk as usize / 64].load(Ordering::Acquire) >> (chunk % 64) & 1 == 1
    }

    /// Says that `chunk` is in place. False when it was said before.
    pub(super) fn set(&self, chunk: u32) -> bool {
        let bit = 1 << (chunk % 64);
        self.bits[chunk as usize / 64].fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// Runs of chunks that are not in place, ascending.
    pub(super) fn missing(&self) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for chunk in (0..self.len).filter(|chunk| !self.has(*chunk)) {
            match runs.last_mut() {
                Some(run) if run.end == chunk => run.end = chunk + 1,
                _ => runs.push(chunk..chunk + 1),
            }
        }
        runs
    }

    /// What goes on disk: bound to one table of contents, with a digest of itself at the end.
    pub(super) fn encode(&self, toc: &Digest, content: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + self.bits.len() * 8 + DIGEST_LEN);
        bytes.extend(MAGIC);
        bytes.extend(toc.as_bytes());
        bytes.extend(self.len.to_le_bytes());
        bytes.extend(content.to_le_bytes());
        for word in &self.bits {
            bytes.extend(word.load(Ordering::Acquire).to_le_bytes());
        }
        let digest = Digest::of(&bytes);
        bytes.extend(digest.as_bytes());
        bytes
    }

    /// What `bytes` say, if they are whole and about this table of contents.
    pub(super) fn decode(bytes: &[u8], toc: &Digest, len: u32) -> Option<Self> {
        let body = sound(bytes)?;
        let same = body[MAGIC.len()..][..DIGEST_LEN] == *toc.as_bytes()
            && body[MAGIC.len() + DIGEST_LEN..][..4] == len.to_le_bytes();
        let (words, rest) = body[HEADER_LEN..].as_chunks::<8>();
        if !same || !rest.is_empty() || words.len() != len.div_ceil(64) as usize {
            return None;
        }
        Some(Self {
            bits: words
                .iter()
                .map(|word| AtomicU64::new(u64::from_le_bytes(*word)))
                .collect(),
            len,
        })
    }
}

/// Bytes of content that were in place when `bytes` were written.
pub(crate) fn content_of(bytes: &[u8]) -> Option<u64> {
    let body = sound(bytes)?;
    body[HEADER_LEN - 8..HEADER_LEN]
        .try_into()
        .ok()
        .map(u64::from_le_bytes)
}

fn sound(bytes: &[u8]) -> Option<&[u8]> {
    sealed(bytes, &MAGIC, HEADER_LEN)
}

/// A record without the digest at its end, if that is right and it begins as it should.
pub(crate) fn sealed<'b>(bytes: &'b [u8], magic: &[u8], header_len: usize) -> Option<&'b [u8]> {
    let body = &bytes[..bytes.len().checked_sub(DIGEST_LEN)?];
    let whole = body.len() >= header_len
        && body.starts_with(magic)
        && bytes[body.len()..] == *Digest::of(body).as_bytes();
    whole.then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_comes_back_and_the_rest_is_missing() {
        let toc = Digest::of(b"toc");
        let received = Received::none(130);
        for chunk in [0, 1, 63, 64, 129] {
            assert!(received.set(chunk));
            assert!(!received.set(chunk));
        }
        let bytes = received.encode(&toc, 77);
        let back = Received::decode(&bytes, &toc, 130).unwrap();
        assert_eq!(back.missing(), [2..63, 65..129]);
        assert_eq!(content_of(&bytes), Some(77));
    }

    #[test]
    fn damage_and_other_tables_are_noticed() {
        let toc = Digest::of(b"toc");
        let mut bytes = Received::none(10).encode(&toc, 0);
        assert!(Received::decode(&bytes, &Digest::of(b"other"), 10).is_none());
        assert!(Received::decode(&bytes, &toc, 11).is_none());
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(Received::decode(&bytes, &toc, 10).is_none(), "byte {at}");
            bytes[at] ^= 1;
            assert!(Received::decode(&bytes[..at], &toc, 10).is_none(), "cut at {at}");
        }
    }
}
