//! The layers of a [`Store`]: which are whole, which are half here, and where they lie.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gantry_model::{Digest, LayerDescriptor};
use gantry_system::files;

use crate::receive::partial::Partial;
use crate::receive::received;
use crate::{LayerError, Store, Toc};

impl Store {
    /// Layers that are whole and verified on this host, by digest.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn layers(&self) -> Result<Vec<Digest>, LayerError> {
        let mut layers = digests_in(&self.records_dir())?;
        layers.retain(|layer| self.has_layer(layer));
        Ok(layers)
    }

    /// Whether this layer is whole and verified on this host.
    #[must_use]
    pub fn has_layer(&self, layer: &Digest) -> bool {
        self.layer_dir(layer).is_dir() && self.record_dir(layer).join("toc").is_file()
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
    pub fn layer_toc(&self, layer: &Digest) -> Result<Toc, LayerError> {
        let descriptor = self.layer_descriptor(layer)?;
        let path = self.record_dir(layer).join("toc");
        let bytes = fs::read(&path).map_err(LayerError::io("read", &path))?;
        Toc::parse(&bytes, &descriptor.toc).map_err(|source| LayerError::Toc {
            layer: *layer,
            source,
        })
    }

    /// What the image said about a layer on this host.
    ///
    /// # Errors
    /// When the layer is not here, or its descriptor cannot be read.
    pub fn layer_descriptor(&self, layer: &Digest) -> Result<LayerDescriptor, LayerError> {
        if !self.has_layer(layer) {
            return Err(LayerError::Missing { layer: *layer });
        }
        let path = self.record_dir(layer).join("descriptor.json");
        let bytes = fs::read(&path).map_err(LayerError::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| LayerError::io("read", &path)(error.into()))
    }

    /// Layers whose transfer was interrupted, with the bytes of content that are verified and durable.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn partial_layers(&self) -> Result<Vec<(Digest, u64)>, LayerError> {
        let dir = self.partial_dir();
        let content = |layer: &Digest| {
            let record = fs::read(dir.join(layer.hex()).join("received")).unwrap_or_default();
            received::content_of(&record).unwrap_or(0)
        };
        Ok(digests_in(&dir)?
            .into_iter()
            .map(|layer| (layer, content(&layer)))
            .collect())
    }

    /// Removes an unpacked layer, whole or half here. The caller knows that no rootfs uses it. Removing what is not
    /// there is no error.
    ///
    /// # Errors
    /// When somebody receives it now, an image that has it is mounted, or the file system fails.
    pub fn remove_layer(&self, layer: &Digest) -> Result<(), LayerError> {
        let _lock = self.share()?;
        if self.layers_of_mounts()?.contains(layer) {
            let mounted = io::Error::other("an image that has it is mounted; see `gantry mount`");
            return Err(LayerError::io("remove", self.layer_dir(layer))(mounted));
        }
        self.remove_locked_layer(layer)
    }

    /// Like [`Store::remove_layer`], for a caller that holds a lock on the store.
    pub(crate) fn remove_locked_layer(&self, layer: &Digest) -> Result<(), LayerError> {
        // Locked first: nobody begins to receive it while it goes.
        let partial = Partial::lock(self, *layer)?;
        // The record goes first: without it, what is left of the folder is no layer.
        let record = self.record_dir(layer);
        match fs::remove_file(record.join("toc")).and_then(|()| files::sync_dir(&record)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LayerError::io("remove", record.join("toc"))(error));
            }
            _ => {}
        }
        for path in [self.record_dir(layer), self.layer_dir(layer)] {
            files::remove_tree(&path).map_err(LayerError::io("remove", &path))?;
        }
        Ok(partial.discard()?)
    }

    fn records_dir(&self) -> PathBuf {
        self.store_dir().join("layers")
    }

    /// What is recorded about an unpacked layer: `descriptor.json` and `toc`.
    pub(crate) fn record_dir(&self, layer: &Digest) -> PathBuf {
        self.records_dir().join(layer.hex())
    }
}

/// The digests that name things in `dir`, in order.
fn digests_in(dir: &Path) -> Result<Vec<Digest>, LayerError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(LayerError::io("list", dir)(source)),
    };
    let mut digests = Vec::new();
    for entry in entries {
        let entry = entry.map_err(LayerError::io("list", dir))?;
        digests.extend(
            entry
                .file_name()
                .to_str()
                .and_then(|name| Digest::from_hex(name).ok()),
        );
    }
    digests.sort_unstable();
    Ok(digests)
}
