//! Frames of content that is not worth compressing: zstd's raw blocks (RFC 8878, 3.1.1), which can be read without
//! copying them.

/// Magic number of a zstd frame.
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Frame header descriptor: a single segment, so that the content size is the window, and that size in 4 bytes.
const DESCRIPTOR: u8 = 2 << 6 | 1 << 5;
/// Magic number, descriptor, content size.
const HEADER_LEN: usize = MAGIC.len() + 1 + 4;
/// Bytes before each block.
const BLOCK_HEADER_LEN: usize = 3;
/// Largest block of a frame.
const MAX_BLOCK_LEN: usize = 128 << 10;

/// Appends a frame that stores `content` as it is. At most 4 GiB.
pub(crate) fn write(content: &[u8], frame: &mut Vec<u8>) {
    frame.extend(MAGIC);
    frame.push(DESCRIPTOR);
    frame.extend((content.len() as u32).to_le_bytes());
    let mut blocks = content.chunks(MAX_BLOCK_LEN).peekable();
    if blocks.peek().is_none() {
        frame.extend([1, 0, 0]);
    }
    while let Some(block) = blocks.next() {
        // Bit 0: last block; bits 1 and 2: type, raw is 0; the rest: its length.
        let header = (block.len() as u32) << 3 | u32::from(blocks.peek().is_none());
        frame.extend(&header.to_le_bytes()[..BLOCK_HEADER_LEN]);
        frame.extend(block);
    }
}

/// The blocks of a frame that [`write`] could have made, in their order.
#[derive(Debug, Clone)]
pub(crate) struct RawBlocks<'a> {
    rest: &'a [u8],
}

impl<'a> RawBlocks<'a> {
    /// The blocks of `frame`, when it is nothing but raw blocks which together have `len` bytes. A frame of any other
    /// kind is the decompressor's.
    pub(crate) fn of(frame: &'a [u8], len: u64) -> Option<Self> {
        let (header, rest) = frame.split_at_checked(HEADER_LEN)?;
        let (magic, about) = header.split_at(MAGIC.len());
        if magic != MAGIC
            || about[0] != DESCRIPTOR
            || u64::from(u32::from_le_bytes(about[1..].try_into().ok()?)) != len
        {
            return None;
        }
        let (mut at, mut found) = (rest, 0);
        loop {
            let (block, last, after) = next_block(at)?;
            found += block.len() as u64;
            at = after;
            if last {
                break;
            }
        }
        (at.is_empty() && found == len).then_some(Self { rest })
    }
}

impl<'a> Iterator for RawBlocks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (block, _, rest) = next_block(self.rest)?;
        self.rest = rest;
        Some(block)
    }
}

/// The raw block at the beginning of `bytes`, whether it is the last one, and what follows.
fn next_block(bytes: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<BLOCK_HEADER_LEN>()?;
    let header = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    let (last, kind, len) = (header & 1 == 1, header >> 1 & 3, (header >> 3) as usize);
    if kind != 0 || len > MAX_BLOCK_LEN {
        return None;
    }
    let (block, rest) = rest.split_at_checked(len)?;
    Some((block, last, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame_of(content: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write(content, &mut frame);
        frame
    }

    #[test]
    fn what_was_written_is_read_without_the_decompressor() {
        for len in [0, 1, 300, MAX_BLOCK_LEN, MAX_BLOCK_LEN + 1, 1 << 20] {
            let content: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let frame = frame_of(&content);
            assert_eq!(zstd::stream::decode_all(&frame[..]).unwrap(), content);
            let blocks = RawBlocks::of(&frame, len as u64).unwrap();
            assert_eq!(blocks.collect::<Vec<_>>().concat(), content);
        }
    }

    #[test]
    fn every_other_frame_is_left_to_the_decompressor() {
        let frame = frame_of(&[7; 200_000]);
        for end in 0..frame.len() {
            assert!(RawBlocks::of(&frame[..end], 200_000).is_none(), "cut at {end}");
        }
        assert!(RawBlocks::of(&frame, 199_999).is_none(), "another length");
        assert!(
            RawBlocks::of(&[&frame[..], &[0]].concat(), 200_000).is_none(),
            "one byte more"
        );
        let compressed = zstd::bulk::compress(&[7; 200_000], 3).unwrap();
        assert!(RawBlocks::of(&compressed, 200_000).is_none(), "compressed");
    }

    proptest! {
        /// Where this reader takes a frame, the decompressor takes it too and finds the same bytes.
        #[test]
        fn it_never_disagrees_with_the_decompressor(
            content in prop::collection::vec(any::<u8>(), 0..600),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let mut frame = frame_of(&content);
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            for len in [content.len() as u64, content.len() as u64 ^ 1 << bit] {
                if let Some(blocks) = RawBlocks::of(&frame, len) {
                    let decoded = zstd::stream::decode_all(&frame[..]);
                    prop_assert_eq!(decoded.ok(), Some(blocks.collect::<Vec<_>>().concat()));
                }
            }
        }
    }
}
