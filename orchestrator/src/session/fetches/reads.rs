//! Which pieces of a blob are read at once: neighbours together, whole buffers at a time.

use super::buffers::BUFFER_LEN;

/// Widest gap between two pieces that is read along rather than skipped: about what one more read costs. The tar
/// headers that stand between the files of a layer are far smaller.
const MAX_GAP: u64 = 16 << 10;

/// One read of a blob, and which of its bytes are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    /// Where in the blob.
    pub(super) offset: u64,
    /// How many bytes, gaps included.
    pub(super) len: usize,
    /// The pieces to send, as offset in the read and length, ascending.
    pub(super) pieces: Vec<(usize, usize)>,
}

/// Cuts spans (offset and length in the blob, in the order they are sent) into reads of at most [`BUFFER_LEN`].
pub(super) struct Reads<I: Iterator<Item = (u64, u64)>> {
    spans: I,
    rest: Option<(u64, u64)>,
}

impl<I: Iterator<Item = (u64, u64)>> Reads<I> {
    pub(super) fn new(spans: I) -> Self {
        Self { spans, rest: None }
    }

    fn next_span(&mut self) -> Option<(u64, u64)> {
        self.rest
            .take()
            .or_else(|| self.spans.by_ref().find(|&(_, len)| len > 0))
    }
}

impl<I: Iterator<Item = (u64, u64)>> Iterator for Reads<I> {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        let (start, len) = self.next_span()?;
        let mut read = Read {
            offset: start,
            len: 0,
            pieces: Vec::new(),
        };
        let mut span = (start, len);
        loop {
            let (offset, len) = span;
            let gap = offset
                .checked_sub(start + read.len as u64)
                .filter(|gap| *gap <= MAX_GAP);
            let room = gap
                .and_then(|gap| BUFFER_LEN.checked_sub(read.len + gap as usize))
                .unwrap_or(0);
            if room == 0 {
                self.rest = Some(span);
                return Some(read);
            }
            let at = (offset - start) as usize;
            let taken = room.min(usize::try_from(len).unwrap_or(usize::MAX));
            match read.pieces.last_mut() {
                Some((last, last_len)) if *last + *last_len == at => *last_len += taken,
                _ => read.pieces.push((at, taken)),
            }
            read.len = at + taken;
            if (taken as u64) < len {
                self.rest = Some((offset + taken as u64, len - taken as u64));
                return Some(read);
            }
            match self.next_span() {
                Some(next) => span = next,
                None => return Some(read),
            }
        }
    }
}

/// Moves the pieces of a read to the front of its buffer; gives how many bytes they are.
pub(super) fn squeeze(buffer: &mut [u8], pieces: &[(usize, usize)]) -> usize {
    let mut end = 0;
    for &(at, len) in pieces {
        if at != end {
            buffer.copy_within(at..at + len, end);
        }
        end += len;
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_files_are_read_together_and_far_ones_apart() {
        let reads: Vec<Read> = Reads::new([(10, 5), (20, 5), (25, 5), (1 << 30, 7)].into_iter()).collect();
        assert_eq!(reads.len(), 2);
        assert_eq!((reads[0].offset, reads[0].len), (10, 20));
        assert_eq!(reads[0].pieces, [(0, 5), (10, 10)]);
        assert_eq!(
            reads[1],
            Read {
                offset: 1 << 30,
                len: 7,
                pieces: vec![(0, 7)]
            }
        );
    }

    #[test]
    fn gaps_are_squeezed_out() {
        let mut buffer = b"..ab...c.".to_vec();
        let len = squeeze(&mut buffer, &[(2, 2), (7, 1)]);
        assert_eq!(&buffer[..len], b"abc");
    }

    /// Joins neighbours, so that two cuts of the same bytes are equal.
    fn joined(spans: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
        let mut joined = Vec::<(u64, u64)>::new();
        for (at, len) in spans.filter(|&(_, len)| len > 0) {
            match joined.last_mut() {
                Some((last, last_len)) if *last + *last_len == at => *last_len += len,
                _ => joined.push((at, len)),
            }
        }
        joined
    }

    proptest! {
        #[test]
        fn exactly_the_spans_are_sent_in_their_order(
            spans in prop::collection::vec((0_u64..3_000_000, 0_u64..1_500_000), 0..12)
        ) {
            let mut sent = Vec::new();
            for read in Reads::new(spans.iter().copied()) {
                prop_assert!(read.len <= BUFFER_LEN && !read.pieces.is_empty());
                prop_assert!(read.pieces.is_sorted());
                prop_assert!(read.pieces.iter().all(|&(at, len)| at + len <= read.len));
                sent.extend(read.pieces.iter().map(|&(at, len)| (read.offset + at as u64, len as u64)));
            }
            prop_assert_eq!(joined(sent.into_iter()), joined(spans.into_iter()));
        }
    }
}
