//! This module owns writing images as one OCI archive: what `skopeo` calls `oci-archive:`.
//!
//! The same images give the same bytes. Documents come first, so that a reader knows early what is coming.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use gantry_model::{Digest, ImageReference};
use sha2::{Digest as _, Sha256};

use super::{LAYOUT_FILE, LAYOUT_TEXT, blob_path};
use crate::images::{is_index, parse};
use crate::manifest::{
    ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Index, MAX_CONFIG_LEN, MAX_MANIFEST_LEN, MEDIA_TYPE_INDEX,
    Manifest,
};
use crate::{Descriptor, Store, StoreError};

impl Store {
    /// Writes the images, with everything they need, as one OCI archive. Every blob is verified on its way out.
    ///
    /// # Errors
    /// When an image is not there or damaged, or `out` cannot be written. What was written so far is useless then.
    pub fn save(&self, references: &[ImageReference], out: impl Write) -> Result<(), StoreError> {
        let _nothing_vanishes = self.share()?;
        let known = self.references()?;
        let mut index = Index {
            schema_version: 2,
            media_type: MEDIA_TYPE_INDEX.to_owned(),
            manifests: Vec::new(),
        };
        let mut contents = Contents::default();
        for reference in references {
            let target = known
                .images
                .get(reference)
                .ok_or_else(|| self.no_such_image(reference))?;
            self.gather(target, &mut contents)?;
            index.manifests.push(named(target, reference));
        }
        let mut archive = Archive {
            tar: tar::Builder::new(out),
        };
        archive.bytes(LAYOUT_FILE, LAYOUT_TEXT.as_bytes())?;
        let index = serde_json::to_vec(&index).expect("an index is plain data");
        archive.bytes("index.json", &index)?;
        archive.folder("blobs/")?;
        archive.folder("blobs/sha256/")?;
        for (digest, bytes) in &contents.documents {
            archive.bytes(&blob_path(digest), bytes)?;
        }
        for digest in contents.layers {
            archive.blob(self, &digest)?;
        }
        archive.finish()
    }

    fn gather(&self, target: &Descriptor, contents: &mut Contents) -> Result<(), StoreError> {
        let bytes = self
            .blobs()
            .read(&target.digest, "image manifest", MAX_MANIFEST_LEN)?;
        if is_index(&target.media_type) {
            let index: Index = parse(&bytes, &format!("image index {}", target.digest))?;
            contents.document(target.digest, bytes);
            // A platform whose manifest never arrived is no loss: the index says so to its reader as well.
            let mut entries = index.manifests.iter();
            return entries.try_for_each(|entry| {
                if self.blobs().exists(&entry.digest) {
                    self.gather(entry, contents)
                } else {
                    Ok(())
                }
            });
        }
        let manifest: Manifest = parse(&bytes, &format!("image manifest {}", target.digest))?;
        contents.document(target.digest, bytes);
        let config = self
            .blobs()
            .read(&manifest.config.digest, "image config", MAX_CONFIG_LEN)?;
        contents.document(manifest.config.digest, config);
        contents
            .layers
            .extend(manifest.layers.iter().map(|layer| layer.digest));
        Ok(())
    }
}

/// What goes into the archive besides the index.
#[derive(Default)]
struct Contents {
    documents: Vec<(Digest, Vec<u8>)>,
    layers: BTreeSet<Digest>,
}

impl Contents {
    fn document(&mut self, digest: Digest, bytes: Vec<u8>) {
        if self.documents.iter().all(|(known, _)| *known != digest) {
            self.documents.push((digest, bytes));
        }
    }
}

fn named(target: &Descriptor, reference: &ImageReference) -> Descriptor {
    let mut target = target.clone();
    target
        .annotations
        .insert(ANNOTATION_REF_NAME.to_owned(), reference.to_string());
    target
        .annotations
        .insert(ANNOTATION_IMAGE_NAME.to_owned(), reference.to_string());
    target
}

struct Archive<W: Write> {
    tar: tar::Builder<W>,
}

impl<W: Write> Archive<W> {
    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut header = header(bytes.len() as u64, tar::EntryType::Regular);
        self.tar
            .append_data(&mut header, path, bytes)
            .map_err(cannot_write)
    }

    fn folder(&mut self, path: &str) -> Result<(), StoreError> {
        let mut header = header(0, tar::EntryType::Directory);
        self.tar
            .append_data(&mut header, path, io::empty())
            .map_err(cannot_write)
    }

    fn blob(&mut self, store: &Store, digest: &Digest) -> Result<(), StoreError> {
        let file = store.blobs().open(digest, "image layer")?;
        let path = store.blobs().path(digest);
        let len = file.metadata().map_err(StoreError::io("look at", &path))?.len();
        let mut header = header(len, tar::EntryType::Regular);
        let mut content = Hashing {
            inner: file.take(len),
            hasher: Sha256::new(),
        };
        self.tar
            .append_data(&mut header, blob_path(digest), &mut content)
            .map_err(cannot_write)?;
        let found = Digest::from_bytes(content.hasher.finalize().into());
        if found == *digest {
            Ok(())
        } else {
            Err(StoreError::WrongDigest {
                what: path.display().to_string(),
                expected: *digest,
                found,
            })
        }
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.tar.finish().map_err(cannot_write)?;
        self.tar
            .into_inner()
            .and_then(|mut out| out.flush())
            .map_err(cannot_write)
    }
}

/// Nobody's time, root's file: the archive depends on its images only.
fn header(size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn cannot_write(source: io::Error) -> StoreError {
    StoreError::Write {
        what: "the archive".to_owned(),
        source,
    }
}

struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
