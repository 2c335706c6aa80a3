//! The end of a blob: where its table of contents lies, for readers that have only the blob.

use gantry_model::{Digest, TocLocation};

use super::frame::{SKIPPABLE_HEADER_LEN, SKIPPABLE_MAGIC, skippable_header};

const FOOTER_LEN: usize = 64;
const MAGIC: [u8; 8] = *b"GNUlInUx";
/// The only kind of table there is.
const MANIFEST_TYPE: u64 = 1;

/// Bytes of the skippable frame with the footer.
pub(crate) const FRAME_LEN: usize = SKIPPABLE_HEADER_LEN as usize + FOOTER_LEN;

/// The skippable frame that ends a blob. There is no tar-split table in our layers: it would let podman fetch single
/// chunks while it still proves the tar stream's digest, at the price of a second checksum over every byte and a
/// second table. Without it podman reads the whole blob and compares that digest, which is the stronger check.
pub(super) fn encode(toc: &TocLocation) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    frame[..8].copy_from_slice(&skippable_header(FOOTER_LEN as u32));
    for (at, number) in [toc.offset, toc.compressed_len, toc.len, MANIFEST_TYPE]
        .into_iter()
        .enumerate()
    {
        frame[8 + at * 8..][..8].copy_from_slice(&number.to_le_bytes());
    }
    frame[FRAME_LEN - 8..].copy_from_slice(&MAGIC);
    frame
}

/// Where the table of contents lies, as the last [`FRAME_LEN`] bytes of a blob of `blob_len` bytes say. The digest is
/// for the caller to fill in. None when this is no footer, or one that cannot be true.
pub(crate) fn decode(frame: &[u8; FRAME_LEN], blob_len: u64) -> Option<TocLocation> {
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&frame[8 + at * 8..][..8]);
        u64::from_le_bytes(bytes)
    };
    let ours = frame[..4] == SKIPPABLE_MAGIC && frame[FRAME_LEN - 8..] == MAGIC && number(3) == MANIFEST_TYPE;
    let location = TocLocation {
        offset: number(0),
        compressed_len: number(1),
        len: number(2),
        digest: Digest::from_bytes([0; 32]),
    };
    let end = location
        .offset
        .checked_add(location.compressed_len)?
        .checked_add(FRAME_LEN as u64)?;
    (ours && end <= blob_len && location.offset >= SKIPPABLE_HEADER_LEN).then_some(location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_comes_back_as_it_went_and_must_lie_inside_the_blob() {
        let toc = TocLocation {
            offset: 100,
            compressed_len: 50,
            len: 400,
            digest: Digest::from_bytes([0; 32]),
        };
        let mut frame = encode(&toc);
        assert_eq!(frame[frame.len() - 8..], *b"GNUlInUx");
        assert_eq!(decode(&frame, 150 + FRAME_LEN as u64), Some(toc));
        assert_eq!(decode(&frame, 149 + FRAME_LEN as u64), None);
        frame[71] = 0;
        assert_eq!(decode(&frame, 1000), None);
    }
}
