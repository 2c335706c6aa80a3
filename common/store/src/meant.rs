//! This module owns [`MeantImage`]: what a person means by a name or an id. An id is the beginning of a digest: of what a name
//! leads to, of the manifest for one platform below it, or of a config.

use std::collections::BTreeMap;

use gantry_model::{Digest, ImageReference};

use crate::images::{is_index, parse};
use crate::manifest::{Index, MAX_MANIFEST_LEN, Manifest};
use crate::references::References;
use crate::{Descriptor, Store, StoreError};

/// Fewest digits of a digest that name an image.
const MIN_ID_LEN: usize = 6;
/// Most images an error lists.
const LISTED: usize = 8;

/// What a person means by a name or an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeantImage {
    /// A name of the image; of several the first.
    pub name: ImageReference,
    /// The manifest for one platform, where the text is a digest of it and the name leads to an index.
    pub manifest: Option<Digest>,
}

impl Store {
    /// The image that a person means by `text`: a name, or the first digits (at least 6) of a digest.
    ///
    /// # Errors
    /// When there is none, or the digits fit several.
    pub fn meant(&self, text: &str) -> Result<MeantImage, StoreError> {
        let references = self.references()?;
        let wanted = text.parse::<ImageReference>();
        if let Ok(wanted) = &wanted {
            if let Some((name, _)) = references.find(wanted) {
                let (name, manifest) = (name.clone(), None);
                return Ok(MeantImage { name, manifest });
            }
            if let Some(digest) = wanted.digest()
                && let Some((name, _)) = self.member(&references, wanted, digest)
            {
                let manifest = Some(*digest);
                return Ok(MeantImage { name, manifest });
            }
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() >= MIN_ID_LEN && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            let mut fitting = self.with_id(&references, digits);
            match fitting.len() {
                0 => {}
                1 => return Ok(fitting.pop_first().expect("there is one").1),
                count => {
                    let listed = fitting.iter().take(LISTED);
                    let listed = listed.map(|(digest, meant)| format!("{} ({})", digest.short(), meant.name));
                    let listed = listed.collect::<Vec<_>>().join(", ");
                    let more = count.saturating_sub(LISTED);
                    let more = if more == 0 {
                        String::new()
                    } else {
                        format!(" and {more} more")
                    };
                    let reason = format!("it fits several images, {listed}{more}: give more digits");
                    return Err(StoreError::malformed(format!("image id {text}"), reason));
                }
            }
        }
        match wanted {
            Ok(wanted) => Err(references.no_such_image(&wanted)),
            Err(error) => Err(StoreError::malformed("image name", error.to_string())),
        }
    }

    /// The name of the image that a person means by `text`; see [`Store::meant`].
    ///
    /// # Errors
    /// Like [`Store::meant`].
    pub fn find_name(&self, text: &str) -> Result<ImageReference, StoreError> {
        Ok(self.meant(text)?.name)
    }

    /// What `reference` leads to. A digest may be that of a manifest in an index that is here.
    pub(crate) fn leads_to(&self, reference: &ImageReference) -> Result<Descriptor, StoreError> {
        let references = self.references()?;
        if let Some((_, target)) = references.find(reference) {
            return Ok(target.clone());
        }
        let member = reference
            .digest()
            .and_then(|digest| self.member(&references, reference, digest));
        member.map_or_else(
            || Err(references.no_such_image(reference)),
            |(_, entry)| Ok(entry),
        )
    }

    /// The indexes that names lead to and that list the manifest `image`: that of `name` first, then those of its repository.
    ///
    /// # Errors
    /// When `images.json` cannot be read.
    pub fn indexes_with(
        &self,
        image: &Digest,
        name: Option<&ImageReference>,
    ) -> Result<Vec<Digest>, StoreError> {
        let references = self.references()?;
        let mut found: Vec<Digest> = Vec::new();
        for (_, target) in nearest_first(&references, name) {
            let lists_it = || self.members(target).iter().any(|entry| entry.digest == *image);
            if !found.contains(&target.digest) && lists_it() {
                found.push(target.digest);
            }
        }
        Ok(found)
    }

    /// The manifest `digest` in an index, and a name of that.
    fn member(
        &self,
        references: &References,
        near: &ImageReference,
        digest: &Digest,
    ) -> Option<(ImageReference, Descriptor)> {
        let size = self.blobs().size(digest).ok().flatten()?;
        nearest_first(references, Some(near))
            .into_iter()
            .find_map(|(name, target)| {
                let entries = self.members(target).into_iter();
                let entry = entries
                    .filter(Descriptor::is_image)
                    .find(|entry| entry.digest == *digest)?;
                let entry = Descriptor {
                    // What an index says of sizes is not always right.
                    size,
                    platform: None,
                    annotations: BTreeMap::new(),
                    ..entry
                };
                Some((name.clone(), entry))
            })
    }

    /// The images that have a digest that begins so, by the digest of their manifest or index.
    fn with_id(&self, references: &References, digits: &str) -> BTreeMap<Digest, MeantImage> {
        let begins = |digest: &Digest| digest.hex().starts_with(digits);
        let has_id =
            |digest: &Digest| begins(digest) || self.config_of(digest).is_some_and(|one| begins(&one));
        let mut fitting = BTreeMap::new();
        let mut add = |digest, name: &ImageReference, manifest| {
            let name = name.clone();
            fitting.entry(digest).or_insert(MeantImage { name, manifest });
        };
        // A name that leads to the manifest itself goes before one that leads to an index.
        for (name, target) in &references.images {
            let is_it = match is_index(&target.media_type) {
                true => begins(&target.digest),
                false => has_id(&target.digest),
            };
            if is_it {
                add(target.digest, name, None);
            }
        }
        for (name, target) in &references.images {
            let here = self.members(target).into_iter().filter(Descriptor::is_image);
            for entry in here.filter(|entry| has_id(&entry.digest) && self.blobs().exists(&entry.digest)) {
                add(entry.digest, name, Some(entry.digest));
            }
        }
        fitting
    }

    /// The entries of the index at `target`; none for what is no index, or damaged.
    fn members(&self, target: &Descriptor) -> Vec<Descriptor> {
        if !is_index(&target.media_type) {
            return Vec::new();
        }
        let bytes = self.blobs().read(&target.digest, "index", MAX_MANIFEST_LEN);
        let index = bytes.and_then(|bytes| parse::<Index>(&bytes, "index"));
        index.map(|index| index.manifests).unwrap_or_default()
    }

    /// The config of the manifest `image`, if that is here and whole.
    fn config_of(&self, image: &Digest) -> Option<Digest> {
        let bytes = self.blobs().read(image, "manifest", MAX_MANIFEST_LEN).ok()?;
        Some(parse::<Manifest>(&bytes, "manifest").ok()?.config.digest)
    }
}

/// All names with what they lead to, those first that are most like `name`.
fn nearest_first<'r>(
    references: &'r References,
    name: Option<&ImageReference>,
) -> Vec<(&'r ImageReference, &'r Descriptor)> {
    let mut named: Vec<_> = references.images.iter().collect();
    named.sort_by_key(|(other, _)| name.map(|name| (*other != name, other.name() != name.name())));
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::{image_for, name};
    use crate::testing::{self, TestStore};

    /// `demo:v1` leads to both, `amd:v1` to one of them alone.
    fn with_index() -> (TestStore, Vec<Descriptor>) {
        let test = testing::store();
        let store = &test.store;
        image_for(store, "amd:v1", "amd64", "amd64");
        image_for(store, "arm:v1", "arm64", "arm64");
        let of = |text: &str| store.platforms(&name(text)).unwrap();
        let both = [of("amd:v1"), of("arm:v1")].concat();
        store.set_platforms(&name("demo:v1"), both.clone()).unwrap();
        store.remove_image(&name("arm:v1")).unwrap();
        (test, both)
    }

    #[test]
    fn every_id_of_an_image_means_it() {
        let (test, both) = with_index();
        let store = &test.store;
        let index = store.target(&name("demo:v1")).unwrap().digest;
        let config = |digest: &Digest| store.image_by_digest(digest).unwrap().config_digest;
        for (digest, of, manifest) in [
            (index, "demo:v1", None),
            (both[0].digest, "amd:v1", None),
            (config(&both[0].digest), "amd:v1", None),
            (both[1].digest, "demo:v1", Some(both[1].digest)),
            (config(&both[1].digest), "demo:v1", Some(both[1].digest)),
        ] {
            for text in [
                digest.to_string(),
                digest.hex(),
                digest.short(),
                digest.hex()[..8].to_owned(),
            ] {
                let meant = store.meant(&text).unwrap();
                assert_eq!((meant.name, meant.manifest), (name(of), manifest), "{text}");
            }
        }
        // A name with the digest of one platform leads to that one, whatever this machine is.
        let by_digest = name(&format!("demo@{}", both[1].digest));
        assert_eq!(store.target(&by_digest).unwrap().digest, both[1].digest);
        assert_eq!(store.image(&by_digest).unwrap().config.architecture, "arm64");
        assert_eq!(
            store.meant(&by_digest.to_string()).unwrap().manifest,
            Some(both[1].digest)
        );
        assert!(store.meant(&format!("demo@{}", Digest::of(b"nothing"))).is_err());
    }

    #[test]
    fn an_id_that_fits_several_images_is_refused_and_they_are_named() {
        let test = testing::store();
        let blob = test.store.blobs().put_bytes(b"{}").unwrap();
        let target = Descriptor::of_blob(&blob, 2);
        // Nobody looks at what names lead to while ids are compared.
        let other = Digest::from_hex(&format!("{}0", &blob.hex()[..63])).unwrap();
        let other = if other == blob {
            Digest::from_hex(&format!("{}1", &blob.hex()[..63])).unwrap()
        } else {
            other
        };
        let others = Descriptor::of_blob(&other, 2);
        test.store.set_reference(&name("one:v1"), target).unwrap();
        test.store.set_reference(&name("two:v1"), others).unwrap();
        let error = test.store.meant(&blob.short()).unwrap_err().to_string();
        assert!(
            error.contains("(one:v1)") && error.contains("(two:v1)"),
            "{error}"
        );
        assert_eq!(test.store.meant(&blob.hex()).unwrap().name, name("one:v1"));
    }

    #[test]
    fn indexes_are_found_by_what_they_list() {
        let (test, both) = with_index();
        let store = &test.store;
        let index = store.target(&name("demo:v1")).unwrap().digest;
        for entry in &both {
            assert_eq!(store.indexes_with(&entry.digest, None).unwrap(), [index]);
        }
        assert_eq!(store.indexes_with(&index, None).unwrap(), []);
        // Of several, that of the name goes first.
        let alone = store
            .set_platforms(&name("other:v1"), both[..1].to_vec())
            .unwrap();
        let of = |text: &str| store.indexes_with(&both[0].digest, Some(&name(text))).unwrap();
        assert_eq!(of("other:v1"), [alone, index]);
        assert_eq!(of("demo:v9"), [index, alone]);
    }
}
