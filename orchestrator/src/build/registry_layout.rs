//! This module owns [`RegistryLayout`]: container images as files of a `registry/` (docker distribution, filesystem driver), in parts
//! that become layers.

use std::collections::BTreeMap;

use gantry_model::{Digest, ImageReference, RegistryPlaces};
use serde::Serialize;

use crate::completeness::{REGISTRY_ROOT, RegistryContents, data_path, places_of};

use super::copy::{LargeBlobs, MIN_BLOB_LEN};
use super::image_source::FoundContainerImage;

/// What is laid into `registry/`.
#[derive(Debug, Default)]
pub(super) struct RegistryLayout {
    /// Text of each link, by its path in the rootfs.
    links: BTreeMap<String, String>,
    /// Blobs by digest, with their sizes.
    blobs: BTreeMap<Digest, u64>,
    /// Tags that are set: by repository and tag, what each leads to, and the name that it was set for.
    tags: BTreeMap<(String, String), (Digest, ImageReference)>,
}

/// Two different images of which hosts would look for in one place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{image} has no place in registry/: {place} there is {other}, and not the same image")]
pub(super) struct PlaceTaken {
    /// The image that finds no place.
    image: String,
    /// `REPOSITORY:TAG`.
    place: String,
    /// What is there.
    other: String,
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
    /// Images, each in its own place and in the one that mirrors are asked for. What is `inside` already keeps its place; where
    /// several want one, it is who has no other, then Docker Hub, whose mirrors are asked by all runtimes, then the first by name.
    ///
    /// # Errors
    /// When one finds no place at all, or two spellings of one name (`docker.io`, `index.docker.io`) are different images.
    pub(super) fn of<'i>(
        images: impl IntoIterator<Item = (&'i ImageReference, &'i FoundContainerImage)>,
        inside: &RegistryContents<'_>,
    ) -> Result<Self, PlaceTaken> {
        let mut layout = Self::default();
        let mut images: Vec<_> = images.into_iter().collect();
        images.sort_by_key(|(name, _)| (rank(name), *name));
        for (name, image) in &images {
            layout.link_content(name, image);
        }
        // A digest beside a tag is what counts; the tag is somebody's remark, and moves nothing.
        for (name, image) in images.into_iter().filter(|(name, _)| name.digest().is_none()) {
            layout.set_tags(name, &image.digest, inside)?;
        }
        Ok(layout)
    }

    fn link_content(&mut self, name: &ImageReference, image: &FoundContainerImage) {
        for blob in image.manifests.iter().chain(&image.blobs) {
            self.blobs.insert(blob.digest, blob.size);
        }
        let RegistryPlaces { own, shared } = places_of(name);
        for repository in own.into_iter().chain([shared]) {
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
    }

    fn set_tags(
        &mut self,
        name: &ImageReference,
        digest: &Digest,
        inside: &RegistryContents<'_>,
    ) -> Result<(), PlaceTaken> {
        let Some(tag) = name.tag() else { return Ok(()) };
        let RegistryPlaces { own, shared } = places_of(name);
        // Another image may have the shared place, if there is one that nobody else can have.
        let places = match own {
            Some(own) => vec![(own, false), (shared, true)],
            None => vec![(shared, false)],
        };
        for (repository, may_be_anothers) in places {
            let place = (repository, tag.to_owned());
            let there = match self.tags.get(&place) {
                Some((other, of)) => Some((*other, of.to_string())),
                None => inside
                    .tag(&place.0, tag)
                    .map(|other| (other, "another image, which is inside already".to_owned())),
            };
            match there {
                Some((other, _)) if other == *digest => {}
                Some(_) if may_be_anothers => continue,
                Some((_, other)) => {
                    return Err(PlaceTaken {
                        image: name.to_string(),
                        place: format!("{}:{tag}", place.0),
                        other,
                    });
                }
                None => {}
            }
            let tags = format!("{}/_manifests/tags/{tag}", place.0);
            self.tags.insert(place, (*digest, name.clone()));
            self.link(&format!("{tags}/current"), digest);
            self.link(&format!("{tags}/index/sha256/{}", digest.hex()), digest);
        }
        Ok(())
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

/// Whose tags come first: of those who have no other place, of Docker Hub, of others.
fn rank(name: &ImageReference) -> u8 {
    match places_of(name).own {
        None => 0,
        Some(own) if own.starts_with("docker.io/") => 1,
        Some(_) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_store::{Descriptor, Rootfs};

    /// An image whose manifest is `content`.
    fn image(content: &str) -> FoundContainerImage {
        let digest = Digest::of(content.as_bytes());
        FoundContainerImage {
            digest,
            manifests: vec![Descriptor {
                media_type: String::new(),
                digest,
                size: content.len() as u64,
                platform: None,
                annotations: BTreeMap::new(),
            }],
            blobs: Vec::new(),
        }
    }

    fn layout(images: &[(&str, &str)]) -> Result<RegistryLayout, PlaceTaken> {
        layout_on(&[], images)
    }

    fn layout_on(inside: &[(&str, &[u8])], images: &[(&str, &str)]) -> Result<RegistryLayout, PlaceTaken> {
        let images: Vec<(ImageReference, FoundContainerImage)> = images
            .iter()
            .map(|(name, content)| (name.parse().unwrap(), image(content)))
            .collect();
        let rootfs = Rootfs::default();
        let inside = RegistryContents::read(&rootfs).unwrap().and_tags(inside);
        RegistryLayout::of(images.iter().map(|(name, image)| (name, image)), &inside)
    }

    fn leads_to(layout: &RegistryLayout, tagged: &str) -> Option<String> {
        let (repository, tag) = tagged.rsplit_once(':').unwrap();
        let link = format!("{REGISTRY_ROOT}repositories/{repository}/_manifests/tags/{tag}/current/link");
        layout.links.get(&link).cloned()
    }

    fn digest(content: &str) -> Option<String> {
        Some(Digest::of(content.as_bytes()).to_string())
    }

    #[test]
    fn images_of_two_registries_with_one_path_are_both_there() {
        let layout = layout(&[("a.lab:5000/app/web:1", "lab"), ("app/web:1", "hub")]).unwrap();
        assert_eq!(leads_to(&layout, "docker.io/app/web:1"), digest("hub"));
        assert_eq!(leads_to(&layout, "a.lab_5000/app/web:1"), digest("lab"));
        assert_eq!(
            leads_to(&layout, "app/web:1"),
            digest("hub"),
            "as docker asks its mirrors"
        );
        let shared = format!("{REGISTRY_ROOT}repositories/app/web/_manifests/revisions/sha256/");
        let revisions = layout.links.keys().filter(|path| path.starts_with(&shared));
        assert_eq!(revisions.count(), 2, "by digest both are there");
    }

    #[test]
    fn images_of_registries_with_ipv6_addresses_keep_their_registry() {
        let images = [
            ("[::1]:5000/app/web:1", "one"),
            ("[::1]:5001/app/web:1", "other"),
            ("[0:0::1]:5000/app/db:1", "db"),
        ];
        let layout = layout(&images).unwrap();
        let folder = "0-0-0-0-0-0-0-1.ip6.arpa";
        assert_eq!(
            leads_to(&layout, &format!("{folder}_5000/app/web:1")),
            digest("one")
        );
        assert_eq!(
            leads_to(&layout, &format!("{folder}_5001/app/web:1")),
            digest("other")
        );
        assert_eq!(
            leads_to(&layout, &format!("{folder}_5000/app/db:1")),
            digest("db")
        );
        assert_eq!(leads_to(&layout, "app/web:1"), digest("one"), "it was the first");
    }

    #[test]
    fn a_digest_beside_a_tag_moves_no_tag() {
        let by_digest = format!("docker.io/app/web:1@{}", Digest::of(b"old"));
        for images in [
            [("docker.io/app/web:1", "new"), (&by_digest, "old")],
            [(&by_digest, "old"), ("docker.io/app/web:1", "new")],
        ] {
            let layout = layout(&images).unwrap();
            for place in ["docker.io/app/web:1", "app/web:1"] {
                assert_eq!(leads_to(&layout, place), digest("new"));
            }
        }
        let alone = layout(&[(&by_digest, "old")]).unwrap();
        assert_eq!(leads_to(&alone, "app/web:1"), None);
        assert_eq!(alone.links.len(), 2, "its manifest, in both places");
    }

    #[test]
    fn two_spellings_of_one_name_are_one_image() {
        for other in ["index.docker.io/library/web:1", "web:1"] {
            let same = layout(&[("docker.io/library/web:1", "one"), (other, "one")]).unwrap();
            assert_eq!(leads_to(&same, "docker.io/library/web:1"), digest("one"));
            let error = layout(&[("docker.io/library/web:1", "one"), (other, "two")]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "{other} has no place in registry/: docker.io/library/web:1 there is docker.io/library/web:1, and not the same image"
                )
            );
        }
        let by_digest = format!("index.docker.io/library/web@{}", Digest::of(b"two"));
        let both = layout(&[("docker.io/library/web:1", "one"), (&by_digest, "two")]).unwrap();
        assert_eq!(leads_to(&both, "docker.io/library/web:1"), digest("one"));
        let revision = format!(
            "web/_manifests/revisions/sha256/{}/link",
            Digest::of(b"two").hex()
        );
        assert!(
            both.links.keys().any(|path| path.ends_with(&revision)),
            "{both:?}"
        );
    }

    #[test]
    fn who_finds_no_place_is_named() {
        // Docker Hub's name before it makes it too long for a place of its own.
        let long = "b".repeat(ImageReference::MAX_NAME_LEN);
        let hub = format!("{long}:1");
        assert_eq!(
            leads_to(&layout(&[(&hub, "hub")]).unwrap(), &format!("library/{hub}")),
            digest("hub")
        );
        let tagged = format!("library/{hub}");
        let error = layout_on(&[(&tagged, b"other")], &[(&hub, "hub")])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(&format!("{hub} has no place")), "{error}");
        layout_on(&[(&tagged, b"hub")], &[(&hub, "hub")]).unwrap();
    }
}
