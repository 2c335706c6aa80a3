//! This module owns [`layer_from_tar`]: how a layer made by others becomes a chunked one.

use std::io::Read;

use gantry_model::LayerDescriptor;

use crate::{LayerError, Store};

/// Makes a chunked layer of a tar stream: plain, gzip (also of several members) or zstd.
///
/// The tar stream is kept byte for byte, so the layer's `diff_id` stays what the image's config says.
///
/// # Errors
/// When the stream is damaged, or has something layers may not have: a device node, a FIFO, a path that leads outside.
pub fn layer_from_tar(_store: &Store, _tar: impl Read + Send) -> Result<LayerDescriptor, LayerError> {
    unimplemented!()
}
