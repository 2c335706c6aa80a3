//! This module owns [`Arrivals`]: the content of an archive or folder, brought into the store before it means anything.
//!
//! Nothing is unpacked: paths are names to look up, never places to write to. Blobs go into the store as they come,
//! each verified; the few documents at the top stay in memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use gantry_model::Digest;

use super::LAYOUT_FILE;
use super::intake::{decompressed, document, take_blob, take_file};
use crate::{Store, StoreError};

/// Most files of a docker archive: layers and configs of many images.
const MAX_FILES: usize = 10_000;
/// Longest path that is looked at.
const MAX_PATH_LEN: usize = 1024;

/// What came.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// `index.json` of an OCI layout.
    pub(super) index: Option<Vec<u8>>,
    /// `manifest.json` of a docker archive.
    pub(super) docker_manifest: Option<Vec<u8>>,
    /// Other files: the blob each became.
    files: BTreeMap<String, Digest>,
    /// Links between files: old docker archives name a layer that occurs twice so.
    links: BTreeMap<String, String>,
    has_layout: bool,
}

impl Arrivals {
    /// Takes in the folder or the (possibly compressed) tar archive at `path`.
    pub(super) fn take_in(store: &Store, path: &Path) -> Result<Self, StoreError> {
        let what = path.display().to_string();
        let arrivals = if path.is_dir() {
            Self::from_folder(store, path)?
        } else {
            let file = File::open(path).map_err(StoreError::io("open", path))?;
            Self::from_tar(store, decompressed(file, &what)?, &what)?
        };
        if arrivals.index.is_none() && arrivals.docker_manifest.is_none() {
            if arrivals.has_layout {
                let reason = "index.json is missing".to_owned();
                return Err(StoreError::CutShort { what, reason });
            }
            let reason = "it is neither an OCI archive (index.json) nor a docker archive (manifest.json)";
            return Err(StoreError::malformed(what, reason));
        }
        Ok(arrivals)
    }

    /// The blob that the file `name` became. Links are followed, a few at most.
    pub(super) fn file(&self, name: &str) -> Option<Digest> {
        let mut name = name.to_owned();
        for _ in 0..8 {
            if let Some(digest) = digest_in_layout(&name) {
                return Some(digest);
            }
            if let Some(digest) = self.files.get(&name) {
                return Some(*digest);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    fn from_folder(store: &Store, dir: &Path) -> Result<Self, StoreError> {
        let mut arrivals = Self::default();
        let blobs = dir.join("blobs/sha256");
        for (name, keep) in [
            ("index.json", &mut arrivals.index),
            ("manifest.json", &mut arrivals.docker_manifest),
        ] {
            let path = dir.join(name);
            match File::open(&path) {
                Ok(file) => *keep = Some(document(file, &path.display().to_string())?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::io("open", path)(source)),
            }
        }
        arrivals.has_layout = dir.join(LAYOUT_FILE).exists();
        let entries = match fs::read_dir(&blobs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(arrivals),
            Err(source) => return Err(StoreError::io("list", blobs)(source)),
        };
        for entry in entries {
            let entry = entry.map_err(StoreError::io("list", &blobs))?;
            let Some(digest) = entry
                .file_name()
                .to_str()
                .and_then(|name| Digest::from_hex(name).ok())
            else {
                continue;
            };
            let path = entry.path();
            let file = File::open(&path).map_err(StoreError::io("open", &path))?;
            let size = file.metadata().map_err(StoreError::io("look at", &path))?.len();
            take_blob(store, file, &digest, size, &path.display().to_string())?;
        }
        Ok(arrivals)
    }

    fn from_tar(store: &Store, reader: impl Read, what: &str) -> Result<Self, StoreError> {
        let mut arrivals = Self::default();
        let mut archive = tar::Archive::new(reader);
        for (number, entry) in archive.entries().map_err(not_tar(what))?.enumerate() {
            let mut entry = entry.map_err(|error| match number {
                0 => not_tar(what)(error),
                _ => StoreError::CutShort {
                    what: what.to_owned(),
                    reason: error.to_string(),
                },
            })?;
            let name = entry_name(&entry.path_bytes(), what)?;
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name_bytes().unwrap_or_default();
                arrivals.link(&name, &target, kind.is_symlink(), what)?;
            } else if kind.is_file() {
                arrivals.take_entry(store, &name, &mut entry, what)?;
            }
        }
        Ok(arrivals)
    }

    fn take_entry(
        &mut self,
        store: &Store,
        name: &str,
        entry: &mut tar::Entry<'_, impl Read>,
        archive: &str,
    ) -> Result<(), StoreError> {
        let size = entry.size();
        match name {
            "index.json" => self.index = Some(document(entry, &format!("index.json of {archive}"))?),
            "manifest.json" => {
                self.docker_manifest = Some(document(entry, &format!("manifest.json of {archive}"))?);
            }
            LAYOUT_FILE => self.has_layout = true,
            _ => {
                if let Some(digest) = digest_in_layout(name) {
                    return take_blob(
                        store,
                        entry,
                        &digest,
                        size,
                        &format!("blob {digest} of {archive}"),
                    );
                }
                // Of a docker archive only configs and layers matter; the rest is for docker before 1.10.
                let wanted = name.ends_with(".tar") || (name.ends_with(".json") && !name.contains('/'));
                if wanted {
                    self.has_room(archive)?;
                    let digest = take_file(store, entry, size, &format!("{name} of {archive}"))?;
                    self.files.insert(name.to_owned(), digest);
                }
            }
        }
        Ok(())
    }

    /// Links in a docker archive are relative to their own folder, hard links to the archive's root.
    fn link(&mut self, name: &str, target: &[u8], symbolic: bool, archive: &str) -> Result<(), StoreError> {
        self.has_room(archive)?;
        let mut parts: Vec<&str> = if symbolic {
            name.split('/').collect()
        } else {
            vec![""]
        };
        parts.pop();
        let target = String::from_utf8_lossy(target);
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    if parts.pop().is_none() {
                        return Err(StoreError::malformed(
                            archive,
                            format!("link {name:?} leads outside of it"),
                        ));
                    }
                }
                part => parts.push(part),
            }
        }
        self.links.insert(name.to_owned(), parts.join("/"));
        Ok(())
    }

    fn has_room(&self, archive: &str) -> Result<(), StoreError> {
        if self.files.len() + self.links.len() < MAX_FILES {
            return Ok(());
        }
        let reason = format!("it has more than {MAX_FILES} files, the most that are accepted");
        Err(StoreError::malformed(archive, reason))
    }
}

fn not_tar(what: &str) -> impl Fn(io::Error) -> StoreError {
    move |error| StoreError::malformed(what, format!("it is no tar archive: {error}"))
}

fn digest_in_layout(name: &str) -> Option<Digest> {
    Digest::from_hex(name.strip_prefix("blobs/sha256/")?).ok()
}

fn entry_name(bytes: &[u8], archive: &str) -> Result<String, StoreError> {
    let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(96)]).into_owned();
    let refused = |reason: &str| {
        Err(StoreError::malformed(
            archive,
            format!("entry {:?} {reason}", shown()),
        ))
    };
    if bytes.len() > MAX_PATH_LEN {
        return refused("has a path longer than 1,024 bytes");
    }
    let Ok(name) = std::str::from_utf8(bytes) else {
        return refused("has a name that is not UTF-8");
    };
    if name.starts_with('/') || name.split('/').any(|part| part == "..") {
        return refused("leads outside of the archive");
    }
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    Ok(parts.join("/"))
}
