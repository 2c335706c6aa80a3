//! This module owns [`FoundImage`]: an image of a registry whose documents are here, and whose blobs may be fetched. No name of
//! the store leads to it: it is somebody else's, to be put into an image that is built.

use gantry_model::{Digest, ImageReference};
use gantry_store::manifest::{MAX_CONFIG_LEN, Manifest};
use gantry_store::{Descriptor, Platform, Store};

use super::{Plan, Platforms};
use crate::client::RegistryClient;
use crate::printable::printable;
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
    /// When no registry has it for that platform, or what one sends is not what it announced.
    pub async fn find(
        &self,
        store: &Store,
        name: &ImageReference,
        platforms: &Platforms,
    ) -> Result<FoundImage, RegistryError> {
        let ((target, plan), endpoint) = self
            .ask_each(name, async |wanted, endpoint| {
                let found = self.plan_image(store, name, wanted, endpoint, platforms).await?;
                if let Platforms::One(platform) = platforms {
                    self.check_platform(store, endpoint, &found.1, platform).await?;
                }
                Ok(found)
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

    /// An image is what its config says: an index may say something else, and a plain manifest says nothing.
    async fn check_platform(
        &self,
        store: &Store,
        endpoint: &Endpoint,
        plan: &Plan,
        wanted: &Platform,
    ) -> Result<(), RegistryError> {
        for document in plan.documents.iter().filter(|document| !document.is_index()) {
            let config = document.parse::<Manifest>(endpoint)?.config;
            if config.size > MAX_CONFIG_LEN {
                let reason = format!("its config is larger than {} MiB", MAX_CONFIG_LEN >> 20);
                return Err(document.malformed(endpoint, reason));
            }
            self.fetch_blob(endpoint, &config, store).await?;
            let bytes = store.blobs().read(&config.digest, "config", MAX_CONFIG_LEN)?;
            if let Some(its) = Platform::of_config(&bytes)
                && !its.fits(wanted)
            {
                return Err(RegistryError::NotFound {
                    registry: endpoint.repository.registry().name().to_owned(),
                    what: format!("an image of {} for {wanted}", endpoint.repository),
                    reason: format!("it is for {}", printable(&its.to_string())),
                });
            }
        }
        Ok(())
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
