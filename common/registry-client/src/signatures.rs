//! This module owns how signatures over images, and statements about them, travel: by a tag in the image's own repository, as cosign has it.

use std::collections::BTreeSet;

use gantry_model::{Digest, ImageSignature};
use gantry_store::manifest::Manifest;
use gantry_store::signatures::{ANNOTATION_SIGNATURE, MAX_CONFIG_LEN, SignatureKind, candidates};
use gantry_store::{Descriptor, SignatureContents, Store, attestations};
use reqwest::Method;

use super::pull::RemoteManifest;
use crate::client::RegistryClient;
use crate::requests::{Ask, read_bounded};
use crate::{Endpoint, RegistryError};

impl RegistryClient {
    /// Brings in what the registry has of signatures over `images` and of statements about them, and joins it to what the store has.
    ///
    /// Whoever may write to the repository may write there what is neither: it is passed over.
    pub(crate) async fn fetch_signatures(
        &self,
        store: &Store,
        endpoint: &Endpoint,
        images: impl IntoIterator<Item = Digest>,
    ) -> Result<(), RegistryError> {
        let images: BTreeSet<Digest> = images.into_iter().collect();
        for image in images {
            for kind in [SignatureKind::Image, SignatureKind::Attestation] {
                if let Some(manifest) = self.signature_manifest(endpoint, &image, kind).await? {
                    self.take_signatures(store, endpoint, image, kind, manifest)
                        .await?;
                }
            }
        }
        Ok(())
    }

    async fn take_signatures(
        &self,
        store: &Store,
        endpoint: &Endpoint,
        image: Digest,
        kind: SignatureKind,
        manifest: RemoteManifest,
    ) -> Result<(), RegistryError> {
        let Ok(parsed) = manifest.parse::<Manifest>(endpoint) else {
            tracing::debug!(%image, "what is in the place of its signatures is no manifest of an image");
            return Ok(());
        };
        for (blob, limit) in std::iter::once((&parsed.config, MAX_CONFIG_LEN)).chain(parts(&parsed, kind)) {
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
        crate::transfer::on_thread(move || match kind {
            SignatureKind::Image => store.add_signature_manifest(&image, &manifest.bytes),
            SignatureKind::Attestation => store.add_attestation_manifest(&image, &manifest.bytes),
        })
        .await?;
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
            let (tag, kind) = (ours.tag(), ours.kind);
            let there = self.manifest_digest(endpoint, &tag, "pull,push").await?;
            if there == Some(ours.manifest.digest) {
                continue;
            }
            // What others signed must not be lost.
            let theirs = self.signature_manifest(endpoint, &ours.image, kind).await?;
            let known = theirs.as_ref().map(|manifest| entries(&manifest.bytes, kind));
            let there = theirs.as_ref().map(|manifest| manifest.bytes.to_vec());
            if let Some(theirs) = theirs {
                self.take_signatures(store, endpoint, ours.image, kind, theirs)
                    .await?;
            }
            let joined = match kind {
                SignatureKind::Image => store.signature_contents(&ours.image)?,
                SignatureKind::Attestation => store.attestation_contents(&ours.image, there.as_deref())?,
            };
            let Some(joined) = joined else {
                continue;
            };
            // Nothing of it is new there, whatever else is.
            if known.is_some_and(|known| entries(&joined.bytes, kind).is_subset(&known)) {
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
        kind: SignatureKind,
    ) -> Result<Option<RemoteManifest>, RegistryError> {
        match self.manifest(endpoint, &kind.tag(image), None).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.is_of_what_was_asked() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The entries of a manifest that may be of this kind, and how long each may be.
fn parts(manifest: &Manifest, kind: SignatureKind) -> Vec<(&Descriptor, u64)> {
    match kind {
        SignatureKind::Image => candidates(manifest)
            .map(|payload| (payload, ImageSignature::MAX_PAYLOAD_LEN))
            .collect(),
        SignatureKind::Attestation => attestations::candidates(manifest)
            .map(|envelope| (envelope, attestations::MAX_ENVELOPE_LEN))
            .collect(),
    }
}

/// What a manifest has: payload or envelope, and what was made of it.
fn entries(manifest: &[u8], kind: SignatureKind) -> BTreeSet<(Digest, String)> {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(manifest) else {
        return BTreeSet::new();
    };
    let entry = |(layer, _): (&Descriptor, u64)| {
        let signature = layer.annotations.get(ANNOTATION_SIGNATURE)?;
        Some((layer.digest, signature.clone()))
    };
    parts(&manifest, kind).into_iter().filter_map(entry).collect()
}
