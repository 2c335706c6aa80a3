//! This module owns [`PartsIndex`]: which parts an archive has, and which blob lies where in it.

use std::io;
use std::ops::Range;
use std::path::Path;

use gantry_model::Digest;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_ARCHIVE_ENTRIES, MAX_PARTS, MAX_TAR_LEN, MIN_PART_LEN};
use crate::manifest::MAX_MANIFEST_LEN;
use crate::{StoreError, documents};

/// The only version there is.
const VERSION: u32 = 1;
/// Between the archive's name and the number of a part.
const PART: &str = ".part-";
/// Behind the archive's name, for the index.
const INDEX: &str = ".parts.json";
/// Longest name of an archive: the endings have to fit into a file name, too.
const MAX_ARCHIVE_NAME_LEN: usize = 200;

/// Which parts an archive has, and which blob lies where in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartsIndex {
    version: u32,
    archive: String,
    /// Bytes of the archive.
    size: u64,
    /// Bytes of every part but the last.
    part_size: u64,
    parts: Vec<Part>,
    /// `index.json` of the OCI layout.
    index: Extent,
    /// Manifests, configs and layers, in the order of their places.
    blobs: Vec<Extent>,
}

/// One part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    name: String,
    size: u64,
    /// None until it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
}

/// Where something lies in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::archive) struct Extent {
    pub(in crate::archive) digest: Digest,
    pub(in crate::archive) offset: u64,
    pub(in crate::archive) size: u64,
}

impl Extent {
    pub(super) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.size
    }
}

impl PartsIndex {
    /// Name of the index of the archive of this name.
    #[must_use]
    pub fn file_name(archive: &str) -> String {
        format!("{archive}{INDEX}")
    }

    /// The archive whose index a file of this name is, if it is one.
    #[must_use]
    pub fn archive_of_index(file_name: &str) -> Option<&str> {
        file_name
            .strip_suffix(INDEX)
            .filter(|archive| !archive.is_empty())
    }

    /// The archive and the number, from 1, if a file of this name is a part.
    #[must_use]
    pub fn archive_of_part(file_name: &str) -> Option<(&str, u32)> {
        let (archive, number) = file_name.rsplit_once(PART)?;
        let digits = number.len() >= 4 && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|number| *number > 0)?;
        (digits && !archive.is_empty()).then_some((archive, number))
    }

    /// Reads the index at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or does not add up.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let what = path.display().to_string();
        let index: Option<Self> = documents::read(path)?;
        let Some(index) = index else {
            return Err(StoreError::io("open", path)(io::ErrorKind::NotFound.into()));
        };
        match index.mistake() {
            None => Ok(index),
            Some(mistake) => Err(StoreError::malformed(what, mistake)),
        }
    }

    /// An index of parts that are not written yet.
    pub(in crate::archive) fn new(
        archive: &str,
        size: u64,
        part_size: u64,
        index: Extent,
        blobs: Vec<Extent>,
    ) -> Result<Self, StoreError> {
        let mut parts = Vec::new();
        let count = size.div_ceil(part_size.max(1));
        for number in 1..=count.min(u64::from(MAX_PARTS) + 1) {
            parts.push(Part {
                name: part_name(archive, number as u32),
                size: part_size.min(size - (number - 1) * part_size),
                digest: None,
            });
        }
        let index = Self {
            version: VERSION,
            archive: archive.to_owned(),
            size,
            part_size,
            parts,
            index,
            blobs,
        };
        match index.mistake() {
            None => Ok(index),
            Some(mistake) => Err(StoreError::malformed(
                format!("archive {archive} in parts"),
                mistake,
            )),
        }
    }

    /// The archive's name.
    #[must_use]
    pub fn archive(&self) -> &str {
        &self.archive
    }

    /// How many parts there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.parts.len() as u32
    }

    /// Name of a part; numbers begin at 1.
    #[must_use]
    pub fn part_name(&self, number: u32) -> String {
        part_name(&self.archive, number)
    }

    /// Bytes of a part.
    #[must_use]
    pub fn part_size(&self, number: u32) -> u64 {
        self.part(number).map_or(0, |part| part.size)
    }

    /// Whether both are indexes of the same archive, cut in the same way.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.part_size == other.part_size && self.identity() == other.identity()
    }

    /// Takes over what `other`, which is like this one, says of parts that this one does not know yet.
    pub fn hear_of_digests(&mut self, other: &Self) {
        for number in 1..=other.count() {
            let digest = self.digest(number).or_else(|| other.digest(number));
            self.set_digest(number, digest);
        }
    }

    pub(super) fn digest(&self, number: u32) -> Option<Digest> {
        self.part(number)?.digest
    }

    pub(super) fn set_digest(&mut self, number: u32, digest: Option<Digest>) {
        let position = (number as usize).checked_sub(1);
        if let Some(part) = position.and_then(|position| self.parts.get_mut(position)) {
            part.digest = digest;
        }
    }

    /// What the archive is, whatever it is called and however it is cut.
    pub(super) fn identity(&self) -> Digest {
        let content = (self.size, &self.index, &self.blobs);
        Digest::of(&serde_json::to_vec(&content).expect("an index is plain data"))
    }

    /// The bytes of the archive that are in a part; empty when there is no such part.
    pub(super) fn range(&self, number: u32) -> Range<u64> {
        let start = u64::from(number.saturating_sub(1)) * self.part_size;
        start..start + self.part_size(number)
    }

    /// The parts that have some of these bytes.
    pub(super) fn parts_of(&self, range: Range<u64>) -> impl Iterator<Item = u32> {
        let count = self.count();
        (1..=count).filter(move |number| overlap(&self.range(*number), &range).is_some())
    }

    /// Everything that has a place, `index.json` first.
    pub(super) fn extents(&self) -> impl Iterator<Item = &Extent> {
        std::iter::once(&self.index).chain(&self.blobs)
    }

    pub(super) const fn image_index(&self) -> &Extent {
        &self.index
    }

    fn part(&self, number: u32) -> Option<&Part> {
        self.parts.get((number as usize).checked_sub(1)?)
    }

    /// What does not add up. It comes from elsewhere: everything in it is checked before anything is done by it.
    fn mistake(&self) -> Option<String> {
        if self.version != VERSION {
            return Some(format!(
                "it has version {}, this program reads version {VERSION}; a newer one reads it perhaps",
                self.version
            ));
        }
        let name = &self.archive;
        let strange = name.is_empty()
            || name.len() > MAX_ARCHIVE_NAME_LEN
            || name.starts_with('.')
            || name.contains(|letter: char| letter == '/' || letter.is_control());
        if strange {
            return Some(format!("{name:?} is no name of an archive"));
        }
        if self.part_size < MIN_PART_LEN {
            return Some(format!(
                "parts have {MIN_PART_LEN} bytes at least, not {}",
                self.part_size
            ));
        }
        if self.size > MAX_TAR_LEN
            || self.parts.len() > MAX_PARTS as usize
            || self.blobs.len() > MAX_ARCHIVE_ENTRIES
        {
            return Some(format!(
                "there are at most {MAX_PARTS} parts with {MAX_TAR_LEN} bytes and {MAX_ARCHIVE_ENTRIES} blobs in all; \
                 make larger parts"
            ));
        }
        let whole = self.parts.len() as u64 == self.size.div_ceil(self.part_size);
        let as_cut = (1..).zip(&self.parts).all(|(number, part)| {
            let left = self
                .size
                .saturating_sub((u64::from(number) - 1).saturating_mul(self.part_size));
            part.name == part_name(&self.archive, number) && part.size == left.min(self.part_size)
        });
        if !whole || !as_cut {
            return Some("its parts are not the archive cut at its part size".to_owned());
        }
        let mut end = 0;
        for extent in self.extents() {
            let behind = extent
                .offset
                .checked_add(extent.size)
                .filter(|behind| *behind <= self.size);
            match behind {
                Some(behind) if extent.offset >= end => end = behind,
                _ => return Some(format!("blob {} lies outside or upon another", extent.digest)),
            }
        }
        (self.index.size > MAX_MANIFEST_LEN).then(|| "its index.json is too large".to_owned())
    }
}

/// What two ranges have in common.
pub(in crate::archive) fn overlap(one: &Range<u64>, other: &Range<u64>) -> Option<Range<u64>> {
    let common = one.start.max(other.start)..one.end.min(other.end);
    (!common.is_empty()).then_some(common)
}

fn part_name(archive: &str, number: u32) -> String {
    format!("{archive}{PART}{number:04}")
}
