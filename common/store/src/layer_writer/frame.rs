//! Bytes → one zstd frame.

use std::io;

use zstd::bulk::Compressor;

use crate::raw_frame;

/// zstd level of every frame. 3 is where the curve bends: 9 costs three times the time for a tenth fewer bytes, and
/// both decode at nearly the same speed.
pub const COMPRESSION_LEVEL: i32 = 3;

/// Content that shrinks by less than this is stored as it is: decoding is then a copy, which is worth more to the
/// receiver than 3 % on the wire. In percent of the original.
const WORTH_COMPRESSING: usize = 97;
/// Magic number of a frame that decoders skip.
pub(crate) const SKIPPABLE_MAGIC: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();
/// Bytes before the content of a skippable frame: magic number and length.
pub(crate) const SKIPPABLE_HEADER_LEN: u64 = 8;

/// Makes frames. One per thread.
pub(super) struct FrameMaker {
    compressor: Compressor<'static>,
}

impl FrameMaker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            compressor: Compressor::new(COMPRESSION_LEVEL)?,
        })
    }

    /// One frame that holds `content` and its length, without a checksum: chunks have their digests elsewhere.
    pub(super) fn frame(&mut self, content: &[u8]) -> io::Result<Vec<u8>> {
        let mut frame = Vec::with_capacity(zstd::compress_bound(content.len()));
        self.compressor.compress_to_buffer(content, &mut frame)?;
        if frame.len() * 100 > content.len() * WORTH_COMPRESSING {
            frame.clear();
            raw_frame::write(content, &mut frame);
        }
        frame.shrink_to_fit();
        Ok(frame)
    }
}

/// Header of a skippable frame of `len` bytes.
pub(crate) fn skippable_header(len: u32) -> [u8; SKIPPABLE_HEADER_LEN as usize] {
    let mut header = [0; SKIPPABLE_HEADER_LEN as usize];
    header[..4].copy_from_slice(&SKIPPABLE_MAGIC);
    header[4..].copy_from_slice(&len.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        std::iter::repeat_with(&mut next).take(len).collect()
    }

    #[test]
    fn every_frame_decodes_to_its_content_and_says_how_long_it_is() {
        let mut maker = FrameMaker::new().unwrap();
        for content in [
            vec![],
            vec![7],
            vec![0; 1 << 20],
            noise(1),
            noise(300),
            noise(128 << 10),
            noise(1 << 20),
        ] {
            let frame = maker.frame(&content).unwrap();
            assert_eq!(zstd::stream::decode_all(&frame[..]).unwrap(), content);
            let size = zstd::zstd_safe::get_frame_content_size(&frame).unwrap();
            assert_eq!(size, Some(content.len() as u64));
        }
    }

    #[test]
    fn what_does_not_compress_is_stored_as_it_is() {
        let content = noise(1 << 20);
        let frame = FrameMaker::new().unwrap().frame(&content).unwrap();
        assert_eq!(frame.len(), content.len() + 9 + 8 * 3);
        assert_eq!(frame[12..112], content[..100]);
    }
}
