//! Save files of sealer before 0.9: a folder per layer, documents that say which image is made of which, no digest of
//! anything. From 0.9 on they are OCI archives, or several of them in one archive for an image for several platforms.
//!
//! | file of the archive | sealer | what it is |
//! |---|---|---|
//! | `Metadata` | to 0.6 | JSON: name and id of the one image |
//! | | 0.7, 0.8 | JSON: name → its images, one per platform |
//! | | from 0.9 | the name of the image for several platforms |
//! | `image_metadata.yaml` | to 0.6 | what the image is made of |
//! | `ID.yaml` | 0.7, 0.8 | the same of each image |
//! | `ID.tar` | from 0.9 | OCI archive of each image |
//! | `HEX/…` | to 0.8 | the tree of a layer |

mod document;
mod image;
mod layer_tree;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use gantry_model::{Digest, LayerDescriptor};

use self::layer_tree::LayerTree;
use super::entries::{Entries, Entry, EntryKind};
use super::intake::document;
use crate::layer_import::layer_from_plain_tar;
use crate::limits::MAX_DOCKER_IMAGES;
use crate::{Store, StoreError};

pub(super) use image::{images, list_name};

/// `Metadata` of a save file.
const METADATA: &str = "Metadata";
/// What the one image of an early save file is made of.
const IMAGE_METADATA: &str = "image_metadata.yaml";

/// Reads YAML as a value.
pub type YamlReader = fn(&str) -> Result<serde_json::Value, String>;

/// What came of a save file of sealer.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// `Metadata`.
    pub(super) metadata: Option<Vec<u8>>,
    /// Documents by the name of their file.
    documents: BTreeMap<String, Vec<u8>>,
    /// Layers by the name of their folder.
    layers: BTreeMap<Digest, LayerDescriptor>,
    /// Folders of layers, whether there is something in them or not.
    folders: BTreeSet<Digest>,
}

impl Saved {
    /// Takes the entry, and the rest of its layer's tree, if it belongs to what sealer saves.
    pub(super) fn take<R: Read>(
        &mut self,
        store: &Store,
        entries: &mut Entries<'_, R>,
        entry: &Entry,
        archive: &str,
    ) -> Result<bool, StoreError> {
        if let Some((layer, below)) = in_layer(&entry.name) {
            self.folders.insert(layer);
            if below.is_empty() {
                return Ok(true);
            }
            let what = format!("layer {} of {archive}", layer.hex());
            let folder = layer.hex();
            let mut tree = LayerTree::new(entries, &folder, entry.clone());
            let made = layer_from_plain_tar(store, &mut tree).map_err(StoreError::layer(&what))?;
            if self.layers.insert(layer, made).is_some() {
                return Err(StoreError::malformed(what, "its tree is in two places"));
            }
            return Ok(true);
        }
        let wanted = entry.name == METADATA || entry.name == IMAGE_METADATA || is_image_document(&entry.name);
        if entry.kind != EntryKind::File || !wanted {
            return Ok(false);
        }
        let bytes = document(entries.content(), &format!("{} of {archive}", entry.name))?;
        if entry.name == METADATA {
            self.metadata = Some(bytes);
        } else {
            self.documents.insert(entry.name.clone(), bytes);
            if self.documents.len() > MAX_DOCKER_IMAGES {
                let reason =
                    format!("it holds more than {MAX_DOCKER_IMAGES} images, the most that are accepted");
                return Err(StoreError::malformed(archive, reason));
            }
        }
        Ok(true)
    }
}

/// The layer in whose folder a path lies, and the path below it. Archives of early docker have such folders, too, with
/// three files in each.
fn in_layer(name: &str) -> Option<(Digest, &str)> {
    let (folder, below) = name.split_once('/').unwrap_or((name, ""));
    let layer = Digest::from_hex(folder).ok()?;
    (!matches!(below, "json" | "VERSION" | "layer.tar")).then_some((layer, below))
}

fn is_image_document(name: &str) -> bool {
    name.strip_suffix(".yaml")
        .is_some_and(|hex| Digest::from_hex(hex).is_ok())
}
