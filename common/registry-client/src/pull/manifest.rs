//! This module owns [`RemoteManifest`]: a manifest or index as a registry sends it, read and checked.

use gantry_model::Digest;
use gantry_store::Descriptor;
use gantry_store::manifest::{
    MAX_MANIFEST_LEN, MEDIA_TYPE_DOCKER_INDEX, MEDIA_TYPE_DOCKER_MANIFEST, MEDIA_TYPE_INDEX,
    MEDIA_TYPE_MANIFEST,
};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::client::RegistryClient;
use crate::printable::printable;
use crate::requests::{Ask, read_bounded};
use crate::token::Scope;
use crate::{Endpoint, RegistryError};

const KNOWN: [&str; 4] = [
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_MANIFEST,
    MEDIA_TYPE_DOCKER_INDEX,
    MEDIA_TYPE_DOCKER_MANIFEST,
];

/// A manifest or an index, whose bytes have its digest.
#[derive(Debug, Clone)]
pub(crate) struct RemoteManifest {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
}

/// What tells the kinds of documents apart.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
}

impl RegistryClient {
    /// Fetches a manifest by tag or digest. `expected` is what an index says about it: its digest has to be that, its size need not
    /// be, for there are programs that write wrong ones (sealer 0.8).
    pub(crate) async fn manifest(
        &self,
        endpoint: &Endpoint,
        reference: &str,
        expected: Option<&Descriptor>,
    ) -> Result<RemoteManifest, RegistryError> {
        let ask = self
            .manifest_ask(endpoint, Method::GET, reference, "pull")
            .await?;
        let registry = endpoint.repository.registry().name();
        let mut tries = 0;
        let (headers, bytes) = loop {
            let response = self.ask(&ask).await?;
            let headers = response.headers().clone();
            let limit = usize::try_from(MAX_MANIFEST_LEN).unwrap_or(usize::MAX);
            match read_bounded(response, limit, registry, &ask.what).await {
                Ok(bytes) => break (headers, bytes),
                Err(error @ RegistryError::BrokenOff { .. }) => {
                    tries += 1;
                    self.wait_after(error.into(), tries, registry).await?;
                }
                Err(error) => return Err(error),
            }
        };
        let digest = Digest::of(&bytes);
        let announced = match expected {
            Some(expected) => Some(expected.digest),
            None => reference.parse().ok().or_else(|| digest_header(&headers)),
        };
        if let Some(expected) = announced.filter(|announced| *announced != digest) {
            return Err(RegistryError::WrongDigest {
                registry: registry.to_owned(),
                what: ask.what,
                expected,
                found: digest,
            });
        }
        let mut manifest = RemoteManifest {
            descriptor: Descriptor {
                media_type: String::new(),
                digest,
                size: bytes.len() as u64,
                platform: None,
                annotations: std::collections::BTreeMap::new(),
            },
            bytes: bytes.into(),
        };
        let sent_as = headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or_default();
        let sent_as = sent_as.split(';').next().unwrap_or_default().trim();
        manifest.descriptor.media_type = manifest.kind(endpoint, sent_as)?;
        Ok(manifest)
    }

    /// The digest of what a tag leads to; none when there is no such tag, or the registry does not say.
    pub(crate) async fn manifest_digest(
        &self,
        endpoint: &Endpoint,
        reference: &str,
        actions: &str,
    ) -> Result<Option<Digest>, RegistryError> {
        let mut ask = self
            .manifest_ask(endpoint, Method::HEAD, reference, actions)
            .await?;
        ask.accepted = &[StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
        let response = self.ask(&ask).await?;
        Ok(digest_header(response.headers()).filter(|_| response.status().is_success()))
    }

    async fn manifest_ask<'a>(
        &self,
        endpoint: &'a Endpoint,
        method: Method,
        reference: &str,
        actions: &str,
    ) -> Result<Ask<'a>, RegistryError> {
        let url = self.url(endpoint, &format!("manifests/{reference}")).await?;
        let sign = if reference.contains(':') { '@' } else { ':' };
        let what = format!("image {}{sign}{reference}", endpoint.repository);
        let mut ask = Ask::new(endpoint, method, url, what);
        ask.scope = Scope::repository(endpoint, actions);
        ask.headers = KNOWN
            .iter()
            .map(|kind| (ACCEPT, HeaderValue::from_static(kind)))
            .collect();
        Ok(ask)
    }
}

impl RemoteManifest {
    /// A document of the store that a registry need not send again.
    pub(crate) fn known(descriptor: &Descriptor, bytes: Vec<u8>) -> Self {
        Self {
            descriptor: descriptor.clone(),
            bytes,
        }
    }

    pub(crate) fn is_index(&self) -> bool {
        matches!(
            &*self.descriptor.media_type,
            MEDIA_TYPE_INDEX | MEDIA_TYPE_DOCKER_INDEX
        )
    }

    pub(crate) fn parse<T: DeserializeOwned>(&self, endpoint: &Endpoint) -> Result<T, RegistryError> {
        serde_json::from_slice(&self.bytes).map_err(|error| self.malformed(endpoint, error.to_string()))
    }

    pub(crate) fn malformed(&self, endpoint: &Endpoint, reason: String) -> RegistryError {
        RegistryError::Malformed {
            registry: endpoint.repository.registry().name().to_owned(),
            what: format!(
                "manifest {} of {}",
                self.descriptor.digest.short(),
                endpoint.repository
            ),
            reason: printable(&reason),
        }
    }

    /// Its media type: what it says itself, what the registry says, and what it looks like must not contradict each other
    /// (CVE-2021-41190).
    fn kind(&self, endpoint: &Endpoint, sent_as: &str) -> Result<String, RegistryError> {
        let shape: Shape = self.parse(endpoint)?;
        if shape.schema_version != 2 || sent_as.contains("distribution.manifest.v1+") {
            let reason = "it has docker's old schema 1, which no longer is supported; push the image again with a newer program";
            return Err(self.malformed(endpoint, reason.to_owned()));
        }
        let looks_like_index = shape.manifests.is_some();
        let looks_like_image = shape.config.is_some() || shape.layers.is_some();
        if looks_like_index == looks_like_image {
            let reason = "it is neither an image nor a list of images, or both at once";
            return Err(self.malformed(endpoint, reason.to_owned()));
        }
        let said = shape.media_type.as_deref().unwrap_or(sent_as);
        if shape.media_type.is_some() && KNOWN.contains(&sent_as) && said != sent_as {
            let reason = format!("it says it is {said:?}, the registry says {sent_as:?}");
            return Err(self.malformed(endpoint, reason));
        }
        let kind = match (KNOWN.iter().find(|known| **known == said), looks_like_index) {
            (Some(known), _) => known,
            // Registries that are plain file servers say `application/json` or `text/plain`.
            (None, true) if shape.media_type.is_none() => MEDIA_TYPE_INDEX,
            (None, false) if shape.media_type.is_none() => MEDIA_TYPE_MANIFEST,
            (None, _) => return Err(self.malformed(endpoint, format!("{said:?} is no image"))),
        };
        let is_index = matches!(kind, MEDIA_TYPE_INDEX | MEDIA_TYPE_DOCKER_INDEX);
        if is_index != looks_like_index {
            return Err(self.malformed(
                endpoint,
                format!("it says it is {kind:?} and looks like something else"),
            ));
        }
        Ok(kind.to_owned())
    }
}

fn digest_header(headers: &HeaderMap) -> Option<Digest> {
    headers.get("Docker-Content-Digest")?.to_str().ok()?.parse().ok()
}
