//! This module owns [`FoundImage`]: an image of a registry whose documents are here, and whose blobs may be fetched. No name of
//! the store leads to it: it is somebody else's, to be put into an image that is built.

use gantry_model::{Digest, ImageReference};
use gantry_store::{Descriptor, Store};

use super::Platforms;
use crate::client::RegistryClient;
use crate::{Endpoint, RegistryError};

/// An image that a registry has.
#[derive(Debug, Clone)]
pub struct FoundImage {
    /// What its name leads to: a manifest, or an index.
    pub digest: Digest,
    /// Its manifests, and the index if there is one: they are blobs of the store.
    pub manifests: Vec<Descriptor>,
    /// Configs and layers, each once.
    pub blobs: Vec<Descriptor>,
    /// Who has it.
    endpoint: Endpoint,
}

impl RegistryClient {
    /// Looks for the image that `name` means, and brings its manifests into the store.
    ///
    /// Whoever calls this holds the store ([`Store::share`]) until what comes of it is used.
    ///
    /// # Errors
    /// When no registry has it, or what one sends is not what it announced.
    pub async fn find(
        &self,
        store: &Store,
        name: &ImageReference,
        platforms: &Platforms,
    ) -> Result<FoundImage, RegistryError> {
        let ((target, plan), endpoint) = self
            .ask_each(name, async |wanted, endpoint| {
                self.plan_image(store, name, wanted, endpoint, platforms).await
            })
            .await?;
        let mut manifests = Vec::new();
        for manifest in plan.documents {
            store.blobs().put_bytes(&manifest.bytes)?;
            manifests.push(manifest.descriptor);
        }
        let mut blobs: Vec<Descriptor> = Vec::new();
        for blob in plan.blobs {
            if blobs.iter().all(|known| known.digest != blob.digest) {
                blobs.push(blob);
            }
        }
        Ok(FoundImage {
            digest: target.digest,
            manifests,
            blobs,
            endpoint,
        })
    }

    /// Brings blobs of an image into the store, those that are not there. What was interrupted goes on where it was.
    ///
    /// # Errors
    /// When its registry does not send what it announced.
    pub async fn fetch_blobs_of(
        &self,
        store: &Store,
        image: &FoundImage,
        blobs: &[Descriptor],
    ) -> Result<(), RegistryError> {
        self.fetch_blobs(store, &image.endpoint, blobs).await
    }
}
