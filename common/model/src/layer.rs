//! This module owns [`LayerDescriptor`]: what an image says about one of its layers.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// One layer of an image in its chunked form, as named by the image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDescriptor {
    /// Digest of the layer's blob (compressed, as it lies in a registry). Names the layer everywhere.
    pub digest: Digest,
    /// Size of that blob in bytes.
    pub size: u64,
    /// Digest of the uncompressed tar stream (OCI image-spec, "Layer DiffID").
    pub diff_id: Digest,
    /// Where the table of contents lies in the blob, and its digest.
    pub toc: TocLocation,
}

impl LayerDescriptor {
    /// The digest of all that hosts verify `layers` by, in their order: of a text with a line for each, its blob's digest and size,
    /// where its table of contents lies as `zstd:chunked` writes it, and that table's digest, with a space between them.
    ///
    /// What the layers unpack to is the config's to say.
    #[must_use]
    pub fn digest_as_they_travel(layers: &[Self]) -> Digest {
        use std::fmt::Write as _;
        let mut text = String::new();
        for Self {
            digest, size, toc, ..
        } in layers
        {
            let TocLocation {
                offset,
                compressed_len,
                len,
                digest: table,
            } = toc;
            writeln!(text, "{digest} {size} {offset}:{compressed_len}:{len}:1 {table}")
                .expect("a text takes whatever is written");
        }
        Digest::of(text.as_bytes())
    }
}

/// Where a layer's table of contents lies.
///
/// The annotations `io.github.containers.zstd-chunked.manifest-position` and `…manifest-checksum` of the
/// `zstd:chunked` layout say the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TocLocation {
    /// Byte offset of the compressed table in the blob.
    pub offset: u64,
    /// Compressed length in bytes.
    pub compressed_len: u64,
    /// Uncompressed length in bytes.
    pub len: u64,
    /// Digest of the compressed table.
    pub digest: Digest,
}
