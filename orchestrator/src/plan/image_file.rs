//! This module owns [`ImageFile`]: what a ClusterImage has at a path that the operator wants to say something about.

use std::collections::{BTreeMap, BTreeSet};

use gantry_model::{ImagePlugin, is_data_file};
use gantry_protocol::limits::MAX_CONFIG_FILES_LEN;
use gantry_store::{ChunkSource, EntryKind, Image, LayerError, Rootfs, Store, TocEntry};
use serde::{Deserialize, Serialize};

use super::templates::is_place;
use crate::clusterfile::application::application_of;
use crate::clusterfile::spelling::closest;

/// Behind the name of a file that a template makes.
const TEMPLATE: &str = ".tmpl";
/// Most files of plugins in one image.
const MAX_PLUGIN_FILES: usize = 256;

/// What is at a path of the merged rootfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFile {
    /// A file with this text.
    Text(String),
    /// What this template makes, on every host with that host's values.
    Template(String),
    /// A file that is no text, or too long to be read for a plan: what it is.
    NoText(String),
    /// Something that is no file: what it is.
    NoFile(String),
    /// Nothing.
    Missing {
        /// The file whose path is written almost so.
        closest: Option<String>,
    },
}

/// What `image` has at `paths`.
///
/// # Errors
/// When a layer cannot be read.
pub(super) fn read(
    store: &Store,
    image: &Image,
    paths: &BTreeSet<String>,
) -> Result<BTreeMap<String, ImageFile>, LayerError> {
    if paths.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rootfs = Rootfs::read(store, image)?;
    paths
        .iter()
        .map(|path| Ok((path.clone(), file(&rootfs, path)?)))
        .collect()
}

/// The files of plugins that `image`, whose layers are `sources`, brings.
///
/// # Errors
/// When a layer cannot be read.
pub(super) fn plugins(
    store: &Store,
    image: &Image,
    sources: &[ChunkSource],
) -> Result<BTreeMap<String, ImageFile>, LayerError> {
    let mut entries = sources.iter().flat_map(|source| source.toc().entries());
    if !entries.any(|entry| ImagePlugin::is_file(&entry.path)) {
        return Ok(BTreeMap::new());
    }
    let rootfs = Rootfs::read(store, image)?;
    let mut files = BTreeMap::new();
    for (path, entry) in rootfs.iter().filter(|(path, _)| ImagePlugin::is_file(path)) {
        let file = match entry.kind {
            _ if files.len() >= MAX_PLUGIN_FILES => {
                ImageFile::NoText(format!("one of more than {MAX_PLUGIN_FILES} files of plugins"))
            }
            EntryKind::File { size, .. } if size > ImagePlugin::MAX_FILE_LEN => {
                ImageFile::NoText(format!("longer than {} KiB", ImagePlugin::MAX_FILE_LEN >> 10))
            }
            EntryKind::File { size, .. } => text(&rootfs, path, size)?,
            _ => ImageFile::NoFile("no regular file".into()),
        };
        files.insert(path.to_owned(), file);
    }
    Ok(files)
}

fn file(rootfs: &Rootfs, path: &str) -> Result<ImageFile, LayerError> {
    let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
    let no_folder = |folder: &&str| {
        let entry = rootfs.get(folder);
        entry.is_some_and(|entry| !matches!(entry.kind, EntryKind::Directory { .. }))
    };
    if let Some(above) = above.find(no_folder) {
        return Ok(ImageFile::NoFile(format!("below {above}, which is no folder")));
    }
    let is_program = |entry: &TocEntry| {
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        is_file && entry.mode & 0o111 != 0 && application_of(path).is_some() && !is_data_file(path)
    };
    if rootfs.get(path).is_some_and(is_program) {
        // Hosts prove them before they launch the application.
        return Ok(ImageFile::NoFile("a program of an application".into()));
    }
    let size = match rootfs.get(path).map(|entry| &entry.kind) {
        Some(EntryKind::Directory { .. }) => return Ok(ImageFile::NoFile("a folder".into())),
        Some(EntryKind::Symlink { .. }) => return Ok(ImageFile::NoFile("a link".into())),
        Some(EntryKind::File { size, .. }) => Some(*size),
        _ => None,
    };
    let template = format!("{path}{TEMPLATE}");
    if is_place(path)
        && let Some(EntryKind::File { size, .. }) = rootfs.get(&template).map(|entry| &entry.kind)
    {
        return Ok(match text(rootfs, &template, *size)? {
            ImageFile::Text(text) => ImageFile::Template(text),
            other => other,
        });
    }
    if let Some(size) = size {
        return text(rootfs, path, size);
    }
    let files = rootfs
        .iter()
        .filter(|(_, entry)| matches!(entry.kind, EntryKind::File { .. }));
    let closest = closest(path, files.map(|(path, _)| path));
    Ok(ImageFile::Missing {
        closest: closest.map(str::to_owned),
    })
}

fn text(rootfs: &Rootfs, path: &str, size: u64) -> Result<ImageFile, LayerError> {
    if size > MAX_CONFIG_FILES_LEN as u64 {
        let what = format!("longer than {MAX_CONFIG_FILES_LEN} bytes");
        return Ok(ImageFile::NoText(what));
    }
    let mut content = Vec::new();
    rootfs.copy_file(path, &mut content)?;
    Ok(match String::from_utf8(content) {
        Ok(text) => ImageFile::Text(text),
        Err(_) => ImageFile::NoText("not UTF-8 text".into()),
    })
}
