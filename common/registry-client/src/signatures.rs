//! This module owns how signatures over images travel: by a tag in the image's own repository, as cosign has it.

use std::collections::BTreeSet;

use gantry_model::Digest;
use gantry_store::manifest::Manifest;
use gantry_store::signatures::{check_signature_manifest, signature_tag};
use gantry_store::{SignatureContents, Store};

use super::pull::RemoteManifest;
use crate::client::RegistryClient;
use crate::{Endpoint, RegistryError};

impl RegistryClient {
    /// Brings in what the registry has of signatures over `images`, and joins it to what the store has.
    pub(crate) async fn fetch_signatures(
        &self,
        store: &Store,
        endpoint: &Endpoint,
        images: impl IntoIterator<Item = Digest>,
    ) -> Result<(), RegistryError> {
        let images: BTreeSet<Digest> = images.into_iter().collect();
        for image in images {
            let Some(manifest) = self.signature_manifest(endpoint, &image).await? else {
                continue;
            };
            let parsed: Manifest = manifest.parse(endpoint)?;
            check_signature_manifest(&parsed).map_err(|reason| manifest.malformed(endpoint, reason))?;
            for blob in std::iter::once(&parsed.config).chain(&parsed.layers) {
                if store.blobs().size(&blob.digest)? != Some(blob.size) {
                    self.fetch_blob(endpoint, blob, store).await?;
                }
            }
            let store = store.clone();
            crate::transfer::on_thread(move || store.add_signature_manifest(&image, &manifest.bytes)).await?;
        }
        Ok(())
    }

    /// Makes the registry hold these signatures, beside those that it has.
    pub(crate) async fn send_signatures(
        &self,
        store: &Store,
        endpoint: &Endpoint,
        signatures: &[SignatureContents],
    ) -> Result<(), RegistryError> {
        for ours in signatures {
            let tag = signature_tag(&ours.image);
            let there = self.manifest_digest(endpoint, &tag, "pull,push").await?;
            if there == Some(ours.manifest.digest) {
                continue;
            }
            // What others signed must not be lost.
            self.fetch_signatures(store, endpoint, [ours.image]).await?;
            let joined = store.signature_contents(&ours.image)?;
            let Some(joined) = joined.filter(|joined| there != Some(joined.manifest.digest)) else {
                continue;
            };
            for blob in &joined.blobs {
                self.send_blob(endpoint, blob, store).await?;
            }
            self.put_manifest(endpoint, &tag, &joined.manifest, &joined.bytes)
                .await?;
        }
        Ok(())
    }

    async fn signature_manifest(
        &self,
        endpoint: &Endpoint,
        image: &Digest,
    ) -> Result<Option<RemoteManifest>, RegistryError> {
        match self.manifest(endpoint, &signature_tag(image), None).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
