//! This module owns images for several platforms that are put together here: which platforms a name has, and how that
//! changes.

use std::collections::BTreeMap;

use gantry_model::{Digest, ImageReference};

use crate::images::{is_index, parse};
use crate::manifest::{Index, MAX_MANIFEST_LEN, MEDIA_TYPE_INDEX};
use crate::{Descriptor, Platform, Store, StoreError};

impl Store {
    /// What an image has for each platform: the entries of its index, or itself. Entries say their platform, unless they
    /// are statements about an image.
    ///
    /// # Errors
    /// When there is no such image, or it is damaged.
    pub fn platforms(&self, reference: &ImageReference) -> Result<Vec<Descriptor>, StoreError> {
        let target = self.target(reference)?;
        if is_index(&target.media_type) {
            let what = format!("index of image {reference}");
            let index: Index = parse(
                &self.blobs().read(&target.digest, &what, MAX_MANIFEST_LEN)?,
                &what,
            )?;
            return Ok(index.manifests);
        }
        let config = self.image_by_digest(&target.digest)?.config;
        Ok(vec![Descriptor {
            platform: Some(Platform {
                architecture: config.architecture,
                os: config.os,
                variant: config.variant,
            }),
            ..target
        }])
    }

    /// Makes `name` lead to an index of these entries, which are as [`Store::platforms`] gives them. What it led to
    /// before is removed, as far as nothing else needs it.
    ///
    /// # Errors
    /// When there is none, two are for one platform, or the store cannot be written.
    pub fn set_platforms(
        &self,
        name: &ImageReference,
        entries: Vec<Descriptor>,
    ) -> Result<Digest, StoreError> {
        let mut seen = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.is_image()) {
            let platform = entry
                .platform
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            if let Some(present) = seen.insert(platform.clone(), entry.digest) {
                return Err(StoreError::TwoForPlatform {
                    image: name.to_string(),
                    platform,
                    present,
                });
            }
        }
        if seen.is_empty() {
            return Err(StoreError::malformed(
                format!("image {name}"),
                "there is no platform in it",
            ));
        }
        let (target, replaced) = {
            let _nothing_vanishes = self.share()?;
            let target = self.put_index(entries)?;
            (target.digest, self.set_reference(name, target)?)
        };
        self.release(replaced.as_slice())?;
        Ok(target)
    }

    /// Stores an index of `manifests`, each for its platform.
    pub(crate) fn put_index(&self, manifests: Vec<Descriptor>) -> Result<Descriptor, StoreError> {
        let index = Index {
            schema_version: 2,
            media_type: MEDIA_TYPE_INDEX.to_owned(),
            manifests,
        };
        let bytes = serde_json::to_vec(&index).expect("an index is plain data");
        Ok(Descriptor {
            media_type: index.media_type,
            digest: self.blobs().put_bytes(&bytes)?,
            size: bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::{image_for, name};
    use crate::testing;

    #[test]
    fn images_are_put_together_and_keep_what_they_need() {
        let test = testing::store();
        let store = &test.store;
        for architecture in ["amd64", "arm64"] {
            image_for(store, &format!("demo:{architecture}"), architecture, architecture);
        }
        let of = |text: &str| store.platforms(&name(text)).unwrap();
        let both = [of("demo:amd64"), of("demo:arm64")].concat();
        let digest = store.set_platforms(&name("demo:v1"), both.clone()).unwrap();
        assert_eq!(of("demo:v1"), both);
        let error = store
            .set_platforms(&name("demo:v1"), [both.clone(), of("demo:arm64")].concat())
            .unwrap_err();
        assert!(
            error.to_string().contains("has one for linux/arm64 already"),
            "{error}"
        );
        assert!(store.set_platforms(&name("demo:v1"), Vec::new()).is_err());
        assert_eq!(
            store.target(&name("demo:v1")).unwrap().digest,
            digest,
            "it is as it was"
        );
        for architecture in ["amd64", "arm64"] {
            store
                .remove_image(&name(&format!("demo:{architecture}")))
                .unwrap();
            let platform = Platform {
                architecture: architecture.to_owned(),
                os: "linux".to_owned(),
                variant: None,
            };
            let image = store.image_for(&name("demo:v1"), &platform).unwrap();
            assert_eq!(image.config.architecture, architecture);
        }
        assert!(store.check().unwrap().damage.is_empty());
        // Without one of them, what only it needed is gone.
        store.set_platforms(&name("demo:v1"), both[..1].to_vec()).unwrap();
        assert_eq!(store.blobs().list().unwrap().len(), 4);
    }
}
