//! This module owns which chunked layer stands for a layer that arrived in another form (gzip, plain tar).
//!
//! The original blob stays for pushing; the chunked one is what travels to hosts.

use std::path::PathBuf;

use gantry_model::{Digest, LayerDescriptor};

use crate::limits::MAX_TOC_LEN;
use crate::{Descriptor, LayerError, LoadEvent, Store, StoreError, Toc, documents, layer_from_tar};

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

    /// Gives the layer whose blob is `original` a chunked form, unless it has one. Its tar stream must have the
    /// digest `diff_id`.
    pub(crate) fn chunk_layer(
        &self,
        original: &Digest,
        diff_id: &Digest,
        what: &str,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<LayerDescriptor, StoreError> {
        self.make_chunked_form(original, Some(diff_id), what, event)
    }

    /// The same of a layer of which nobody said what its tar stream's digest is. Its blob has been verified.
    pub(crate) fn chunk_layer_of_any_content(
        &self,
        original: &Digest,
        what: &str,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<LayerDescriptor, StoreError> {
        self.make_chunked_form(original, None, what, event)
    }

    fn make_chunked_form(
        &self,
        original: &Digest,
        diff_id: Option<&Digest>,
        what: &str,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<LayerDescriptor, StoreError> {
        let is_it = |chunked: &LayerDescriptor| diff_id.is_none_or(|diff_id| chunked.diff_id == *diff_id);
        if let Some(chunked) = self.chunked_form(original)?
            && is_it(&chunked)
            && self.blobs().verify(&chunked.digest, what).is_ok()
        {
            return Ok(chunked);
        }
        let size = self.blobs().size(original)?.unwrap_or(0);
        event(LoadEvent::ChunkingLayer {
            layer: *original,
            size,
        });
        let blob = self.blobs().open(original, what)?;
        let chunked = layer_from_tar(self, blob).map_err(StoreError::layer(what))?;
        if let Some(diff_id) = diff_id
            && !is_it(&chunked)
        {
            let what = format!("tar stream of {what}");
            return Err(StoreError::WrongDigest {
                what,
                expected: *diff_id,
                found: chunked.diff_id,
            });
        }
        documents::write(&self.chunked_form_path(original), &chunked)?;
        Ok(chunked)
    }

    /// The table of contents in a layer's blob.
    pub(crate) fn blob_toc(&self, layer: &LayerDescriptor) -> Result<Toc, StoreError> {
        use std::os::unix::fs::FileExt as _;
        let what = format!("table of contents of layer {}", layer.digest);
        if layer.toc.compressed_len > MAX_TOC_LEN {
            return Err(StoreError::TooLarge {
                what,
                limit: MAX_TOC_LEN,
            });
        }
        let mut bytes = vec![0; usize::try_from(layer.toc.compressed_len).unwrap_or(usize::MAX)];
        let file = self.blobs().open(&layer.digest, "image layer")?;
        file.read_exact_at(&mut bytes, layer.toc.offset)
            .map_err(StoreError::io("read", self.blobs().path(&layer.digest)))?;
        Toc::parse(&bytes, &layer.toc).map_err(|source| {
            StoreError::layer(what)(LayerError::Toc {
                layer: layer.digest,
                source,
            })
        })
    }

    pub(crate) fn chunked_forms_dir(&self) -> PathBuf {
        self.store_dir().join("chunked")
    }

    pub(crate) fn chunked_form_path(&self, original: &Digest) -> PathBuf {
        self.chunked_forms_dir().join(format!("{}.json", original.hex()))
    }
}
