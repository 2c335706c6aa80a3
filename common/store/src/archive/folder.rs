//! This module owns reading images from a folder, an OCI layout or what skopeo calls `dir:` (containers/image, "Directory
//! Transport"): only what its index or manifest leads to is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use gantry_model::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::arrivals::Arrivals;
use super::intake::{document, take_blob};
use super::{DIRECTORY_MANIFEST, DIRECTORY_VERSION, DIRECTORY_VERSION_FILE, LAYOUT_FILE, blob_path};
use crate::images::{is_index, parse};
use crate::manifest::{Index, MAX_MANIFEST_LEN, MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST, Manifest};
use crate::{Descriptor, Store, StoreError};

impl Arrivals {
    /// Takes in what the folder `dir` holds.
    pub(super) fn from_folder(store: &Store, dir: &Path) -> Result<Self, StoreError> {
        if is_directory_transport(dir)? {
            return Self::from_directory_transport(store, dir);
        }
        let mut read = None;
        let path = dir.join("index.json");
        if let Some((file, _)) = regular_file(&path)? {
            let what = path.display().to_string();
            let bytes = document(file, &what)?;
            let index: Index = parse(&bytes, &what)?;
            let mut folder = Folder {
                store,
                dir,
                place: |digest, _| blob_path(digest),
                taken: BTreeSet::new(),
            };
            for target in &index.manifests {
                folder.take(target, true)?;
            }
            read = Some(bytes);
        }
        Self::of_layout(read, dir.join(LAYOUT_FILE).exists()).checked(&dir.display().to_string())
    }

    /// One image, or one list of images; the folder does not say how it is called.
    fn from_directory_transport(store: &Store, dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(DIRECTORY_MANIFEST);
        let Some((file, _)) = regular_file(&path)? else {
            return Err(StoreError::CutShort {
                what: dir.display().to_string(),
                reason: format!("{DIRECTORY_MANIFEST} is missing"),
            });
        };
        let what = path.display().to_string();
        let bytes = document(file, &what)?;
        let said: Said = parse(&bytes, &what)?;
        let media_type = match said.media_type {
            Some(media_type) => media_type,
            None if said.manifests.is_some() => MEDIA_TYPE_INDEX.to_owned(),
            None => MEDIA_TYPE_MANIFEST.to_owned(),
        };
        let target = Descriptor {
            media_type,
            digest: store.blobs().put_bytes(&bytes)?,
            size: bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        };
        let mut folder = Folder {
            store,
            dir,
            place: |digest, is_manifest| match is_manifest {
                true => format!("{}.{DIRECTORY_MANIFEST}", digest.hex()),
                false => digest.hex(),
            },
            taken: BTreeSet::new(),
        };
        folder.follow(&target)?;
        let index = Index {
            schema_version: 2,
            media_type: MEDIA_TYPE_INDEX.to_owned(),
            manifests: vec![target],
        };
        let index = serde_json::to_vec(&index).expect("an index is plain data");
        Ok(Self::of_layout(Some(index), true))
    }
}

/// Whether the folder is one of the directory transport: it says so in a file of its own.
pub(super) fn is_directory_transport(dir: &Path) -> Result<bool, StoreError> {
    let path = dir.join(DIRECTORY_VERSION_FILE);
    let Some((file, _)) = regular_file(&path)? else {
        return Ok(false);
    };
    let mut text = Vec::new();
    file.take(DIRECTORY_VERSION.len() as u64)
        .read_to_end(&mut text)
        .map_err(StoreError::io("read", &path))?;
    Ok(text == DIRECTORY_VERSION.as_bytes())
}

/// What a manifest says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
}

struct Folder<'a> {
    store: &'a Store,
    dir: &'a Path,
    /// Where a blob lies, which may be a manifest.
    place: fn(&Digest, bool) -> String,
    /// Manifests and indexes that were read.
    taken: BTreeSet<Digest>,
}

impl Folder<'_> {
    /// Takes in the manifest or index, and what it leads to. An index need not have all that it names.
    fn take(&mut self, target: &Descriptor, needed: bool) -> Result<(), StoreError> {
        if !self.taken.insert(target.digest) || !self.take_blob(&target.digest, true, needed)? {
            return Ok(());
        }
        self.follow(target)
    }

    /// Takes in what the manifest or index leads to, which is in the store.
    fn follow(&mut self, target: &Descriptor) -> Result<(), StoreError> {
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
            self.take_blob(&blob.digest, false, false)?;
        }
        Ok(())
    }

    /// Takes in the blob. What is missing is named when the image is looked through, where that matters.
    fn take_blob(&self, digest: &Digest, is_manifest: bool, needed: bool) -> Result<bool, StoreError> {
        let path = self.dir.join((self.place)(digest, is_manifest));
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
