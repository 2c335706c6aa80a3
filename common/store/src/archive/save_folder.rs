//! This module owns writing images into a folder in the form of an OCI layout, what `skopeo` calls `oci:`.
//!
//! The index changes last. So a folder that was cut off holds what it held before, and goes on from there.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use gantry_model::{Digest, ImageReference};
use gantry_system::files::{sync_dir, write_atomically};
use serde_json::{Value, json};

use super::parts::create_new;
use super::tar_stream::copy_verified;
use super::{ANNOTATION_SIGNED, LAYOUT_FILE, LAYOUT_TEXT, SaveEvent, blob_path};
use crate::images::parse;
use crate::manifest::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, MEDIA_TYPE_INDEX};
use crate::{Descriptor, Platform, Store, StoreError};

impl Store {
    /// Writes the images, with everything they need, into the folder `dir`, which is made if need be; of images for
    /// several platforms the one for `platform`, if one is given. Other images in an OCI layout there stay.
    ///
    /// # Errors
    /// When an image is not there or damaged, `dir` holds something else, or cannot be written.
    pub fn save_folder(
        &self,
        references: &[ImageReference],
        platform: Option<&Platform>,
        dir: &Path,
        event: &mut dyn FnMut(SaveEvent),
    ) -> Result<(), StoreError> {
        let _nothing_vanishes = self.share()?;
        let outgoing = self.outgoing(references, platform)?;
        let mut index = begin(dir)?;
        let documents: u64 = outgoing
            .documents
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum();
        let blobs: u64 = outgoing.blobs.iter().map(|blob| blob.size).sum();
        event(SaveEvent::Planned {
            total: documents + blobs,
        });
        for blob in &outgoing.blobs {
            self.copy_blob(blob, dir, event)?;
        }
        for (digest, bytes) in &outgoing.documents {
            write_file(&dir.join(blob_path(digest)), bytes)?;
            event(SaveEvent::Written {
                len: bytes.len() as u64,
            });
        }
        let blobs = dir.join("blobs/sha256");
        sync_dir(&blobs).map_err(StoreError::io("sync", &blobs))?;
        for image in &outgoing.images {
            remove_signatures(&mut index, image);
        }
        for entry in outgoing.images.iter().chain(&outgoing.signatures) {
            put(&mut index, entry);
        }
        let index = serde_json::to_vec(&index).expect("an index is plain data");
        write_file(&dir.join("index.json"), &index)
    }

    /// Copies a blob, unless a whole one is there.
    fn copy_blob(
        &self,
        blob: &Descriptor,
        dir: &Path,
        event: &mut dyn FnMut(SaveEvent),
    ) -> Result<(), StoreError> {
        let path = dir.join(blob_path(&blob.digest));
        if is_whole(&path, &blob.digest, blob.size) {
            event(SaveEvent::Written { len: blob.size });
            return Ok(());
        }
        let content = self.blobs().open(&blob.digest, "part of an image")?;
        let what = self.blobs().path(&blob.digest).display().to_string();
        write_verified(&path, content, &blob.digest, blob.size, &what, event)
    }
}

/// Writes `content` to `path`: all of it, with this digest and size, or nothing.
pub(super) fn write_verified(
    path: &Path,
    content: impl Read,
    digest: &Digest,
    size: u64,
    what: &str,
    event: &mut dyn FnMut(SaveEvent),
) -> Result<(), StoreError> {
    // Always the same name: a run that was cut off leaves one such file, and the next takes its place.
    let partial = path.with_added_extension("partial");
    let mut file = create_new(&partial)?;
    let copied = copy_verified(content, digest, size, what, &mut file, event);
    let copied = copied.and_then(|()| file.sync_data().map_err(StoreError::io("sync", &partial)));
    if let Err(error) = copied {
        let _ = fs::remove_file(&partial);
        return Err(error.written_to(&partial));
    }
    fs::rename(&partial, path).map_err(StoreError::io("rename to", path))
}

/// Makes the folder an OCI layout, if it is none, and gives its index.
fn begin(dir: &Path) -> Result<Value, StoreError> {
    let blobs = dir.join("blobs/sha256");
    let path = dir.join("index.json");
    let empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(source) => return Err(StoreError::io("list", dir)(source)),
    };
    if !empty && !dir.join(LAYOUT_FILE).is_file() {
        let reason = "it is not empty, and no OCI layout that images could be added to; name another folder";
        return Err(StoreError::malformed(dir.display().to_string(), reason));
    }
    fs::create_dir_all(&blobs).map_err(StoreError::io("create", &blobs))?;
    write_file(&dir.join(LAYOUT_FILE), LAYOUT_TEXT.as_bytes())?;
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(json!({ "schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": [] }));
        }
        Err(source) => return Err(StoreError::io("open", path)(source)),
    };
    let what = path.display().to_string();
    let index: Value = parse(&super::intake::document(file, &what)?, &what)?;
    if index["manifests"].is_array() {
        return Ok(index);
    }
    Err(StoreError::malformed(what, "it has no list of manifests"))
}

/// Takes out the signatures that came with the image of this name before.
fn remove_signatures(index: &mut Value, image: &Descriptor) {
    let name = image.annotations.get(ANNOTATION_REF_NAME).map(String::as_str);
    if let Some(manifests) = index["manifests"].as_array_mut() {
        manifests.retain(|other| name.is_none() || other["annotations"][ANNOTATION_SIGNED].as_str() != name);
    }
}

/// Adds the image in the place of what had its name.
fn put(index: &mut Value, image: &Descriptor) {
    let Some(manifests) = index["manifests"].as_array_mut() else {
        return;
    };
    manifests.retain(|other| {
        let said = &other["annotations"];
        let name = said[ANNOTATION_IMAGE_NAME]
            .as_str()
            .or(said[ANNOTATION_REF_NAME].as_str());
        name != image.annotations.get(ANNOTATION_REF_NAME).map(String::as_str)
    });
    manifests.push(json!(image));
}

pub(super) fn is_whole(path: &Path, digest: &Digest, size: u64) -> bool {
    let verified = |file: File| copy_verified(file, digest, size, "", &mut io::sink(), &mut |_| {});
    let found = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == size);
    found && File::open(path).is_ok_and(|file| verified(file).is_ok())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_atomically(path, bytes, 0o644).map_err(StoreError::io("write", path))
}
