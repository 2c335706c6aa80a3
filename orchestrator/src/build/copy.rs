//! This module owns [`CopyPlan`]: which file becomes which path of the new layer.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gantry_model::{Digest, LayerDescriptor};
use gantry_store::{LayerError, LayerOptions, Metadata, SourceDigest, Store, TreeLayer};

use super::context::{BuildContext, Found, FoundKind, Part};
use super::tree::{MergedTree, Node};

mod split;

pub(super) use split::{LargeBlobs, MIN_BLOB_LEN};

/// A file of this name hides NAME of the layers below (OCI image-spec, "Whiteouts").
const WHITEOUT_PREFIX: &str = ".wh.";
/// A file of this name hides everything the layers below have in its folder.
const OPAQUE: &str = ".wh..wh..opq";

/// What one COPY brings, by path in the layer. Folders come before what lies in them.
#[derive(Debug, Default)]
pub(super) struct CopyPlan {
    items: BTreeMap<String, Item>,
    /// Mode of every file and folder that is copied; none for what each has.
    mode: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    /// A file, folder or link of the context.
    Source(PathBuf),
    /// A file that stands in the Kubefile.
    Text(Vec<u8>),
    /// A folder that is there already or has to be: with these permissions.
    Folder(Metadata),
    /// Hides what is below.
    Whiteout,
}

/// Why something cannot be copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// The destination cannot be what it would have to be.
    #[error("{0}")]
    Destination(String),
    /// The context cannot be read.
    #[error("cannot {action} {}", path.display())]
    Context {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl CopyPlan {
    /// Where everything of `found` goes when it is copied to `destination`, as written in the Kubefile, on top of
    /// `tree`.
    ///
    /// The content of a folder is copied, not the folder. A destination that ends in `/`, is a folder already, or
    /// gets several files is a folder.
    ///
    /// # Errors
    /// When the destination leads out of the rootfs or is in the way of itself, or the context cannot be read.
    pub(super) fn new(
        found: &[Found],
        destination: &str,
        tree: &MergedTree,
        context: &BuildContext,
    ) -> Result<Self, CopyError> {
        let target = rootfs_path(destination)?;
        let target = tree.resolve(&target).ok_or_else(|| {
            CopyError::Destination(format!(
                "{destination:?} goes in circles: its links lead to each other"
            ))
        })?;
        let mut plan = Self::default();
        let is_folder = |one: &Found| matches!(one.kind, FoundKind::Folder(_));
        let into_folder = destination.ends_with('/')
            || target.is_empty()
            || found.len() > 1
            || found.iter().any(is_folder)
            || tree.folder(&target).is_some();
        let land = Land { tree, context };
        for one in found {
            let path = if into_folder {
                join(&target, &one.name)
            } else {
                target.clone()
            };
            match &one.kind {
                FoundKind::Folder(folder) => {
                    if !target.is_empty() && tree.folder(&target).is_none() {
                        plan.insert(target.clone(), Item::Source(folder.clone()));
                    }
                    plan.folder(folder, &target, land)?;
                }
                FoundKind::File(file) => plan.entry(file, &path, land)?,
                FoundKind::Text(text) => {
                    not_in_the_place_of_a_folder(&path, &one.name, tree)?;
                    plan.insert(path, Item::Text(text.clone()));
                }
            }
        }
        plan.add_parents(tree)?;
        Ok(plan)
    }

    /// These files, on top of `tree`: texts, and files of this machine, by where they go.
    ///
    /// # Errors
    /// When the image has a file where a folder has to be.
    pub(super) fn of_files(
        texts: impl IntoIterator<Item = (String, String)>,
        files: impl IntoIterator<Item = (String, PathBuf)>,
        tree: &MergedTree,
    ) -> Result<Self, CopyError> {
        let texts = texts
            .into_iter()
            .map(|(path, text)| (path, Item::Text(text.into_bytes())));
        let files = files.into_iter().map(|(path, file)| (path, Item::Source(file)));
        let mut plan = Self {
            items: texts.chain(files).collect(),
            mode: None,
        };
        plan.add_parents(tree)?;
        Ok(plan)
    }

    /// Gives every file and folder that is copied this mode, or leaves each its own.
    pub(super) fn set_mode(&mut self, mode: Option<u32>) {
        self.mode = mode;
    }

    /// Hides everything that the layers below have in the folder `path`.
    pub(super) fn hide_below(&mut self, path: &str) {
        self.items
            .insert(format!("{}/", path.trim_end_matches('/')), Item::Whiteout);
    }

    /// What the layer depends on.
    ///
    /// # Errors
    /// When a file cannot be looked at.
    pub(super) fn source(&self) -> Result<SourceDigest, LayerError> {
        let mut source = SourceDigest::default();
        if let Some(mode) = self.mode {
            source.note(&format!("mode {mode:o}"));
        }
        for (path, item) in &self.items {
            match item {
                Item::Source(file) => source.add(file, path)?,
                Item::Text(text) => source.note(&format!("text {path:?} {}", Digest::of(text))),
                Item::Folder(metadata) => source.note(&format!("folder {path:?} {metadata:?}")),
                Item::Whiteout => source.note(&format!("whiteout {path:?}")),
            }
        }
        Ok(source)
    }

    /// Makes the layer.
    ///
    /// # Errors
    /// When a file cannot be read or be in a layer, or the store cannot be written.
    pub(super) fn write(&self, store: &Store, options: &LayerOptions) -> Result<LayerDescriptor, LayerError> {
        let mode = self.mode;
        let mut layer = TreeLayer::new(store, &LayerOptions { mode, ..*options })?;
        for (path, item) in &self.items {
            match item {
                Item::Source(file) => layer.add(file, path)?,
                Item::Text(text) => {
                    let metadata = Metadata {
                        mode: mode.unwrap_or(0o644),
                        mtime: options.mtime,
                        ..Metadata::default()
                    };
                    layer
                        .writer()
                        .file(path, &metadata, text.len() as u64, &mut text.as_slice())?;
                }
                Item::Folder(metadata) => layer.writer().directory(path, metadata)?,
                Item::Whiteout if path.is_empty() || path.ends_with('/') => {
                    layer.writer().opaque(path.trim_end_matches('/'))?;
                }
                Item::Whiteout => layer.writer().whiteout(path)?,
            }
        }
        layer.finish()
    }

    fn folder(&mut self, dir: &Path, target: &str, land: Land<'_>) -> Result<(), CopyError> {
        let unreadable = |source| CopyError::Context {
            action: "list",
            path: dir.to_owned(),
            source,
        };
        for entry in fs::read_dir(dir).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().into_string().map_err(|name| {
                let reason = format!("the name {name:?} in {} is not UTF-8; rename it", dir.display());
                CopyError::Destination(reason)
            })?;
            self.entry(&entry.path(), &join(target, &name), land)?;
        }
        Ok(())
    }

    fn entry(&mut self, file: &Path, path: &str, land: Land<'_>) -> Result<(), CopyError> {
        let tree = land.tree;
        let found = fs::symlink_metadata(file).map_err(|source| CopyError::Context {
            action: "look at",
            path: file.to_owned(),
            source,
        })?;
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        match land.context.part(file) {
            Part::Taken => {}
            Part::Searched if found.is_dir() => {
                let before = self.items.len();
                self.folder(file, path, land)?;
                if self.items.len() > before && tree.node(path).is_none() {
                    self.insert(path.to_owned(), Item::Source(file.to_owned()));
                }
                return Ok(());
            }
            Part::Searched | Part::KeptOut => return Ok(()),
        }
        if found.is_dir() {
            // A folder meets a link to a folder: what is in it goes where the link leads, or the link would be lost.
            let through_link = matches!(tree.node(path), Some(Node::Link(_)))
                .then(|| tree.folder(path))
                .flatten();
            if let Some(real) = through_link {
                return self.folder(file, &real, land);
            }
            self.insert(path.to_owned(), Item::Source(file.to_owned()));
            return self.folder(file, path, land);
        }
        if name == OPAQUE {
            self.items.insert(
                if parent.is_empty() {
                    String::new()
                } else {
                    format!("{parent}/")
                },
                Item::Whiteout,
            );
        } else if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            self.items.insert(join(parent, hidden), Item::Whiteout);
        } else {
            not_in_the_place_of_a_folder(path, &file.display().to_string(), tree)?;
            self.insert(path.to_owned(), Item::Source(file.to_owned()));
        }
        Ok(())
    }

    /// A later source wins; a file in the place of a folder takes everything below with it.
    fn insert(&mut self, path: String, item: Item) {
        let folder = matches!(&item, Item::Source(file) if fs::symlink_metadata(file).is_ok_and(|found| found.is_dir()));
        if !folder && self.items.contains_key(&path) {
            let below: Vec<String> = self
                .items
                .range(format!("{path}/")..format!("{path}0"))
                .map(|(path, _)| path.clone())
                .collect();
            below.iter().for_each(|path| {
                self.items.remove(path);
            });
        }
        self.items.insert(path, item);
    }

    /// Every folder on the way gets an entry: with the image's permissions where the image has it.
    fn add_parents(&mut self, tree: &MergedTree) -> Result<(), CopyError> {
        let paths: Vec<String> = self.items.keys().cloned().collect();
        for path in paths {
            let mut path = path.trim_end_matches('/');
            while let Some((parent, _)) = path.rsplit_once('/') {
                path = parent;
                let metadata = match (self.items.get(parent), tree.node(parent)) {
                    (Some(_), _) => break,
                    (None, Some(Node::Folder(metadata))) => metadata.clone(),
                    (None, None) => Metadata {
                        mode: 0o755,
                        ..Metadata::default()
                    },
                    (None, Some(_)) => {
                        let reason =
                            format!("{parent:?} is a file of the image, nothing can be copied below it");
                        return Err(CopyError::Destination(reason));
                    }
                };
                self.items.insert(parent.to_owned(), Item::Folder(metadata));
            }
        }
        Ok(())
    }
}

/// Where things land, and what of the context is kept out.
#[derive(Clone, Copy)]
struct Land<'a> {
    tree: &'a MergedTree,
    context: &'a BuildContext,
}

fn not_in_the_place_of_a_folder(path: &str, file: &str, tree: &MergedTree) -> Result<(), CopyError> {
    if matches!(tree.node(path), Some(Node::Folder(_))) {
        let reason = format!("{path:?} is a folder of the image, the file {file} cannot take its place");
        return Err(CopyError::Destination(reason));
    }
    Ok(())
}

/// A destination as a path below the rootfs.
fn rootfs_path(destination: &str) -> Result<String, CopyError> {
    let mut parts = Vec::new();
    for part in destination.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let reason =
                    format!("{destination:?} leads out of the rootfs; a destination is a path below it");
                return Err(CopyError::Destination(reason));
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

#[cfg(test)]
mod tests;
