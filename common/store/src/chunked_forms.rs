//! This module owns which chunked layer stands for a layer that arrived in another form (gzip, plain tar).
//!
//! The original blob stays for pushing; the chunked one is what travels to hosts.

use std::path::PathBuf;

use gantry_model::{Digest, LayerDescriptor};

use crate::{Descriptor, Store, StoreError, documents};

impl Store {
    /// The layer in chunked form: itself, or what was made of it when it arrived.
    ///
    /// # Errors
    /// When its chunked form is not there.
    pub fn chunked_layer(&self, layer: &Descriptor, diff_id: Digest) -> Result<LayerDescriptor, StoreError> {
        if let Some(chunked) = self.chunked_form(&layer.digest)? {
            return Ok(chunked);
        }
        layer
            .chunked_layer(diff_id)
            .ok_or_else(|| StoreError::MissingBlob {
                digest: layer.digest,
                what: "chunked form of the layer".to_owned(),
            })
    }

    /// What was made of the layer `original` when it arrived, if anything was.
    pub(crate) fn chunked_form(&self, original: &Digest) -> Result<Option<LayerDescriptor>, StoreError> {
        documents::read(&self.chunked_form_path(original))
    }

    /// Records that `chunked` stands for the layer `original`.
    pub(crate) fn set_chunked_form(
        &self,
        original: &Digest,
        chunked: &LayerDescriptor,
    ) -> Result<(), StoreError> {
        documents::write(&self.chunked_form_path(original), chunked)
    }

    pub(crate) fn chunked_forms_dir(&self) -> PathBuf {
        self.store_dir().join("chunked")
    }

    pub(crate) fn chunked_form_path(&self, original: &Digest) -> PathBuf {
        self.chunked_forms_dir().join(format!("{}.json", original.hex()))
    }
}
