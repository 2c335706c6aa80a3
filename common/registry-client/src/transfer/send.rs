//! Sending a blob (OCI distribution-spec, "Pushing blobs"): large ones in one piece that can go on after a cut, as far as
//! the registry keeps what it got.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gantry_model::Digest;
use gantry_store::{Descriptor, Store};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::{Event, How, WORTHWHILE};
use crate::client::RegistryClient;
use crate::limits::{COMMIT_PATIENCE, SMALL_BLOB_LEN};
use crate::requests::{Ask, Failure, Payload};
use crate::token::Scope;
use crate::transfer::fetch::on_thread;
use crate::{Endpoint, RegistryError};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// How often the bar moves while a blob is sent.
const TICK: Duration = Duration::from_millis(100);

impl RegistryClient {
    /// Makes the repository hold a blob of the store: it may have it, take it from another repository, or be sent it.
    pub(crate) async fn send_blob(
        &self,
        endpoint: &Endpoint,
        blob: &Descriptor,
        store: &Store,
    ) -> Result<(), RegistryError> {
        let what = format!("blob {} of {}", blob.digest.short(), endpoint.repository);
        let done = |how| {
            self.event(Event::Done {
                digest: blob.digest,
                size: blob.size,
                how,
            });
        };
        if self.has_blob(endpoint, &blob.digest, &what).await? {
            done(How::Present);
            return Ok(());
        }
        let mut source = mount_source(endpoint, &blob.digest, store);
        let path = store.blobs().path(&blob.digest);
        match store.blobs().size(&blob.digest).map_err(RegistryError::from)? {
            Some(size) if size == blob.size => {}
            _ => {
                let (store, digest, checked) = (store.clone(), blob.digest, what.clone());
                on_thread(move || store.blobs().verify(&digest, &checked)).await?;
                return Err(RegistryError::Incomplete(format!(
                    "{what} does not have the size that its manifest says"
                )));
            }
        }
        let mut tries = 0;
        loop {
            let sent = Arc::new(AtomicU64::new(0));
            let attempt = self.upload(endpoint, blob, path.clone(), source.take(), &sent, &what);
            let watched = async {
                let mut tick = tokio::time::interval(TICK);
                loop {
                    tick.tick().await;
                    self.event(Event::Moved {
                        digest: blob.digest,
                        at: sent.load(Ordering::Relaxed),
                        size: blob.size,
                    });
                }
            };
            let result: Result<How, Failure> = tokio::select! {
                result = attempt => result,
                () = watched => unreachable!("the bar moves as long as the blob does"),
            };
            match result {
                Ok(how) => {
                    done(how);
                    return Ok(());
                }
                Err(failure) => {
                    if matches!(failure.error, RegistryError::Answer { .. }) && !failure.transient {
                        // Before the registry is blamed: is the blob what it should be?
                        let (store, digest, what) = (store.clone(), blob.digest, what.clone());
                        on_thread(move || store.blobs().verify(&digest, &what)).await?;
                    }
                    tries += 1;
                    self.wait_after(failure, tries, endpoint.repository.registry().name())
                        .await?;
                }
            }
        }
    }

    async fn has_blob(
        &self,
        endpoint: &Endpoint,
        digest: &Digest,
        what: &str,
    ) -> Result<bool, RegistryError> {
        let url = self.url(endpoint, &format!("blobs/{digest}")).await?;
        let mut ask = Ask::new(endpoint, Method::HEAD, url, what);
        ask.scope = Scope::repository(endpoint, "pull,push");
        ask.accepted = &[StatusCode::NOT_FOUND];
        Ok(self.ask(&ask).await?.status() != StatusCode::NOT_FOUND)
    }

    /// One upload from its beginning: mounted, in one request, or in one piece and its confirmation.
    async fn upload(
        &self,
        endpoint: &Endpoint,
        blob: &Descriptor,
        path: PathBuf,
        mount_from: Option<String>,
        sent: &Arc<AtomicU64>,
        what: &str,
    ) -> Result<How, Failure> {
        let begun = match mount_from {
            // Whoever may write here need not be allowed to read there, and token servers refuse both together.
            Some(from) => match self.begin_upload(endpoint, blob, Some(&from), what).await {
                Err(failure) if !failure.transient => self.begin_upload(endpoint, blob, None, what).await?,
                other => other?,
            },
            None => self.begin_upload(endpoint, blob, None, what).await?,
        };
        if begun.status() == StatusCode::CREATED {
            return Ok(How::Mounted);
        }
        let mut location = location(endpoint, &begun, begun.url(), what)?;
        let mut ask = Ask::new(endpoint, Method::PUT, location.clone(), what);
        ask.scope = Scope::repository(endpoint, "pull,push");
        ask.headers = vec![(CONTENT_TYPE, OCTETS)];
        ask.patience = COMMIT_PATIENCE;
        let part = |offset: u64| Payload::File {
            path: path.clone(),
            offset,
            len: blob.size - offset,
            sent: sent.clone(),
        };
        if blob.size > SMALL_BLOB_LEN {
            location = self.send_piece(&ask, location, blob, &part, sent).await?;
            ask.headers.clear();
        } else {
            ask.payload = part(0);
        }
        location
            .query_pairs_mut()
            .append_pair("digest", &blob.digest.to_string());
        ask.url = location;
        self.ask_once(&ask).await?;
        Ok(How::Moved)
    }

    /// The registry's answer to an upload that begins: it has the blob then if `mount_from`, another repository, has it.
    async fn begin_upload(
        &self,
        endpoint: &Endpoint,
        blob: &Descriptor,
        mount_from: Option<&str>,
        what: &str,
    ) -> Result<Response, Failure> {
        let mut start = self.url(endpoint, "blobs/uploads/").await?;
        let mut scope = Scope::repository(endpoint, "pull,push");
        if let Some(from) = mount_from {
            start
                .query_pairs_mut()
                .append_pair("mount", &blob.digest.to_string())
                .append_pair("from", from);
            scope = scope.and_pull(from);
        }
        let mut ask = Ask::new(endpoint, Method::POST, start, what);
        ask.scope = scope;
        self.ask_once(&ask).await
    }

    /// Sends everything in one piece. After a cut, what the registry says it has is not sent again.
    async fn send_piece(
        &self,
        put: &Ask<'_>,
        mut location: Url,
        blob: &Descriptor,
        part: &impl Fn(u64) -> Payload,
        sent: &AtomicU64,
    ) -> Result<Url, Failure> {
        let (mut offset, mut furthest, mut tries) = (0, 0, 0);
        loop {
            let mut patch = put.clone();
            patch.method = Method::PATCH;
            patch.url = location.clone();
            patch.payload = part(offset);
            if offset > 0 {
                let range = format!("{offset}-{}", blob.size - 1);
                patch.headers.push((
                    CONTENT_RANGE,
                    HeaderValue::from_str(&range).expect("digits and signs"),
                ));
            }
            let failure = match self.ask_once(&patch).await {
                Ok(response) => return Ok(self::location(put.endpoint, &response, &patch.url, &put.what)?),
                Err(failure) if !failure.transient => return Err(failure),
                Err(failure) => failure,
            };
            let mut question = put.clone();
            (question.method, question.url) = (Method::GET, location.clone());
            question.headers.clear();
            // A registry that lost the upload wants it from its beginning: that is the caller's next try.
            let Ok(answer) = self.ask_once(&question).await else {
                return Err(failure);
            };
            let Some(has) = received(&answer).filter(|has| *has <= blob.size) else {
                return Err(failure);
            };
            location = self::location(put.endpoint, &answer, &location, &put.what)?;
            if has >= furthest + WORTHWHILE {
                (tries, furthest) = (0, has);
            }
            tries += 1;
            if has == blob.size {
                return Ok(location);
            }
            offset = has;
            sent.store(has, Ordering::Relaxed);
            self.wait_after(failure, tries, put.endpoint.repository.registry().name())
                .await?;
        }
    }
}

/// Another repository of the same registry that held the blob.
fn mount_source(endpoint: &Endpoint, digest: &Digest, store: &Store) -> Option<String> {
    let origins = store.origins(digest).unwrap_or_default();
    let start = format!("{}/", endpoint.repository.registry());
    let mut paths = origins.iter().filter_map(|origin| origin.strip_prefix(&start));
    paths
        .find(|path| *path != endpoint.repository.path())
        .map(str::to_owned)
}

/// Bytes of an upload that the registry has: `Range: 0-LAST`.
fn received(response: &Response) -> Option<u64> {
    let range = response.headers().get(RANGE)?.to_str().ok()?;
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.parse().ok()?;
    // An upload without a byte is `0-0`, too; the first byte sent again does no harm.
    (first == "0").then_some(if last == 0 { 0 } else { last + 1 })
}

/// Where an upload goes on.
fn location(endpoint: &Endpoint, response: &Response, asked: &Url, what: &str) -> Result<Url, RegistryError> {
    let wrong = |reason: &str| RegistryError::Malformed {
        registry: endpoint.repository.registry().name().to_owned(),
        what: what.to_owned(),
        reason: reason.to_owned(),
    };
    let header = response
        .headers()
        .get(LOCATION)
        .and_then(|location| location.to_str().ok());
    let header = header.ok_or_else(|| wrong("its upload has no location"))?;
    let mut url = asked
        .join(header)
        .map_err(|_| wrong("the location of its upload is no address"))?;
    // A registry behind a proxy may not know that it is reached over TLS.
    if asked.scheme() == "https" && url.scheme() == "http" && url.host_str() == asked.host_str() {
        url.set_scheme("https")
            .map_err(|()| wrong("the location of its upload is no address"))?;
        let _ = url.set_port(asked.port());
    }
    if url.scheme() != "https" && !(url.scheme() == "http" && endpoint.insecure) {
        return Err(wrong("the location of its upload is not reached over TLS"));
    }
    Ok(url)
}
