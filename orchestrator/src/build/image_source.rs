//! Where a build takes container images from that its files name and its `registry/` has not.

use gantry_model::{Digest, ImageReference};
use gantry_store::{Descriptor, Platform};

/// A container image that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundContainerImage {
    /// What its name leads to: a manifest, or an index.
    pub digest: Digest,
    /// Its manifests, and the index if there is one: they are blobs of the store.
    pub manifests: Vec<Descriptor>,
    /// Its config and its layers, each once.
    pub blobs: Vec<Descriptor>,
}

/// Somebody who has container images.
pub trait ContainerImageSource {
    /// Looks for `images`, and brings their manifests into the store. The answers are in the order of the images: why
    /// one cannot be had is said once for each.
    ///
    /// # Errors
    /// When none can be looked for.
    fn find(
        &mut self,
        images: &[ImageReference],
        platform: &Platform,
    ) -> anyhow::Result<Vec<anyhow::Result<FoundContainerImage>>>;

    /// Brings these blobs of images that were found into the store, those that are not there.
    ///
    /// # Errors
    /// When one cannot be had.
    fn fetch(&mut self, wanted: &[(&ImageReference, Vec<Descriptor>)]) -> anyhow::Result<()>;
}
