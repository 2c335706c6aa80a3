//! One COPY, several layers: blobs of a `registry/`, and other large files, get layers of their own. So another container image, or
//! another kubelet, is one more layer to build, push and pull, and a changed script is one small layer: not another copy of all.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use gantry_model::Digest;

use super::{CopyPlan, Item};

/// Where a registry has its blobs (docker distribution, filesystem driver): `…/XX/DIGEST/data`.
const BLOBS: &str = "registry/docker/registry/v2/blobs/sha256/";
/// The file of a blob in its folder.
const DATA: &str = "/data";
/// Smaller blobs (configs, manifests) and files are not worth a layer. Bytes.
pub(in super::super) const MIN_BLOB_LEN: u64 = 1 << 20;
/// Most layers for the blobs of one COPY. Of the 128 that an image may have, it leaves enough for everything else.
const MAX_BLOB_LAYERS: usize = 32;
/// Most layers for other large files of one COPY.
const MAX_FILE_LAYERS: usize = 16;

/// What is in a layer of one COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Part {
    /// Everything that has no layer of its own.
    Rest,
    /// Blobs of a `registry/`.
    Blobs,
    /// Other large files.
    Files,
}

impl Part {
    /// What history says of it behind the words of the step.
    pub(in super::super) const fn note(self) -> &'static str {
        match self {
            Self::Rest => "",
            Self::Blobs => " (blobs of registry/)",
            Self::Files => " (large files)",
        }
    }
}

/// The large blobs of a `registry/`, by where they lie in the rootfs.
#[derive(Debug)]
pub(in super::super) struct LargeBlobs(Vec<String>);

impl LargeBlobs {
    /// The blobs that lie at `paths`.
    pub(in super::super) const fn new(paths: Vec<String>) -> Self {
        Self(paths)
    }

    /// The blobs in groups that are layers of their own; none if there is nothing to group, or no `room` for as many layers.
    pub(in super::super) fn groups(self, room: usize) -> Option<Vec<Vec<String>>> {
        groups(self.0, MAX_BLOB_LAYERS, of_blob, room)
    }
}

/// `paths` in at most `most` groups, by the number that `number` gives each. Each decides by itself where it goes, so that it is
/// in the same layer whatever lies beside it.
fn groups(
    paths: Vec<String>,
    most: usize,
    number: impl Fn(&str) -> u8,
    room: usize,
) -> Option<Vec<Vec<String>>> {
    // A layer each, as long as there are few; else those with like numbers together.
    let together = paths.len() > most;
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in paths {
        let name = if together {
            format!("{:02}", usize::from(number(&path)) % most)
        } else {
            path.clone()
        };
        groups.entry(name).or_default().push(path);
    }
    (!groups.is_empty() && groups.len() < room).then(|| groups.into_values().collect())
}

impl CopyPlan {
    /// The plan in parts that are layers of their own, bottom first; in one if there is no `room` for as many layers.
    pub(in super::super) fn split(mut self, room: usize) -> Vec<(Part, Self)> {
        let large = self.items.iter().filter(|(_, item)| is_large(item));
        let large = large.map(|(path, _)| path.clone());
        let (blobs, files): (Vec<String>, Vec<String>) = large.partition(|path| is_blob(path));
        let blobs = LargeBlobs::new(blobs).groups(room).unwrap_or_default();
        let files = groups(files, MAX_FILE_LAYERS, of_file, room.saturating_sub(blobs.len()));
        let parts = blobs.into_iter().map(|paths| (Part::Blobs, paths));
        let parts = parts.chain(files.into_iter().flatten().map(|paths| (Part::Files, paths)));
        let parts: Vec<(Part, Vec<String>)> = parts.collect();
        let mut plans = Vec::new();
        for (part, paths) in &parts {
            let mut plan = Self {
                mode: self.mode,
                ..Self::default()
            };
            for path in paths {
                let item = self.items.get(path).cloned();
                plan.items.extend(item.map(|item| (path.clone(), item)));
                plan.add_folders_of(path, &self);
            }
            plans.push((*part, plan));
        }
        for path in parts.iter().flat_map(|(_, paths)| paths) {
            self.items.remove(path);
        }
        // Folders on the way are in the parts, too.
        let is_carried = |path: &String| plans.iter().any(|(_, plan)| plan.items.contains_key(path));
        let is_needed = plans.is_empty() || !self.items.keys().all(is_carried);
        let rest = is_needed.then_some((Part::Rest, self));
        rest.into_iter().chain(plans).collect()
    }

    /// The folders on the way to `path`, as `whole` has them.
    fn add_folders_of(&mut self, path: &str, whole: &Self) {
        let mut path = path;
        while let Some((folder, _)) = path.rsplit_once('/') {
            if let Some(item) = whole.items.get(folder) {
                self.items.insert(folder.to_owned(), item.clone());
            }
            path = folder;
        }
    }
}

/// What tells which blobs lie together: how their digest begins.
fn of_blob(path: &str) -> u8 {
    path.rsplit_once(BLOBS)
        .and_then(|(_, rest)| u8::from_str_radix(rest.get(..2)?, 16).ok())
        .unwrap_or(0)
}

/// What tells which files lie together: their path, for they are others when their content changes.
fn of_file(path: &str) -> u8 {
    Digest::of(path.as_bytes()).as_bytes()[0]
}

/// Whether it is a blob of the image's own registry, not of a folder that looks like one.
fn is_blob(path: &str) -> bool {
    path.strip_suffix(DATA).is_some_and(|folder| {
        folder
            .split_once(BLOBS)
            .is_some_and(|(root, rest)| root.is_empty() && rest.split('/').count() == 2)
    })
}

/// Whether it may have a layer of its own. A file with several names stays with them.
fn is_large(item: &Item) -> bool {
    let Item::Source(file) = item else {
        return false;
    };
    fs::symlink_metadata(file)
        .is_ok_and(|found| found.is_file() && found.len() >= MIN_BLOB_LEN && found.nlink() == 1)
}
