//! Fetching a blob: it goes on where it stopped, in this command or a later one.

use gantry_store::{Descriptor, PartialBlob, Store};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use super::{Event, How, WORTHWHILE};
use crate::client::RegistryClient;
use crate::connections::cause;
use crate::printable::printable;
use crate::requests::{Ask, Failure};
use crate::{Endpoint, RegistryError};

impl RegistryClient {
    /// Brings a blob into the store, unless it is there. Nothing but the announced bytes becomes a blob.
    pub(crate) async fn fetch_blob(
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
        let opened = {
            let (store, digest, size, what) = (store.clone(), blob.digest, blob.size, what.clone());
            on_thread(move || store.partial_blob(&digest, size, &what)).await?
        };
        let Some(mut partial) = opened else {
            done(How::Present);
            return Ok(());
        };
        // A registry that lets every attempt start again has to get further than before, too.
        let (mut tries, mut furthest) = (0, partial.len());
        loop {
            if partial.is_complete() {
                // What an earlier command left may have suffered: a power cut can do that.
                if partial.resumed() == 0 || partial.matches() {
                    break;
                }
                partial.restart()?;
            }
            if let Err(failure) = self.fetch_rest(endpoint, blob, &mut partial, &what).await {
                if partial.len() >= furthest + WORTHWHILE {
                    (tries, furthest) = (0, partial.len());
                }
                tries += 1;
                self.wait_after(failure, tries, endpoint.repository.registry().name())
                    .await?;
            }
        }
        let finished = what.clone();
        on_thread(move || partial.finish(&finished))
            .await
            .map_err(|error| wrong_content(error, endpoint, &what))?;
        done(How::Moved);
        Ok(())
    }

    /// One attempt at what is missing.
    async fn fetch_rest(
        &self,
        endpoint: &Endpoint,
        blob: &Descriptor,
        partial: &mut PartialBlob,
        what: &str,
    ) -> Result<(), Failure> {
        let url = self.url(endpoint, &format!("blobs/{}", blob.digest)).await?;
        let mut ask = Ask::new(endpoint, Method::GET, url, what);
        ask.accepted = &[StatusCode::RANGE_NOT_SATISFIABLE];
        if !partial.is_empty() {
            let range =
                HeaderValue::from_str(&format!("bytes={}-", partial.len())).expect("digits and signs");
            ask.headers.push((RANGE, range));
        }
        let mut response = self.ask_once(&ask).await?;
        let from = match response.status() {
            StatusCode::PARTIAL_CONTENT => range_start(response.headers()),
            StatusCode::RANGE_NOT_SATISFIABLE => None,
            _ => Some(0),
        };
        if from != Some(partial.len()) {
            // It knows nothing of ranges, or of this one: from the beginning, then.
            partial.restart().map_err(RegistryError::from)?;
            if from != Some(0) {
                return Err(broken_off(
                    endpoint,
                    what,
                    "it does not send the range that was asked for",
                ));
            }
        }
        let announced = response
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
        let missing = blob.size - partial.len();
        if announced.is_some_and(|announced| announced > missing) {
            return Err(too_large(endpoint, what, blob.size).into());
        }
        loop {
            match response.chunk().await {
                Ok(Some(piece)) => {
                    partial
                        .write(&piece, what)
                        .map_err(|error| wrong_content(error, endpoint, what))?;
                    self.event(Event::Moved {
                        digest: blob.digest,
                        at: partial.len(),
                        size: blob.size,
                    });
                }
                Ok(None) if partial.is_complete() => return Ok(()),
                Ok(None) => {
                    let reason = format!("it ended after {} of {} bytes", partial.len(), blob.size);
                    return Err(broken_off(endpoint, what, &reason));
                }
                Err(error) => return Err(broken_off(endpoint, what, &cause(&error))),
            }
        }
    }
}

/// The first byte of a part, by its `Content-Range` (RFC 9110, section 14.4).
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}

fn broken_off(endpoint: &Endpoint, what: &str, reason: &str) -> Failure {
    RegistryError::BrokenOff {
        registry: endpoint.repository.registry().name().to_owned(),
        what: what.to_owned(),
        reason: printable(reason),
    }
    .into()
}

fn too_large(endpoint: &Endpoint, what: &str, size: u64) -> RegistryError {
    RegistryError::TooLarge {
        registry: endpoint.repository.registry().name().to_owned(),
        what: what.to_owned(),
        limit: size,
        why: "what its manifest announces",
    }
}

/// What the store refuses is the registry's doing.
fn wrong_content(error: gantry_store::StoreError, endpoint: &Endpoint, what: &str) -> RegistryError {
    match error {
        gantry_store::StoreError::WrongDigest { expected, found, .. } => RegistryError::WrongDigest {
            registry: endpoint.repository.registry().name().to_owned(),
            what: what.to_owned(),
            expected,
            found,
        },
        gantry_store::StoreError::WrongSize { expected, .. } => too_large(endpoint, what, expected),
        other => other.into(),
    }
}

/// Runs what waits for the disk where it holds up nobody.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, gantry_store::StoreError> + Send + 'static,
) -> Result<T, gantry_store::StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
