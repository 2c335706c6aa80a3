//! Layers for tests, made and unpacked by the store itself.

use std::collections::BTreeSet;

use gantry_model::LayerDescriptor;
use gantry_store::{LayerWriter, Metadata, Store};

/// Something in a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entry<'a> {
    /// A file and its content.
    File(&'a str, &'a str),
    /// Hides a path of lower layers.
    Whiteout(&'a str),
    /// Hides what lower layers have in a folder.
    Opaque(&'a str),
}

/// A layer of these files, unpacked in `store`.
pub(crate) fn unpacked(store: &Store, files: &[(&str, &str)]) -> LayerDescriptor {
    let entries: Vec<Entry<'_>> = files
        .iter()
        .map(|(path, content)| Entry::File(path, content))
        .collect();
    unpacked_entries(store, &entries)
}

/// A layer of these entries, unpacked in `store`.
pub(crate) fn unpacked_entries(store: &Store, entries: &[Entry<'_>]) -> LayerDescriptor {
    let layer = packed(store, entries);
    store.unpack_layer(&layer).unwrap();
    layer
}

/// A layer of these entries, as a blob in `store`.
pub(crate) fn packed(store: &Store, entries: &[Entry<'_>]) -> LayerDescriptor {
    let mut writer = LayerWriter::new(store).unwrap();
    let directory = Metadata {
        mode: 0o755,
        ..Metadata::default()
    };
    let file = Metadata {
        mode: 0o644,
        ..Metadata::default()
    };
    let mut folders = BTreeSet::new();
    for entry in entries {
        match entry {
            Entry::File(path, content) => {
                if let Some((folder, _)) = path.rsplit_once('/')
                    && folders.insert(folder)
                {
                    writer.directory(folder, &directory).unwrap();
                }
                writer
                    .file(path, &file, content.len() as u64, &mut content.as_bytes())
                    .unwrap();
            }
            Entry::Whiteout(path) => writer.whiteout(path).unwrap(),
            Entry::Opaque(path) => {
                writer.directory(path, &directory).unwrap();
                writer.opaque(path).unwrap();
            }
        }
    }
    writer.finish().unwrap()
}
