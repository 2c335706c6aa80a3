//! This module owns [`Templates`]: the templates in an image's merged rootfs, and which of them have mistakes.

use std::collections::{BTreeMap, BTreeSet};

use gantry_model::Digest;
use gantry_store::{ChunkSource, EntryKind, LayerError, Scratch, Store, TocEntry};
use gantry_template::{MAX_TEMPLATE_LEN, check, is_in_folders, target};

use crate::clusterfile::application::application_of;

/// Templates by path, each with the layer whose file is seen in the merged rootfs.
#[derive(Debug, Default)]
pub(super) struct Templates {
    found: BTreeMap<String, Digest>,
}

impl Templates {
    /// Puts one more layer on top.
    pub(super) fn merge(&mut self, layer: &ChunkSource) {
        // What a layer hides lies below it, never in it.
        for entry in layer.toc().entries() {
            match entry.kind {
                EntryKind::Directory { opaque: true } => self.hide_below(&entry.path),
                EntryKind::Directory { opaque: false } => {
                    self.found.remove(&entry.path);
                }
                _ => {
                    self.found.remove(&entry.path);
                    self.hide_below(&entry.path);
                }
            }
        }
        for entry in layer.toc().entries().iter().filter(|entry| is_template(entry)) {
            self.found.insert(entry.path.clone(), *layer.layer());
        }
    }

    fn hide_below(&mut self, folder: &str) {
        self.found.retain(|path, _| {
            !path
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/') || folder.is_empty())
        });
    }

    /// Those that are rendered before scripts run. Those of applications are rendered when these are launched.
    pub(super) fn paths(self) -> BTreeSet<String> {
        let mut paths: BTreeSet<String> = self.found.into_keys().collect();
        paths.retain(|path| is_in_folders(path));
        paths
    }

    /// `PATH:LINE:COLUMN: what` of every template that cannot be rendered with any values.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub(super) fn mistakes(&self, store: &Store) -> Result<Vec<String>, LayerError> {
        let (mut mistakes, mut scratch) = (Vec::new(), Scratch::new());
        let layers: BTreeSet<Digest> = self.found.values().copied().collect();
        for layer in layers {
            let source = ChunkSource::open(store, &layer)?;
            for (path, _) in self.found.iter().filter(|(_, in_layer)| **in_layer == layer) {
                let Some(entry) = source.toc().entry(path) else {
                    continue;
                };
                mistakes.extend(mistake(&source, entry, &mut scratch)?.map(|what| format!("{path}:{what}")));
            }
        }
        mistakes.sort();
        Ok(mistakes)
    }
}

fn mistake(
    source: &ChunkSource,
    entry: &TocEntry,
    scratch: &mut Scratch,
) -> Result<Option<String>, LayerError> {
    let EntryKind::File { size, .. } = entry.kind else {
        return Ok(None);
    };
    if size > MAX_TEMPLATE_LEN as u64 {
        let reason = format!(" it has {size} bytes; at most {MAX_TEMPLATE_LEN} are allowed");
        return Ok(Some(reason));
    }
    match String::from_utf8(source.read_file(entry, scratch)?) {
        Ok(text) => Ok(check(&text).err().map(|error| error.to_string())),
        Err(_) => Ok(Some(" it is not UTF-8 text".to_owned())),
    }
}

fn is_template(entry: &TocEntry) -> bool {
    let file = matches!(entry.kind, EntryKind::File { .. });
    file && target(&entry.path).is_some() && is_place(&entry.path)
}

/// Whether a template at `path` is rendered: before scripts run, or when its application is launched.
pub(super) fn is_place(path: &str) -> bool {
    is_in_folders(path) || application_of(path).is_some()
}
