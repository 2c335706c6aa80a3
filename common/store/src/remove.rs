//! This module owns taking images out of the store, with everything that nothing else needs.

use std::fmt;
use std::fs;

use gantry_model::{Digest, ImageReference};

use crate::reachable::Reachable;
use crate::{Descriptor, Store, StoreError, StoreLock};

/// What [`Store::remove_image`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// Digest the name led to.
    pub image: Option<Digest>,
    /// Blobs removed.
    pub blobs: Vec<Digest>,
    /// Unpacked layers removed.
    pub layers: Vec<Digest>,
    /// Steps of builds that are no longer remembered.
    pub steps: usize,
    /// Images whose signatures were damaged: what could not be read of them is forgotten.
    pub damaged_signatures: usize,
    /// Bytes of the blobs that were removed.
    pub freed: u64,
    /// Why nothing but the name was removed, if so: the space is freed by a later removal.
    pub postponed: Option<Postponed>,
}

/// Why nothing can be removed now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Postponed {
    /// Another command uses the store.
    InUse,
    /// Another image is damaged. Without knowing what it needs, anything might be part of it.
    Damaged(String),
}

impl fmt::Display for Postponed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => {
                f.write_str("another command uses the store now; the next removal frees the space")
            }
            Self::Damaged(error) => {
                write!(f, "another image is damaged ({error}); see `gantry store check`")
            }
        }
    }
}

impl Store {
    /// Removes the name, then the blobs and unpacked layers that no other image and no generation uses.
    ///
    /// # Errors
    /// When there is no such image, it is mounted and has no other name, or something cannot be removed.
    pub fn remove_image(&self, reference: &ImageReference) -> Result<Removal, StoreError> {
        self.refuse_mounted(reference)?;
        let mut removed = None;
        self.change_references(|references| removed = references.images.remove(reference))?;
        let Some(target) = removed else {
            return Err(self.no_such_image(reference));
        };
        let removal = self.release(std::slice::from_ref(&target))?;
        Ok(Removal {
            image: Some(target.digest),
            ..removal
        })
    }

    /// An image that is mounted keeps its last name.
    fn refuse_mounted(&self, reference: &ImageReference) -> Result<(), StoreError> {
        let references = self.references()?;
        let Some(target) = references.images.get(reference) else {
            return Ok(());
        };
        let mut others = references.images.iter();
        if others.any(|(name, other)| name != reference && other.digest == target.digest) {
            return Ok(());
        }
        let mounted = self.mounted()?.into_iter();
        let mut mounted = mounted.filter(|one| one.named == target.digest || one.image == target.digest);
        match mounted.next() {
            None => Ok(()),
            Some(mounted) => Err(StoreError::Mounted {
                image: reference.to_string(),
                target: mounted.target,
            }),
        }
    }

    /// Removes what only the images at `targets`, which have lost a name, needed, and blobs that nothing needs.
    pub(crate) fn release(&self, targets: &[Descriptor]) -> Result<Removal, StoreError> {
        let mut needed = Reachable::default();
        for target in targets {
            // Of a damaged image, what can be read of it.
            let _ = self.reach(target, &mut needed);
        }
        self.sweep(needed.layers)
    }

    /// Removes every blob that no image needs, and those of the unpacked `layers` that no image and no generation
    /// needs: what is left of a removed image, or of a build that failed. What an unfinished build would go on from stays.
    ///
    /// Other unpacked layers are not looked at: an agent on this host may hold some that no image here knows of.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn sweep(&self, layers: impl IntoIterator<Item = Digest>) -> Result<Removal, StoreError> {
        self.remove_unneeded(layers, true)
    }

    /// As [`Store::sweep`], and what unfinished builds would go on from, and what is damaged of signatures.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn prune(&self, layers: impl IntoIterator<Item = Digest>) -> Result<Removal, StoreError> {
        let damaged_signatures = self.forget_damaged_signatures()?;
        Ok(Removal {
            damaged_signatures,
            ..self.remove_unneeded(layers, false)?
        })
    }

    fn remove_unneeded(
        &self,
        layers: impl IntoIterator<Item = Digest>,
        keep_unfinished: bool,
    ) -> Result<Removal, StoreError> {
        let Some(alone) = self.try_exclusive()? else {
            return Ok(Removal {
                postponed: Some(Postponed::InUse),
                ..Removal::default()
            });
        };
        let mut still_needed = match self
            .references()
            .and_then(|references| self.reachable(&references))
        {
            Ok(still_needed) => still_needed,
            Err(error) => {
                return Ok(Removal {
                    postponed: Some(Postponed::Damaged(error.to_string())),
                    ..Removal::default()
                });
            }
        };
        if keep_unfinished {
            self.reach_cache(&mut still_needed)?;
            self.reach_fetched(&mut still_needed)?;
        } else {
            self.forget_all_fetched()?;
        }
        let mut removal = Removal {
            steps: self.sweep_cache(&still_needed)?,
            ..Removal::default()
        };
        let mut in_use = self.layers_of_generations()?;
        in_use.extend(self.layers_of_mounts()?);
        for layer in layers {
            if !still_needed.layers.contains(&layer) && !in_use.contains(&layer) && self.has_layer(&layer) {
                self.remove_locked_layer(&layer)
                    .map_err(StoreError::layer(format!("cannot remove layer {layer}")))?;
                removal.layers.push(layer);
            }
        }
        self.sweep_blobs(&still_needed, &alone, &mut removal)?;
        Ok(removal)
    }

    fn sweep_blobs(
        &self,
        still_needed: &Reachable,
        _alone: &StoreLock,
        removal: &mut Removal,
    ) -> Result<(), StoreError> {
        for digest in self.blobs().list()? {
            if !still_needed.blobs.contains(&digest) {
                removal.freed += self.blobs().size(&digest)?.unwrap_or(0);
                self.blobs().remove(&digest)?;
                removal.blobs.push(digest);
            }
        }
        // What is noted about blobs that are gone: the chunked forms of layers, what is said about manifests.
        let notes = [
            self.chunked_forms_dir(),
            self.signatures_dir(),
            self.own_signatures_dir(),
            self.attestations_dir(),
            self.provenance_dir(),
        ];
        for dir in notes {
            for note in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let about = note
                    .file_name()
                    .to_str()
                    .and_then(|name| Digest::from_hex(name.strip_suffix(".json")?).ok());
                if about.is_some_and(|about| !still_needed.blobs.contains(&about)) {
                    fs::remove_file(note.path()).map_err(StoreError::io("remove", note.path()))?;
                }
            }
        }
        Ok(())
    }
}
