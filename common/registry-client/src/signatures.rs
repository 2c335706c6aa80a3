//! This module owns how signatures over images travel: by a tag in the image's own repository, as cosign has it.

use std::collections::BTreeSet;

use gantry_model::{Digest, ImageSignature};
use gantry_store::manifest::Manifest;
use gantry_store::signatures::{ANNOTATION_SIGNATURE, MAX_CONFIG_LEN, candidates, signature_tag};
use gantry_store::{Descriptor, SignatureContents, Store};
use reqwest::Method;

use super::pull::RemoteManifest;
use crate::client::RegistryClient;
use crate::requests::{Ask, read_bounded};
use crate::{Endpoint, RegistryError};

impl RegistryClient {
    /// Brings in what the registry has of signatures over `images`, and joins it to what the store has.
    ///
    /// Whoever may write to the repository may write there what is no signature: it is passed over.
    pub(crate) async fn fetch_signatures(
        &self,
        store: &Store,
        endpoint: &Endpoint,
        images: impl IntoIterator<Item = Digest>,
    ) -> Result<(), RegistryError> {
        let images: BTreeSet<Digest> = images.into_iter().collect();
        for image in images {
            if let Some(manifest) = self.signature_manifest(endpoint, &image).await? {
                self.take_signatures(store, endpoint, image, manifest).await?;
            }
        }
        Ok(())
    }

    async fn take_signatures(
        &self,
        store: &Store,
        endpoint: &Endpoint,
        image: Digest,
        manifest: RemoteManifest,
    ) -> Result<(), RegistryError> {
        let Ok(parsed) = manifest.parse::<Manifest>(endpoint) else {
            tracing::debug!(%image, "what is in the place of its signatures is no manifest of an image");
            return Ok(());
        };
        let payloads = candidates(&parsed).map(|layer| (layer, ImageSignature::MAX_PAYLOAD_LEN));
        for (blob, limit) in std::iter::once((&parsed.config, MAX_CONFIG_LEN)).chain(payloads) {
            if store.blobs().exists(&blob.digest) {
                continue;
            }
            match self.small_blob(endpoint, blob.digest, limit).await {
                Ok(bytes) => {
                    let store = store.clone();
                    crate::transfer::on_thread(move || store.blobs().put_bytes(&bytes).map(drop)).await?;
                }
                Err(error) if error.is_of_what_was_asked() => {
                    tracing::debug!(%image, blob = %blob.digest, "no part of a signature: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        let store = store.clone();
        crate::transfer::on_thread(move || store.add_signature_manifest(&image, &manifest.bytes)).await?;
        Ok(())
    }

    /// A blob of a few bytes, whose size is what it is: what a manifest says of it, a stranger may have written.
    async fn small_blob(
        &self,
        endpoint: &Endpoint,
        digest: Digest,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let url = self.url(endpoint, &format!("blobs/{digest}")).await?;
        let what = format!("blob {} of {}", digest.short(), endpoint.repository);
        let ask = Ask::new(endpoint, Method::GET, url, what);
        let registry = endpoint.repository.registry().name();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut tries = 0;
        let bytes = loop {
            let response = self.ask(&ask).await?;
            match read_bounded(response, limit, registry, &ask.what).await {
                Ok(bytes) => break bytes,
                Err(error @ RegistryError::BrokenOff { .. }) => {
                    tries += 1;
                    self.wait_after(error.into(), tries, registry).await?;
                }
                Err(error) => return Err(error),
            }
        };
        let found = Digest::of(&bytes);
        if found == digest {
            return Ok(bytes.into());
        }
        Err(RegistryError::WrongDigest {
            registry: registry.to_owned(),
            what: ask.what,
            expected: digest,
            found,
        })
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
            let theirs = self.signature_manifest(endpoint, &ours.image).await?;
            let known = theirs.as_ref().map(|manifest| entries(&manifest.bytes));
            if let Some(theirs) = theirs {
                self.take_signatures(store, endpoint, ours.image, theirs).await?;
            }
            let Some(joined) = store.signature_contents(&ours.image)? else {
                continue;
            };
            // Nothing of it is new there, whatever else is.
            if known.is_some_and(|known| entries(&joined.bytes).is_subset(&known)) {
                continue;
            }
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
            Err(error) if error.is_of_what_was_asked() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The signatures in a manifest: payload, and what was made of it.
fn entries(manifest: &[u8]) -> BTreeSet<(Digest, String)> {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(manifest) else {
        return BTreeSet::new();
    };
    let entry = |layer: &Descriptor| {
        let signature = layer.annotations.get(ANNOTATION_SIGNATURE)?;
        Some((layer.digest, signature.clone()))
    };
    candidates(&manifest).filter_map(entry).collect()
}
