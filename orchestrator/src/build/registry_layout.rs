//! This module owns [`RegistryLayout`]: container images as files of a `registry/` (docker distribution, filesystem driver), in parts
//! that become layers.

use std::collections::BTreeMap;

use gantry_model::{Digest, ImageReference};
use serde::Serialize;

use crate::completeness::{REGISTRY_ROOT, RegistryContents, data_path, repositories_of};

use super::copy::{LargeBlobs, MIN_BLOB_LEN};
use super::image_source::FoundContainerImage;

/// What is laid into `registry/`.
#[derive(Debug, Default)]
pub(super) struct RegistryLayout {
    /// Text of each link, by its path in the rootfs.
    links: BTreeMap<String, String>,
    /// Blobs by digest, with their sizes.
    blobs: BTreeMap<Digest, u64>,
    /// What each name without its registry leads to.
    aliases: BTreeMap<(String, String), Digest>,
}

/// Files that become one layer.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct LayoutPart {
    /// Text of each link, by its path in the rootfs.
    pub(super) links: BTreeMap<String, String>,
    /// Blobs.
    pub(super) blobs: Vec<Digest>,
}

impl RegistryLayout {
    /// Adds an image under its name, with its registry's name before it and without. What is `inside` already keeps its place.
    ///
    /// Gives the name under which hosts do not find it, because another image has it.
    pub(super) fn add(
        &mut self,
        name: &ImageReference,
        image: &FoundContainerImage,
        inside: &RegistryContents<'_>,
    ) -> Option<String> {
        for blob in image.manifests.iter().chain(&image.blobs) {
            self.blobs.insert(blob.digest, blob.size);
        }
        let mut taken = None;
        let repositories = repositories_of(name);
        let last = repositories.len() - 1;
        for (number, repository) in repositories.into_iter().enumerate() {
            if let Some(tag) = name.tag() {
                let of_others = self.aliases.get(&(repository.clone(), tag.to_owned())).copied();
                let of_others = of_others.or_else(|| inside.tag(&repository, tag));
                if number == last && of_others.is_some_and(|other| other != image.digest) {
                    taken = Some(format!("{repository}:{tag}"));
                    continue;
                }
                self.aliases
                    .insert((repository.clone(), tag.to_owned()), image.digest);
                let tags = format!("{repository}/_manifests/tags/{tag}");
                self.link(&format!("{tags}/current"), &image.digest);
                self.link(
                    &format!("{tags}/index/sha256/{}", image.digest.hex()),
                    &image.digest,
                );
            }
            for manifest in &image.manifests {
                let hex = manifest.digest.hex();
                self.link(
                    &format!("{repository}/_manifests/revisions/sha256/{hex}"),
                    &manifest.digest,
                );
            }
            for blob in &image.blobs {
                let hex = blob.digest.hex();
                self.link(&format!("{repository}/_layers/sha256/{hex}"), &blob.digest);
            }
        }
        taken
    }

    /// The files in parts that are layers of their own, bottom first, with at most `room` parts. Each large blob decides by
    /// itself which part it is in. Blobs for which `is_there` holds are left out.
    pub(super) fn parts(self, room: usize, is_there: impl Fn(&str) -> bool) -> Vec<LayoutPart> {
        let blobs = self.blobs.into_iter();
        let blobs: Vec<(Digest, u64)> = blobs
            .filter(|(digest, _)| !is_there(&data_path(digest)))
            .collect();
        let (large, small): (Vec<_>, Vec<_>) = blobs.into_iter().partition(|(_, size)| *size >= MIN_BLOB_LEN);
        let mut rest = LayoutPart {
            links: self.links,
            blobs: small.into_iter().map(|(digest, _)| digest).collect(),
        };
        let places = large.iter().map(|(digest, _)| data_path(digest)).collect();
        let Some(groups) = LargeBlobs::new(places).groups(room) else {
            rest.blobs.extend(large.into_iter().map(|(digest, _)| digest));
            return vec![rest];
        };
        let by_place: BTreeMap<String, Digest> = large
            .into_iter()
            .map(|(digest, _)| (data_path(&digest), digest))
            .collect();
        let mut parts = vec![rest];
        parts.extend(groups.into_iter().map(|places| {
            LayoutPart {
                links: BTreeMap::new(),
                blobs: places
                    .iter()
                    .filter_map(|place| by_place.get(place).copied())
                    .collect(),
            }
        }));
        parts
    }

    fn link(&mut self, folder: &str, digest: &Digest) {
        let path = format!("{REGISTRY_ROOT}repositories/{folder}/link");
        self.links.insert(path, digest.to_string());
    }
}
