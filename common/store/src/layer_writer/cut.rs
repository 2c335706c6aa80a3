//! Where a file's content is cut into chunks. Depends on the content alone, never on how a file system stores holes.

use crate::limits::MAX_CHUNK_LEN;

/// Holes are looked for in blocks of this size, because file systems make them so.
const BLOCK_LEN: usize = 4096;
/// Shortest run of zeros that becomes a hole. Shorter ones compress to nothing anyway, and every cut costs a frame
/// and an entry in the table of contents.
const MIN_HOLE_LEN: usize = 64 << 10;

/// A piece of at most [`MAX_CHUNK_LEN`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) len: usize,
    pub(super) zeros: bool,
}

/// The next piece of a file that goes on with `buffer`: [`MAX_CHUNK_LEN`] bytes, or all that is left.
pub(super) fn next_cut(buffer: &[u8]) -> Cut {
    debug_assert!(buffer.len() <= MAX_CHUNK_LEN as usize);
    let zeros = zero_prefix(buffer);
    if zeros == buffer.len() && zeros >= MIN_HOLE_LEN {
        return Cut {
            len: zeros,
            zeros: true,
        };
    }
    let zeros = zeros / BLOCK_LEN * BLOCK_LEN;
    if zeros >= MIN_HOLE_LEN {
        return Cut {
            len: zeros,
            zeros: true,
        };
    }
    Cut {
        len: data_len(buffer),
        zeros: false,
    }
}

/// Bytes until the next hole, or all of them.
fn data_len(buffer: &[u8]) -> usize {
    let mut run = 0;
    for (at, block) in buffer.chunks(BLOCK_LEN).enumerate() {
        if is_zero(block) {
            run += block.len();
            let start = at * BLOCK_LEN + block.len() - run;
            // A hole at the very front was looked at by the caller.
            if run >= MIN_HOLE_LEN && start > 0 {
                return start;
            }
        } else {
            run = 0;
        }
    }
    buffer.len()
}

fn zero_prefix(buffer: &[u8]) -> usize {
    let mut zeros = 0;
    for block in buffer.chunks(BLOCK_LEN) {
        if !is_zero(block) {
            break;
        }
        zeros += block.len();
    }
    zeros
}

fn is_zero(block: &[u8]) -> bool {
    // Whole words first: this runs over every byte of every layer.
    let (words, rest) = block.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(content: &[u8]) -> Vec<(usize, bool)> {
        let (mut rest, mut cuts) = (content, Vec::new());
        while !rest.is_empty() {
            let cut = next_cut(&rest[..rest.len().min(MAX_CHUNK_LEN as usize)]);
            assert!(cut.len > 0);
            assert!(!cut.zeros || rest[..cut.len].iter().all(|byte| *byte == 0));
            cuts.push((cut.len, cut.zeros));
            rest = &rest[cut.len..];
        }
        cuts
    }

    #[test]
    fn files_are_cut_every_mebibyte_and_at_holes() {
        let mut content = vec![1; 3 << 20];
        assert_eq!(cuts(&content), [(1 << 20, false); 3]);
        content[4096..4096 + (128 << 10)].fill(0);
        assert_eq!(
            cuts(&content)[..3],
            [(4096, false), (128 << 10, true), (1 << 20, false)]
        );
        assert_eq!(cuts(&[1; 10]), [(10, false)]);
    }

    #[test]
    fn short_runs_of_zeros_are_no_holes() {
        assert_eq!(cuts(&[0; 4096]), [(4096, false)]);
        let mut content = vec![1; 1 << 20];
        content[8192..8192 + (60 << 10)].fill(0);
        assert_eq!(cuts(&content), [(1 << 20, false)]);
        assert_eq!(cuts(&[0; 64 << 10]), [(64 << 10, true)]);
        assert_eq!(cuts(&vec![0; (1 << 20) + 7]), [(1 << 20, true), (7, false)]);
    }
}
