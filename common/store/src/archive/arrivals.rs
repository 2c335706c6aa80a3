//! This module owns [`Arrivals`]: the content of an archive or folder, brought into the store before it means anything.
//!
//! Nothing is unpacked: paths are names to look up, never places to write to. Blobs go into the store as they come,
//! each verified; the few documents at the top stay in memory.

use std::collections::BTreeMap;
use std::io::Read;

use gantry_model::Digest;

use super::LAYOUT_FILE;
use super::entries::{Entries, Entry, EntryKind, MAX_PATH_LEN};
use super::intake::{decompressed, document, take_blob, take_file};
use super::sealer::Saved;
use crate::limits::MAX_LINKS_FOLLOWED;
use crate::{Store, StoreError};

/// What came.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// `index.json` of an OCI layout.
    pub(super) index: Option<Vec<u8>>,
    /// `manifest.json` of a docker archive.
    pub(super) docker_manifest: Option<Vec<u8>>,
    has_layout: bool,
    /// What only sealer's save files have.
    pub(super) sealer: Saved,
    /// Other files: the blob each became.
    files: BTreeMap<String, Digest>,
    /// Links between files: docker's archives name a layer that occurs twice so.
    links: BTreeMap<String, String>,
}

impl Arrivals {
    /// Takes in the (possibly compressed) tar archive that `stream` gives.
    pub(super) fn from_stream(store: &Store, stream: impl Read, archive: &str) -> Result<Self, StoreError> {
        let mut arrivals = Self::default();
        let mut entries = Entries::new(decompressed(stream, archive)?, archive);
        while let Some(entry) = entries.next()? {
            if arrivals.sealer.take(store, &mut entries, &entry, archive)? {
                continue;
            }
            match &entry.kind {
                EntryKind::File => arrivals.take_entry(store, &entry, entries.content(), archive)?,
                EntryKind::Link { target, symbolic } => {
                    arrivals.link(&entry.name, target, *symbolic, archive)?;
                }
                EntryKind::Other => {}
            }
        }
        arrivals.checked(archive)
    }

    /// An OCI layout with this index.
    pub(super) fn of_layout(index: Option<Vec<u8>>, has_layout: bool) -> Self {
        Self {
            index,
            has_layout,
            ..Self::default()
        }
    }

    /// Whether what came is images at all.
    pub(super) fn checked(self, archive: &str) -> Result<Self, StoreError> {
        if self.index.is_some() || self.docker_manifest.is_some() || self.sealer.metadata.is_some() {
            return Ok(self);
        }
        if self.has_layout {
            let (what, reason) = (archive.to_owned(), "index.json is missing".to_owned());
            return Err(StoreError::CutShort { what, reason });
        }
        let reason = "it is neither an OCI archive (index.json) nor a docker archive (manifest.json) nor a save file of sealer (Metadata)";
        Err(StoreError::malformed(archive, reason))
    }

    /// The blob that the file `name` became. Links are followed, a few at most.
    pub(super) fn file(&self, name: &str) -> Option<Digest> {
        let mut name = name.to_owned();
        for _ in 0..MAX_LINKS_FOLLOWED {
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

    /// The archives that lie in this one, with their names.
    pub(super) fn archives(&self) -> impl Iterator<Item = (&String, &Digest)> {
        self.files.iter().filter(|(name, _)| name.ends_with(".tar"))
    }

    fn take_entry(
        &mut self,
        store: &Store,
        entry: &Entry,
        content: impl Read,
        archive: &str,
    ) -> Result<(), StoreError> {
        let Entry { name, size, .. } = entry;
        let what = format!("{name} of {archive}");
        // Which of two counts, readers disagree about.
        let once = |place: &mut Option<Vec<u8>>, bytes| match place.replace(bytes) {
            None => Ok(()),
            Some(_) => Err(StoreError::malformed(archive, format!("{name} is in it twice"))),
        };
        match name.as_str() {
            "index.json" => once(&mut self.index, document(content, &what)?),
            "manifest.json" => once(&mut self.docker_manifest, document(content, &what)?),
            LAYOUT_FILE => {
                self.has_layout = true;
                Ok(())
            }
            _ => {
                if let Some(digest) = digest_in_layout(name) {
                    return take_blob(
                        store,
                        content,
                        &digest,
                        *size,
                        &format!("blob {digest} of {archive}"),
                    );
                }
                if !is_config_or_layer(name) {
                    return Ok(());
                }
                let digest = take_file(store, content, *size, &what)?;
                match self.files.insert(name.clone(), digest) {
                    Some(other) if other != digest => {
                        let reason = format!("{name} is in it twice, with different content");
                        Err(StoreError::malformed(archive, reason))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Symbolic links in a docker archive are relative to their own folder, hard links to the archive's root.
    fn link(&mut self, name: &str, target: &str, symbolic: bool, archive: &str) -> Result<(), StoreError> {
        let mut parts: Vec<&str> = if symbolic {
            name.split('/').collect()
        } else {
            vec![""]
        };
        parts.pop();
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    if parts.pop().is_none() {
                        let reason = format!("link {name:?} leads outside of it");
                        return Err(StoreError::malformed(archive, reason));
                    }
                }
                part => parts.push(part),
            }
        }
        if target.len() > MAX_PATH_LEN {
            let reason = format!("link {name:?} leads further than {MAX_PATH_LEN} bytes");
            return Err(StoreError::malformed(archive, reason));
        }
        self.links.insert(name.to_owned(), parts.join("/"));
        Ok(())
    }
}

/// Whether a docker archive's manifest may name the file. The rest is for docker before 1.10.
fn is_config_or_layer(name: &str) -> bool {
    let ends = |ending: &str| name.ends_with(ending);
    let archive = ends(".tar") || ends(".tar.gz") || ends(".tgz") || ends(".tar.zst");
    archive || (!name.contains('/') && (ends(".json") || name.starts_with("sha256:")))
}

pub(super) fn digest_in_layout(name: &str) -> Option<Digest> {
    Digest::from_hex(name.strip_prefix("blobs/sha256/")?).ok()
}
