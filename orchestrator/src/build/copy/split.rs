//! One COPY, several layers: blobs of a `registry/` get layers of their own, so that another container image in it is one
//! more small layer to build, push and pull, not another copy of all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{CopyPlan, Item};

/// Where a registry has its blobs (docker distribution, filesystem driver): `…/XX/DIGEST/data`.
const BLOBS: &str = "registry/docker/registry/v2/blobs/sha256/";
/// The file of a blob in its folder.
const DATA: &str = "/data";
/// Smaller blobs (configs, manifests) are not worth a layer. Bytes.
pub(in super::super) const MIN_BLOB_LEN: u64 = 1 << 20;
/// Most layers for the blobs of one COPY. Of the 128 that an image may have, it leaves enough for everything else.
const MAX_BLOB_LAYERS: usize = 32;

/// The large blobs of a `registry/`, by where they lie in the rootfs.
#[derive(Debug)]
pub(in super::super) struct LargeBlobs(Vec<String>);

impl LargeBlobs {
    /// The blobs that lie at `paths`.
    pub(in super::super) const fn new(paths: Vec<String>) -> Self {
        Self(paths)
    }

    /// The blobs in groups that are layers of their own; none if there is nothing to group, or no `room` for as many layers.
    /// Each blob decides by itself where it goes, so that it is in the same layer whatever lies beside it.
    pub(in super::super) fn groups(self, room: usize) -> Option<Vec<Vec<String>>> {
        // A layer each, as long as there are few; else those that begin alike together.
        let together = self.0.len() > MAX_BLOB_LAYERS;
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in self.0 {
            let name = if together { group(&path) } else { path.clone() };
            groups.entry(name).or_default().push(path);
        }
        (!groups.is_empty() && groups.len() < room).then(|| groups.into_values().collect())
    }
}

impl CopyPlan {
    /// The plan in parts that are layers of their own, bottom first; in one if there is no `room` for as many layers.
    pub(in super::super) fn split(mut self, room: usize) -> Vec<Self> {
        let blobs = self.items.iter().filter(|(path, item)| is_large_blob(path, item));
        let blobs = LargeBlobs::new(blobs.map(|(path, _)| path.clone()).collect());
        let Some(groups) = blobs.groups(room) else {
            return vec![self];
        };
        let mut plans = Vec::new();
        for paths in &groups {
            let mut plan = Self::default();
            for path in paths {
                let item = self.items.get(path).cloned();
                plan.items.extend(item.map(|item| (path.clone(), item)));
                plan.add_folders_of(path, &self);
            }
            plans.push(plan);
        }
        for path in groups.iter().flatten() {
            self.items.remove(path);
        }
        let rest = (!self.items.is_empty()).then_some(self);
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

/// The part that a blob is in when there are many: one of [`MAX_BLOB_LAYERS`], by its digest.
fn group(path: &str) -> String {
    let first = path
        .rsplit_once(BLOBS)
        .and_then(|(_, rest)| u8::from_str_radix(rest.get(..2)?, 16).ok())
        .unwrap_or(0);
    format!("{:02}", usize::from(first) % MAX_BLOB_LAYERS)
}

fn is_large_blob(path: &str, item: &Item) -> bool {
    let is_blob = path.strip_suffix(DATA).is_some_and(|folder| {
        folder.split_once(BLOBS).is_some_and(|(root, rest)| {
            // Of the image's own registry, not of a folder that looks like one.
            root.is_empty() && rest.split('/').count() == 2
        })
    });
    let is_large = |file: &Path| {
        fs::symlink_metadata(file).is_ok_and(|found| found.is_file() && found.len() >= MIN_BLOB_LEN)
    };
    is_blob && matches!(item, Item::Source(file) if is_large(file))
}
