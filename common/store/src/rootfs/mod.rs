//! This module owns [`Rootfs`]: the merged tree of an image, read from its layers' tables of contents. Nothing is unpacked.

mod compare;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Write;

use gantry_model::LayerDescriptor;

use crate::limits::{MAX_LINKS_FOLLOWED, MAX_ROOTFS_ENTRIES};
use crate::toc::names;
use crate::{ChunkSource, EntryKind, Image, LayerError, Scratch, Store, TocEntry, TocError};

/// Everything a host sees of an image: what upper layers hide is not there.
#[derive(Debug, Default)]
pub struct Rootfs {
    layers: Vec<ChunkSource>,
    places: BTreeMap<String, Place>,
}

/// Where to find what is at a path. Of a hard link, the file it is another name of.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Position in [`Rootfs::layers`].
    layer: usize,
    /// Position in the entries of its table of contents.
    entry: usize,
}

impl Rootfs {
    /// The tree of `image`. The tables of contents are those that its manifest names.
    ///
    /// # Errors
    /// When a layer's table of contents cannot be read or is not the one of the image; when there are more than
    /// [`MAX_ROOTFS_ENTRIES`] entries.
    pub fn read(store: &Store, image: &Image) -> Result<Self, LayerError> {
        Self::of_layers(store, &image.layers)
    }

    /// The tree of these layers, bottom first.
    ///
    /// # Errors
    /// Like [`Rootfs::read`].
    pub fn of_layers(store: &Store, layers: &[LayerDescriptor]) -> Result<Self, LayerError> {
        let mut rootfs = Self::default();
        let mut entries = 0;
        for layer in layers {
            let source = ChunkSource::open_verified(store, layer)?;
            entries += source.toc().entries().len();
            check_room(&source, entries)?;
            rootfs.put_on_top(source);
        }
        Ok(rootfs)
    }

    /// Paths, without a `/` before them, and what is there; every folder before what lies in it. The root is the empty
    /// path. Two names of one file have the same entry, whose own path is one of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TocEntry)> {
        self.places
            .iter()
            .map(|(path, place)| (path.as_str(), self.entry_at(*place)))
    }

    /// As [`Rootfs::iter`], of the paths that begin with `prefix`.
    pub fn below<'r>(&'r self, prefix: &'r str) -> impl Iterator<Item = (&'r str, &'r TocEntry)> {
        self.places
            .range(prefix.to_owned()..)
            .take_while(move |(path, _)| path.starts_with(prefix))
            .map(|(path, place)| (path.as_str(), self.entry_at(*place)))
    }

    /// What is at `path`, as [`Rootfs::iter`] has it. Links are not followed.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&TocEntry> {
        self.places.get(path).map(|place| self.entry_at(*place))
    }

    /// The path that `path` leads to when every symbolic link on the way is followed as a process in the rootfs would:
    /// nothing lies above the root. None when it leads nowhere.
    #[must_use]
    pub fn resolve(&self, path: &str) -> Option<String> {
        let mut left: Vec<&str> = parts(path).rev().collect();
        let (mut at, mut followed) = (String::new(), 0);
        while let Some(part) = left.pop() {
            if part == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            let next = names::join(&at, part);
            match &self.get(&next)?.kind {
                EntryKind::Symlink { target } => {
                    followed += 1;
                    if followed > MAX_LINKS_FOLLOWED {
                        return None;
                    }
                    if target.starts_with('/') {
                        at.clear();
                    }
                    left.extend(parts(target).rev());
                }
                EntryKind::Directory { .. } => at = next,
                _ if left.is_empty() => at = next,
                _ => return None,
            }
        }
        Some(at)
    }

    /// Like [`Rootfs::resolve`], but a symbolic link at the end of the way is not followed.
    #[must_use]
    pub fn locate(&self, path: &str) -> Option<String> {
        let way: Vec<&str> = parts(path).collect();
        match way.split_last() {
            Some((name, folder)) if *name != ".." => {
                let at = names::join(&self.resolve(&folder.join("/"))?, name);
                self.places.contains_key(&at).then_some(at)
            }
            _ => self.resolve(path),
        }
    }

    /// Writes the verified content of the regular file at `path`, a chunk at a time. Says whether there is such a file.
    ///
    /// # Errors
    /// When a chunk is damaged, or `out` cannot be written.
    pub fn copy_file(&self, path: &str, out: &mut dyn Write) -> Result<bool, LayerError> {
        let Some(place) = self.places.get(path) else {
            return Ok(false);
        };
        let entry = self.entry_at(*place);
        if !matches!(entry.kind, EntryKind::File { .. }) {
            return Ok(false);
        }
        self.layers[place.layer].copy_file(entry, &mut Scratch::new(), out)?;
        Ok(true)
    }

    fn entry_at(&self, place: Place) -> &TocEntry {
        &self.layers[place.layer].toc().entries()[place.entry]
    }

    /// Puts a layer over what is there. What it hides goes first: it hides nothing of its own.
    fn put_on_top(&mut self, source: ChunkSource) {
        let layer = self.layers.len();
        for entry in source.toc().entries() {
            match entry.kind {
                EntryKind::Directory { opaque: false } => {}
                // What is no folder hides the folder that was there.
                _ => self.remove_below(&entry.path),
            }
        }
        for (index, entry) in source.toc().entries().iter().enumerate() {
            let entry_of_file = match entry.kind {
                EntryKind::Whiteout => {
                    self.places.remove(&entry.path);
                    continue;
                }
                EntryKind::HardLink { target } => target as usize,
                _ => index,
            };
            let place = Place {
                layer,
                entry: entry_of_file,
            };
            self.places.insert(entry.path.clone(), place);
        }
        self.layers.push(source);
    }

    fn remove_below(&mut self, folder: &str) {
        let start = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        let below = self.places.range(start.clone()..);
        let below: Vec<String> = below
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&start))
            .filter(|path| !path.is_empty())
            .cloned()
            .collect();
        for path in below {
            self.places.remove(&path);
        }
    }
}

/// Is there still room for this layer, with which all have so many entries?
fn check_room(layer: &ChunkSource, entries: usize) -> Result<(), LayerError> {
    if entries <= MAX_ROOTFS_ENTRIES {
        return Ok(());
    }
    let reason =
        format!("and those below it have more than the {MAX_ROOTFS_ENTRIES} entries that are looked into");
    Err(LayerError::Toc {
        layer: *layer.layer(),
        source: TocError::Malformed {
            toc: layer.toc_location().digest,
            reason,
        },
    })
}

/// The parts of a path as people and links write it.
fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}
