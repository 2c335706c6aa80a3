//! The layers of a [`Store`]: which are whole, which are half here, and where they lie.

use std::path::PathBuf;

use gantry_model::{Digest, LayerDescriptor};

use crate::{LayerError, Store, Toc};

/// Something about an unpacked layer that is not as its table of contents says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDamage {
    /// The layer.
    pub layer: Digest,
    /// Path below the layer's folder.
    pub path: String,
    /// What is wrong, in words.
    pub reason: String,
}

impl Store {
    /// Layers that are whole and verified on this host, by digest.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn layers(&self) -> Result<Vec<Digest>, LayerError> {
        unimplemented!()
    }

    /// Whether this layer is whole and verified on this host.
    #[must_use]
    pub fn has_layer(&self, _layer: &Digest) -> bool {
        unimplemented!()
    }

    /// The folder of an unpacked layer, `ROOT/data/overlay2/<hex>`, whether it is there or not.
    #[must_use]
    pub fn layer_dir(&self, layer: &Digest) -> PathBuf {
        self.overlay2_dir().join(layer.hex())
    }

    /// The table of contents of a layer on this host.
    ///
    /// # Errors
    /// When the layer is not here, or the table cannot be read or is damaged.
    pub fn layer_toc(&self, _layer: &Digest) -> Result<Toc, LayerError> {
        unimplemented!()
    }

    /// What the image said about a layer on this host.
    ///
    /// # Errors
    /// When the layer is not here, or its descriptor cannot be read.
    pub fn layer_descriptor(&self, _layer: &Digest) -> Result<LayerDescriptor, LayerError> {
        unimplemented!()
    }

    /// Layers whose transfer was interrupted, with the bytes of content that are verified and durable.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn partial_layers(&self) -> Result<Vec<(Digest, u64)>, LayerError> {
        unimplemented!()
    }

    /// Removes an unpacked layer, whole or half here. The caller knows that no rootfs uses it. Removing what is not
    /// there is no error.
    ///
    /// # Errors
    /// When somebody receives it now, or the file system fails.
    pub fn remove_layer(&self, _layer: &Digest) -> Result<(), LayerError> {
        unimplemented!()
    }

    /// Unpacks a layer from its blob in this store into `data/overlay2`. Does nothing when it is there.
    ///
    /// # Errors
    /// When the blob is missing or damaged, there is no room, or the file system fails.
    pub fn unpack_layer(&self, _layer: &LayerDescriptor) -> Result<(), LayerError> {
        unimplemented!()
    }

    /// Compares everything in an unpacked layer with its table of contents: bytes, modes, links, what is missing and
    /// what should not be there. Gives what is wrong, at most a thousand findings.
    ///
    /// # Errors
    /// When the layer is not here or cannot be read.
    pub fn check_layer(&self, _layer: &Digest) -> Result<Vec<LayerDamage>, LayerError> {
        unimplemented!()
    }
}
