//! This module owns writing an archive in parts: each whole under its name or not at all, each in the index when it is.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::RangeInclusive;
use std::path::Path;

use gantry_model::{Digest, ImageReference};
use gantry_system::files::{sync_dir, write_atomically};
use sha2::{Digest as _, Sha256};

use super::PartsIndex;
use crate::archive::SaveEvent;
use crate::archive::tar_stream::TarStream;
use crate::{Platform, Store, StoreError};

/// What [`Store::save_parts`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedParts {
    /// Parts the archive has.
    pub count: u32,
    /// Numbers of the parts that were written now. The others were there, or not asked for.
    pub written: Vec<u32>,
}

impl Store {
    /// Writes the images as one OCI archive, cut into parts of `part_size` bytes that begin with the name of `output`,
    /// and the index of them. Parts that are there, of a run that was cut off, are verified and stay.
    ///
    /// Of the parts only those of the numbers in `wanted` are written, if some are given.
    ///
    /// # Errors
    /// When an image is not there or damaged, there would be too many parts, or a file cannot be written. Parts that
    /// were finished before stay.
    pub fn save_parts(
        &self,
        references: &[ImageReference],
        platform: Option<&Platform>,
        output: &Path,
        part_size: u64,
        wanted: Option<&RangeInclusive<u32>>,
        event: &mut dyn FnMut(SaveEvent),
    ) -> Result<SavedParts, StoreError> {
        let _nothing_vanishes = self.share()?;
        let archive = output
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let stream = self.outgoing(references, platform)?.oci_archive();
        let index = stream.parts_index(archive, part_size)?;
        let path = output.with_file_name(PartsIndex::file_name(archive));
        let mut parts = Parts {
            store: self,
            stream,
            index,
            output,
            path: &path,
            verified: BTreeSet::new(),
        };
        let numbers: Vec<u32> = (1..=parts.index.count())
            .filter(|number| wanted.is_none_or(|wanted| wanted.contains(number)))
            .collect();
        if numbers.is_empty() {
            let reason = match parts.index.count() {
                1 => "it has 1 part, which is not wanted".to_owned(),
                count => format!("it has {count} parts, none of those that are wanted"),
            };
            return Err(StoreError::malformed(format!("archive {archive}"), reason));
        }
        event(SaveEvent::Planned {
            total: numbers.iter().map(|number| parts.index.part_size(*number)).sum(),
        });
        parts.take_over(&numbers)?;
        parts.write_index()?;
        let mut written = Vec::new();
        for number in numbers {
            if parts.index.digest(number).is_some() {
                let len = parts.index.part_size(number);
                event(SaveEvent::Written { len });
            } else {
                let digest = parts.write(number, event)?;
                parts.index.set_digest(number, Some(digest));
                parts.write_index()?;
                written.push(number);
            }
        }
        Ok(SavedParts {
            count: parts.index.count(),
            written,
        })
    }
}

struct Parts<'a> {
    store: &'a Store,
    stream: TarStream,
    index: PartsIndex,
    output: &'a Path,
    path: &'a Path,
    /// Blobs of the store that were found whole.
    verified: BTreeSet<Digest>,
}

impl Parts<'_> {
    /// Takes over what an earlier run wrote of the same images; of others under the same name the parts go. Parts that are not
    /// among the `wanted` ones may be on another medium by now, and are not touched.
    fn take_over(&mut self, wanted: &[u32]) -> Result<(), StoreError> {
        let Ok(before) = PartsIndex::read(self.path) else {
            return Ok(());
        };
        // An index that was copied says nothing about the files of this name.
        if before.archive() != self.index.archive() {
            return Ok(());
        }
        let same = before.is_like(&self.index);
        for number in 1..=before.count() {
            let path = self.output.with_file_name(before.part_name(number));
            let is_whole = |digest: &Digest| digest_of(&path).is_ok_and(|found| found == *digest);
            let digest = before.digest(number).filter(|_| same);
            match digest {
                Some(digest) if !wanted.contains(&number) || is_whole(&digest) => {
                    self.index.set_digest(number, Some(digest));
                }
                // Nothing says any more what is in it.
                _ => match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(StoreError::io("remove", path)(error));
                    }
                    _ => {}
                },
            }
        }
        Ok(())
    }

    fn write(&mut self, number: u32, event: &mut dyn FnMut(SaveEvent)) -> Result<Digest, StoreError> {
        let path = self.output.with_file_name(self.index.part_name(number));
        // Always the same name: what a killed run left is written over.
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let file = create_new(Path::new(&partial))?;
        let mut out = Hashing {
            inner: BufWriter::with_capacity(1 << 18, &file),
            hasher: Sha256::new(),
        };
        let range = self.index.range(number);
        let written = self
            .stream
            .write_range(self.store, range, &mut self.verified, &mut out, event)
            .map_err(|error| error.written_to(&path));
        if let Err(error) = written {
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
        let Hashing { inner, hasher } = out;
        inner
            .into_inner()
            .map_err(|error| StoreError::io("write", &path)(error.into_error()))?;
        file.sync_all().map_err(StoreError::io("sync", &partial))?;
        fs::rename(&partial, &path).map_err(StoreError::io("rename to", &path))?;
        Ok(Digest::from_bytes(hasher.finalize().into()))
    }

    fn write_index(&self) -> Result<(), StoreError> {
        let mut bytes = serde_json::to_vec_pretty(&self.index).expect("an index is plain data");
        bytes.push(b'\n');
        write_atomically(self.path, &bytes, 0o644).map_err(StoreError::io("write", self.path))?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        sync_dir(folder).map_err(StoreError::io("sync", folder))
    }
}

/// A file that was not there before: on a medium of somebody else's, one of that name could be a link.
pub(in crate::archive) fn create_new(path: &Path) -> Result<File, StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::io("remove", path)(error));
        }
        _ => {}
    }
    File::create_new(path).map_err(StoreError::io("create", path))
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut hashing = Hashing {
        inner: io::sink(),
        hasher: Sha256::new(),
    };
    io::copy(&mut File::open(path)?, &mut hashing)?;
    Ok(Digest::from_bytes(hashing.hasher.finalize().into()))
}

struct Hashing<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
