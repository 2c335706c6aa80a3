//! This module owns reading an OCI layout from a folder: only what its index leads to is read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use gantry_model::Digest;

use super::arrivals::Arrivals;
use super::intake::{document, take_blob};
use super::{LAYOUT_FILE, blob_path};
use crate::images::{is_index, parse};
use crate::manifest::{Index, MAX_MANIFEST_LEN, Manifest};
use crate::{Descriptor, Store, StoreError};

impl Arrivals {
    /// Takes in what the folder `dir` holds: an OCI layout.
    pub(super) fn from_folder(store: &Store, dir: &Path) -> Result<Self, StoreError> {
        let mut read = None;
        let path = dir.join("index.json");
        if let Some((file, _)) = regular_file(&path)? {
            let what = path.display().to_string();
            let bytes = document(file, &what)?;
            let index: Index = parse(&bytes, &what)?;
            let mut folder = Folder {
                store,
                dir,
                taken: BTreeSet::new(),
            };
            for target in &index.manifests {
                folder.take(target, true)?;
            }
            read = Some(bytes);
        }
        Self::of_layout(read, dir.join(LAYOUT_FILE).exists()).checked(&dir.display().to_string())
    }
}

struct Folder<'a> {
    store: &'a Store,
    dir: &'a Path,
    /// Manifests and indexes that were read.
    taken: BTreeSet<Digest>,
}

impl Folder<'_> {
    /// Takes in the manifest or index, and what it leads to. An index need not have all that it names.
    fn take(&mut self, target: &Descriptor, needed: bool) -> Result<(), StoreError> {
        if !self.taken.insert(target.digest) || !self.take_blob(&target.digest, needed)? {
            return Ok(());
        }
        let what = format!("manifest {} in {}", target.digest, self.dir.display());
        let bytes = self.store.blobs().read(&target.digest, &what, MAX_MANIFEST_LEN)?;
        if is_index(&target.media_type) {
            let index: Index = parse(&bytes, &what)?;
            // An index in an index is refused later, when the image is looked through: it is not followed here.
            let mut manifests = index
                .manifests
                .iter()
                .filter(|entry| !is_index(&entry.media_type));
            return manifests.try_for_each(|entry| self.take(entry, false));
        }
        let manifest: Manifest = parse(&bytes, &what)?;
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            self.take_blob(&blob.digest, false)?;
        }
        Ok(())
    }

    /// Takes in the blob. What is missing is named when the image is looked through, where that matters.
    fn take_blob(&self, digest: &Digest, needed: bool) -> Result<bool, StoreError> {
        let path = self.dir.join(blob_path(digest));
        match regular_file(&path)? {
            Some((file, size)) => {
                take_blob(self.store, file, digest, size, &path.display().to_string()).map(|()| true)
            }
            None if needed => Err(StoreError::CutShort {
                what: self.dir.display().to_string(),
                reason: format!("blob {digest} is missing"),
            }),
            None => Ok(false),
        }
    }
}

/// The file and its bytes; none when there is none. A pipe or device would never end.
fn regular_file(path: &Path) -> Result<Option<(File, u64)>, StoreError> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::io("look at", path)(source)),
    };
    if !found.is_file() {
        return Err(StoreError::malformed(
            path.display().to_string(),
            "it is no regular file",
        ));
    }
    let file = File::open(path).map_err(StoreError::io("open", path))?;
    Ok(Some((file, found.len())))
}
