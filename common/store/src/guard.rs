//! This module owns [`Guard`]: whoever decides which images get names in a store, and what it is shown of them.
//!
//! The store knows no policy. It asks, before a name leads to anything.

use std::fmt;
use std::sync::Arc;

use gantry_model::{Digest, ImageEvidence, ImageReference, ImageSignature};

use crate::images::{is_index, parse};
use crate::manifest::{Index, MAX_MANIFEST_LEN};
use crate::{Descriptor, Image, Store, StoreError};

/// Decides about images, each by the name it is to have.
#[derive(Clone)]
pub struct Guard {
    decide: Arc<Decide>,
    known: Option<Arc<Known>>,
}

type Decide = dyn Fn(&ImageEvidence) -> Result<(), StoreError> + Send + Sync;
type Known = dyn Fn(&Digest, &[&ImageSignature]) -> Vec<bool> + Send + Sync;

impl Guard {
    /// A guard that decides so.
    pub fn new(decide: impl Fn(&ImageEvidence) -> Result<(), StoreError> + Send + Sync + 'static) -> Self {
        Self {
            decide: Arc::new(decide),
            known: None,
        }
    }

    /// The same guard, which tells of signatures over an image whether they are by keys that it knows: where there are more than
    /// there is room for, those are kept.
    #[must_use]
    pub fn knowing(
        mut self,
        known: impl Fn(&Digest, &[&ImageSignature]) -> Vec<bool> + Send + Sync + 'static,
    ) -> Self {
        self.known = Some(Arc::new(known));
        self
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Store {
    /// The same store: images that are pulled, loaded or planned with get past `guard` first.
    #[must_use]
    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Asks the guard about the image at `target`, by `name`; of an index, about each image of it that is here. Documents and
    /// signatures are in the store, layers need not be.
    ///
    /// # Errors
    /// When it is refused, or a document is damaged.
    pub fn ask_guard(&self, name: &ImageReference, target: &Descriptor) -> Result<(), StoreError> {
        let Some(guard) = &self.guard else {
            return Ok(());
        };
        let what = format!("manifest of image {name}");
        let bytes = self.blobs().read(&target.digest, &what, MAX_MANIFEST_LEN)?;
        if !is_index(&target.media_type) {
            let index = self.index_of(name, &target.digest)?;
            return (guard.decide)(&self.evidence(name, target.digest, bytes, index)?);
        }
        let index: Index = parse(&bytes, &what)?;
        let here = index
            .manifests
            .iter()
            .filter(|entry| entry.is_image() && self.blobs().exists(&entry.digest));
        for entry in here {
            let manifest = self.blobs().read(&entry.digest, &what, MAX_MANIFEST_LEN)?;
            let index = Some((target.digest, bytes.clone()));
            (guard.decide)(&self.evidence(name, entry.digest, manifest, index)?)?;
        }
        Ok(())
    }

    /// What speaks for `image`, used by `name`; the guard has accepted it.
    ///
    /// # Errors
    /// When it is refused, or what there is of signatures is damaged.
    pub fn accepted(&self, name: &ImageReference, image: &Image) -> Result<ImageEvidence, StoreError> {
        let digest = image.manifest_digest;
        let index = self.index_of(name, &digest)?;
        let evidence = self.evidence(name, digest, image.manifest_bytes.clone(), index)?;
        if let Some(guard) = &self.guard {
            (guard.decide)(&evidence)?;
        }
        Ok(evidence)
    }

    /// The index that speaks for `image`: the one that `name` leads to, or another one that lists it and is signed
    /// by a key that the guard knows.
    fn index_of(
        &self,
        name: &ImageReference,
        image: &Digest,
    ) -> Result<Option<(Digest, Vec<u8>)>, StoreError> {
        let own = self.target(name).ok().map(|target| target.digest);
        let mut chosen = None;
        for index in self.indexes_with(image, Some(name))? {
            let is_signed = self
                .known_signatures(&index, &self.signatures(&index)?)
                .contains(&true);
            if is_signed || own == Some(index) {
                chosen = Some(index);
            }
            if is_signed {
                break;
            }
        }
        let what = format!("index of image {name}");
        let read = |digest| {
            let bytes = self.blobs().read(&digest, &what, MAX_MANIFEST_LEN)?;
            Ok((digest, bytes))
        };
        chosen.map(read).transpose()
    }

    /// Which of these signatures over `image` are by keys that the guard knows; all, where there is nobody to tell.
    pub(crate) fn known_signatures<'a>(
        &self,
        image: &Digest,
        signatures: impl IntoIterator<Item = &'a ImageSignature>,
    ) -> Vec<bool> {
        let signatures: Vec<&ImageSignature> = signatures.into_iter().collect();
        match self.guard.as_ref().and_then(|guard| guard.known.as_ref()) {
            Some(known) => known(image, &signatures),
            None => vec![true; signatures.len()],
        }
    }

    fn evidence(
        &self,
        name: &ImageReference,
        image: Digest,
        manifest: Vec<u8>,
        index: Option<(Digest, Vec<u8>)>,
    ) -> Result<ImageEvidence, StoreError> {
        let mut signatures = Vec::new();
        for subject in std::iter::once(&image).chain(index.iter().map(|(digest, _)| digest)) {
            let of_subject = self.signatures(subject)?;
            let known = self.known_signatures(subject, &of_subject);
            signatures.extend(known.into_iter().zip(of_subject));
        }
        // Hosts may know other keys, but strangers' signatures must not keep those out that are known here.
        signatures.sort_by_key(|(known, _)| !known);
        let mut room = ImageEvidence::MAX_SIGNATURE_BYTES;
        let fits = |one: &ImageSignature| {
            let left = room.checked_sub(one.payload.len() + one.signature.len());
            room = left.unwrap_or(room);
            left.is_some()
        };
        let signatures = signatures.into_iter().map(|(_, one)| one).filter(fits);
        let signatures = signatures.take(ImageEvidence::MAX_SIGNATURES).collect();
        Ok(ImageEvidence {
            name: name.clone(),
            manifest,
            index: index.map(|(_, bytes)| bytes),
            signatures,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::{image_for, name, saved};
    use crate::testing;

    fn refusing() -> Guard {
        Guard::new(|evidence| {
            Err(StoreError::Refused {
                reason: format!("{} is not wanted", evidence.name),
                code: gantry_model::ExitCode::Verification,
            })
        })
    }

    #[test]
    fn what_the_guard_refuses_leaves_nothing_behind() {
        let (from, to, dir) = (testing::store(), testing::store(), tempfile::tempdir().unwrap());
        image_for(&from.store, "demo:v1", "amd64", "amd64");
        let archive = saved(&from.store, &["demo:v1"], dir.path());
        let guarded = to.store.clone().guarded(refusing());
        let error = guarded.load(&archive, None, &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "demo:v1 is not wanted");
        // It is asked by the name that the image would get.
        let other = name("other:v2");
        let error = guarded.load(&archive, Some(&other), &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "other:v2 is not wanted");
        assert!(to.store.images().unwrap().is_empty());
        assert_eq!(to.store.blobs().list().unwrap(), []);
    }

    #[test]
    fn an_image_in_an_index_is_shown_with_it() {
        let test = testing::store();
        let store = &test.store;
        for architecture in ["amd64", "arm64"] {
            image_for(store, &format!("demo:{architecture}"), architecture, architecture);
        }
        let of = |text: &str| store.platforms(&name(text)).unwrap();
        let both = [of("demo:amd64"), of("demo:arm64")].concat();
        let index = store.set_platforms(&name("demo:v1"), both.clone()).unwrap();
        let image = store.image_by_digest(&both[0].digest).unwrap();
        let shown = store.accepted(&name("demo:v1"), &image).unwrap();
        assert_eq!(Digest::of(&shown.index.unwrap()), index);
        assert_eq!(Digest::of(&shown.manifest), image.manifest_digest);
        let alone = store.accepted(&name("demo:amd64"), &image).unwrap();
        assert_eq!(alone.index, None);
        let gone = store.accepted(&name("gone:v1"), &image).unwrap();
        assert_eq!(gone.index, None);
        let guarded = store.clone().guarded(refusing());
        assert!(guarded.accepted(&name("demo:v1"), &image).is_err());
    }
}
