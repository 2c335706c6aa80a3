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
