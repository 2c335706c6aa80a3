//! This module owns pushing an image: blobs first, then the documents that name them, last the one that has the tag.

use futures_util::{TryStreamExt as _, stream};
use gantry_model::{Digest, ImageReference};
use gantry_store::manifest::{MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST};
use gantry_store::{Descriptor, ImageContents, Platform, Store};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};

use crate::client::{RegistryClient, said_in};
use crate::limits::{COMMIT_PATIENCE, PARALLEL_BLOBS};
use crate::requests::{Ask, Payload};
use crate::token::Scope;
use crate::transfer::Event;
use crate::{Endpoint, RegistryError, RemoteImage};

/// How an image is pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// Of an index, only the image for this platform.
    pub platform: Option<Platform>,
}

/// An image that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of its manifest or index.
    pub digest: Digest,
    /// Whether the registry had all of it.
    pub was_there: bool,
    /// What it is called in the registry.
    pub name: String,
}

impl RegistryClient {
    /// Makes the registry that `destination` names hold the image `name` of the store.
    ///
    /// What the registry has is not sent; what another of its repositories has, it takes from there. Signatures go along, and
    /// are joined to those that the registry has.
    ///
    /// # Errors
    /// When the image is damaged or not whole, or the registry refuses it; no tag has changed then.
    pub async fn push(
        &self,
        store: &Store,
        name: &ImageReference,
        destination: &ImageReference,
        options: &PushOptions,
    ) -> Result<Pushed, RegistryError> {
        let _nothing_vanishes = store.share()?;
        let full = self.conf().full_names(destination)?;
        let wanted = RemoteImage::of(&full[0]).map_err(RegistryError::Name)?;
        let endpoint = self.destination(&wanted.repository, said_in(destination, &wanted.repository))?;
        let contents = store.contents(name, options.platform.as_ref())?;
        let (top, _) = contents.manifests.last().expect("an image has a manifest");
        let digest = top.digest;
        if let Some(other) = wanted.digest.filter(|wanted| *wanted != digest) {
            return Err(RegistryError::Name(format!(
                "{name} has the digest {digest}, it cannot be pushed as {other}"
            )));
        }
        let pushed = |was_there| Pushed {
            digest,
            was_there,
            name: wanted.to_string(),
        };
        let reference = wanted.reference();
        if self.manifest_digest(&endpoint, &reference, "pull,push").await? == Some(digest) {
            self.send_signatures(store, &endpoint, &contents.signatures)
                .await?;
            self.remember(store, &endpoint, &contents).await?;
            return Ok(pushed(true));
        }
        self.check_absent(&endpoint, name, &contents.absent).await?;
        let bytes = contents
            .blobs
            .iter()
            .fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
        self.event(Event::Planned {
            blobs: contents.blobs.len(),
            bytes,
        });
        let sends = contents
            .blobs
            .iter()
            .map(|blob| Ok(self.send_blob(&endpoint, blob, store)));
        stream::iter(sends)
            .try_buffer_unordered(PARALLEL_BLOBS)
            .try_collect::<()>()
            .await?;
        // Before the tag: whoever pulls by it and asks for signatures finds them.
        self.send_signatures(store, &endpoint, &contents.signatures)
            .await?;
        for (manifest, bytes) in &contents.manifests {
            let reference = if manifest.digest == digest {
                reference.clone()
            } else {
                manifest.digest.to_string()
            };
            self.put_manifest(&endpoint, &reference, manifest, bytes).await?;
        }
        self.remember(store, &endpoint, &contents).await?;
        Ok(pushed(false))
    }

    /// An index is whole only where everything it names is. What is not here may be there.
    async fn check_absent(
        &self,
        endpoint: &Endpoint,
        name: &ImageReference,
        absent: &[Descriptor],
    ) -> Result<(), RegistryError> {
        for entry in absent {
            let digest = entry.digest.to_string();
            if self
                .manifest_digest(endpoint, &digest, "pull,push")
                .await?
                .is_none()
            {
                let what = entry
                    .platform
                    .as_ref()
                    .map_or(digest, |platform| format!("the image for {platform}"));
                return Err(RegistryError::Incomplete(format!(
                    "{name} is an image for several platforms, and {what} is neither in the store nor in {}; \
                     pull it with --all-platforms, or push one platform with --platform",
                    endpoint.repository
                )));
            }
        }
        Ok(())
    }

    pub(crate) async fn put_manifest(
        &self,
        endpoint: &Endpoint,
        reference: &str,
        manifest: &Descriptor,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let url = self.url(endpoint, &format!("manifests/{reference}")).await?;
        let sign = if reference.contains(':') { '@' } else { ':' };
        let mut ask = Ask::new(
            endpoint,
            Method::PUT,
            url,
            format!("image {}{sign}{reference}", endpoint.repository),
        );
        let kind = if manifest.media_type.is_empty() {
            let index = serde_json::from_slice::<gantry_store::manifest::Index>(bytes).is_ok();
            if index {
                MEDIA_TYPE_INDEX
            } else {
                MEDIA_TYPE_MANIFEST
            }
        } else {
            &manifest.media_type
        };
        let kind = HeaderValue::from_str(kind).map_err(|_| {
            RegistryError::Incomplete(format!("{} has no media type that can be sent", ask.what))
        })?;
        ask.headers.push((CONTENT_TYPE, kind));
        ask.payload = Payload::Bytes(bytes.to_vec().into());
        ask.scope = Scope::repository(endpoint, "pull,push");
        ask.patience = COMMIT_PATIENCE;
        self.ask(&ask).await.map(drop)
    }

    async fn remember(
        &self,
        store: &Store,
        endpoint: &Endpoint,
        contents: &ImageContents,
    ) -> Result<(), RegistryError> {
        let (store, repository) = (store.clone(), endpoint.repository.to_string());
        let blobs: Vec<Digest> = contents.blobs.iter().map(|blob| blob.digest).collect();
        Ok(crate::transfer::on_thread(move || store.add_origin(&repository, blobs)).await?)
    }
}
