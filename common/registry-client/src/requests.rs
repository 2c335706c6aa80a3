//! This module owns one request: who asks is shown to the registry alone, redirects are followed within bounds, answers
//! become errors that say what the registry said.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::client::RegistryClient;
use crate::connections::{cause, same_origin};
use crate::limits::{IDLE_PATIENCE, MAX_ERROR_LEN, MAX_REDIRECTS, PIECE_LEN};
use crate::printable::printable;
use crate::retry::retry_after;
use crate::token::{Scope, refused};
use crate::transfer::Event;
use crate::{Endpoint, RegistryError, parse_challenges};

/// What is asked of a registry.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) payload: Payload,
    pub(crate) scope: Scope,
    /// What it is about, for errors: `manifest v1 of hub/a`.
    pub(crate) what: String,
    /// Answers that are no errors, besides those of success.
    pub(crate) accepted: &'static [StatusCode],
    /// How long the registry may take to answer once everything was sent.
    pub(crate) patience: Duration,
}

/// What goes with a request.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Nothing,
    Bytes(Bytes),
    /// A part of a file; what was handed to the connection is counted.
    File {
        path: PathBuf,
        offset: u64,
        len: u64,
        sent: Arc<AtomicU64>,
    },
}

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: RegistryError,
    /// Whether the same may work a little later.
    pub(crate) transient: bool,
    /// When to come back, if the registry says so.
    pub(crate) retry_after: Option<Duration>,
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let transient = matches!(
            error,
            RegistryError::BrokenOff { .. } | RegistryError::Unreachable { .. }
        );
        Self {
            error,
            transient,
            retry_after: None,
        }
    }
}

impl<'a> Ask<'a> {
    /// A request for something below `/v2/NAME/` of an endpoint.
    pub(crate) fn new(endpoint: &'a Endpoint, method: Method, url: Url, what: impl Into<String>) -> Self {
        Self {
            endpoint,
            method,
            url,
            headers: Vec::new(),
            payload: Payload::Nothing,
            scope: Scope::repository(endpoint, "pull"),
            what: what.into(),
            accepted: &[],
            patience: IDLE_PATIENCE,
        }
    }

    fn registry(&self) -> String {
        self.endpoint.repository.registry().name().to_owned()
    }
}

impl RegistryClient {
    /// Asks until there is an answer that will not change, as the policy of retries has it.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Result<Response, RegistryError> {
        let registry = ask.registry();
        let contact = self.contact(&registry);
        let mut first = contact.begin(&registry).await?;
        let mut tries = 0;
        let answer = loop {
            match self.ask_once(ask).await {
                Ok(response) => break Ok(response),
                Err(failure) if first.is_some() && ask.endpoint.is_passed_over(&failure.error) => {
                    break Err(failure.error);
                }
                Err(failure) => {
                    tries += 1;
                    if let Err(error) = self.wait_after(failure, tries, &registry).await {
                        break Err(error);
                    }
                }
            }
        };
        contact.end(&mut first, answer.as_ref().err()).await;
        answer
    }

    /// Waits before the next try; gives the error back when there is none.
    pub(crate) async fn wait_after(
        &self,
        failure: Failure,
        tries: u32,
        registry: &str,
    ) -> Result<(), RegistryError> {
        let wait = self.settings().retry.wait(tries, failure.retry_after);
        match wait.filter(|_| failure.transient) {
            Some(wait) => {
                self.event(Event::Waiting {
                    registry: registry.to_owned(),
                    reason: failure.error.on_the_way(),
                    wait,
                });
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => Err(failure.error),
        }
    }

    /// Sends a request that belongs to no repository, again where that may help.
    pub(crate) async fn send_retrying(
        &self,
        registry: &str,
        what: &str,
        request: RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let mut tries = 0;
        loop {
            let again = request.try_clone().expect("the body is in memory");
            let failure = match tokio::time::timeout(IDLE_PATIENCE, again.send()).await {
                Ok(Ok(response)) if !is_transient(response.status()) => return Ok(response),
                Ok(Ok(response)) => {
                    let (status, asked) = (response.status(), asked_to_wait(&response));
                    Failure {
                        error: RegistryError::Answer {
                            registry: registry.to_owned(),
                            what: format!("a request to {what}"),
                            reason: error_text(status, b""),
                        },
                        transient: true,
                        retry_after: asked,
                    }
                }
                Ok(Err(error)) => send_error(registry, &error),
                Err(_) => silent(registry),
            };
            tries += 1;
            self.wait_after(failure, tries, registry).await?;
        }
    }

    /// Asks once: with the authorization that is known, and when that does not do, with a new one.
    pub(crate) async fn ask_once(&self, ask: &Ask<'_>) -> Result<Response, Failure> {
        let mut authorization = self.authorization(ask.endpoint, &ask.scope).await?;
        let mut refusals = 0;
        loop {
            let response = self.follow(ask, authorization.as_ref()).await?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && refusals == 0 {
                refusals += 1;
                let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
                let challenges = headers
                    .filter_map(|header| header.to_str().ok())
                    .flat_map(parse_challenges);
                self.learn(ask.endpoint, &ask.scope, challenges.collect()).await?;
                let shown = authorization.take();
                authorization = self.authorization(ask.endpoint, &ask.scope).await?;
                // The same name and password again would be refused again.
                if authorization.is_some() && authorization != shown {
                    continue;
                }
            } else if status.is_success() || ask.accepted.contains(&status) {
                return Ok(response);
            }
            return Err(self.refusal(ask, response).await);
        }
    }

    /// Sends and follows redirects. What shows who asks goes to the registry and to nobody else.
    async fn follow(&self, ask: &Ask<'_>, authorization: Option<&HeaderValue>) -> Result<Response, Failure> {
        let origin = self.origin(ask.endpoint).await?;
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let home = same_origin(&url, &origin);
            let insecure = ask.endpoint.insecure && home;
            let mut request = self
                .connections()
                .client(&url, insecure)?
                .request(ask.method.clone(), url.clone());
            for (name, value) in &ask.headers {
                request = request.header(name, value);
            }
            if let Some(authorization) = authorization.filter(|_| home) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = self.deliver(ask, request).await?;
            let redirected =
                response.status().is_redirection() && matches!(ask.method, Method::GET | Method::HEAD);
            if !redirected {
                return Ok(response);
            }
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|location| location.to_str().ok());
            let target = location.and_then(|location| url.join(location).ok());
            let wrong = |reason: String| RegistryError::Malformed {
                registry: ask.registry(),
                what: ask.what.clone(),
                reason,
            };
            let Some(target) = target else {
                return Err(wrong("it leads elsewhere, but not where".to_owned()).into());
            };
            if target.scheme() != "https" && !(target.scheme() == "http" && ask.endpoint.insecure) {
                let reason = format!(
                    "it leads to {}, which is not reached over TLS",
                    printable(target.as_str())
                );
                return Err(wrong(reason).into());
            }
            url = target;
        }
        Err(RegistryError::Malformed {
            registry: ask.registry(),
            what: ask.what.clone(),
            reason: format!("it is redirected more than {MAX_REDIRECTS} times"),
        }
        .into())
    }

    /// Sends one request with its payload and waits for the answer's beginning, as long as something moves.
    async fn deliver(&self, ask: &Ask<'_>, request: RequestBuilder) -> Result<Response, Failure> {
        let registry = ask.registry();
        let (request, sent) = match &ask.payload {
            Payload::Nothing if matches!(ask.method, Method::GET | Method::HEAD) => (request, None),
            Payload::Nothing => (request.header(CONTENT_LENGTH, 0), None),
            Payload::Bytes(bytes) => (request.body(bytes.clone()), None),
            Payload::File {
                path,
                offset,
                len,
                sent,
            } => {
                let cannot = |source| {
                    Failure::from(RegistryError::Store(gantry_store::StoreError::io("read", path)(
                        source,
                    )))
                };
                let mut file = tokio::fs::File::open(path).await.map_err(cannot)?;
                file.seek(std::io::SeekFrom::Start(*offset))
                    .await
                    .map_err(cannot)?;
                let counter = sent.clone();
                let pieces = ReaderStream::with_capacity(file.take(*len), PIECE_LEN).inspect(move |piece| {
                    if let Ok(piece) = piece {
                        counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
                    }
                });
                let request = request
                    .header(CONTENT_LENGTH, *len)
                    .body(Body::wrap_stream(pieces));
                (request, Some((sent.clone(), *len)))
            }
        };
        let mut answer = std::pin::pin!(request.send());
        let mut before = None;
        loop {
            let now = sent.as_ref().map(|(sent, _)| sent.load(Ordering::Relaxed));
            let all_sent = sent
                .as_ref()
                .is_none_or(|(sent, len)| sent.load(Ordering::Relaxed) >= *len);
            let patience = if all_sent { ask.patience } else { IDLE_PATIENCE };
            match tokio::time::timeout(patience, &mut answer).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => return Err(send_error(&registry, &error)),
                // The last bytes may have moved just now: then the registry gets its time to think.
                Err(_) if now.is_some() && now != before => before = now,
                Err(_) => return Err(silent(&registry)),
            }
        }
    }

    /// What an answer that is no success says.
    async fn refusal(&self, ask: &Ask<'_>, response: Response) -> Failure {
        let (status, asked) = (response.status(), asked_to_wait(&response));
        let registry = ask.registry();
        let body = read_start(response).await;
        let (what, reason) = (ask.what.clone(), error_text(status, &body));
        let error = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let user = self.credentials(ask.endpoint).await.ok().flatten();
                match refused(&registry, user.map(|user| user.user().to_owned()), reason) {
                    RegistryError::Denied {
                        registry,
                        user,
                        reason,
                        ..
                    } => RegistryError::Denied {
                        registry,
                        what,
                        user,
                        reason,
                    },
                    RegistryError::NotLoggedIn { registry, reason, .. } => RegistryError::NotLoggedIn {
                        registry,
                        what,
                        reason,
                    },
                    other => other,
                }
            }
            StatusCode::NOT_FOUND => RegistryError::NotFound {
                registry,
                what,
                reason,
            },
            _ => RegistryError::Answer {
                registry,
                what,
                reason,
            },
        };
        Failure {
            error,
            transient: is_transient(status),
            retry_after: asked,
        }
    }
}

/// Answers that may be different a little later.
fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn asked_to_wait(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    retry_after(value, jiff::Timestamp::now())
}

fn silent(registry: &str) -> Failure {
    RegistryError::Unreachable {
        registry: registry.to_owned(),
        reason: "nothing moves any more".to_owned(),
    }
    .into()
}

/// A request that got no answer. A certificate that is not trusted will not be trusted later.
pub(crate) fn send_error(registry: &str, error: &reqwest::Error) -> Failure {
    let reason = printable(&cause(error));
    let registry = registry.to_owned();
    let advice = if reason.contains("InvalidContentType") {
        Some(format!(
            "it does not speak TLS; where plain HTTP is meant, say --insecure, or `insecure = true` for {registry} in registries.conf"
        ))
    } else if reason.contains("certificate") {
        Some(format!(
            "{reason}; put the certificate of its authority into /etc/containers/certs.d/{registry}/ca.crt"
        ))
    } else {
        None
    };
    match advice {
        Some(reason) => RegistryError::Untrusted { registry, reason }.into(),
        None => RegistryError::Unreachable { registry, reason }.into(),
    }
}

/// The body, if it is not longer than `limit`.
pub(crate) async fn read_bounded(
    mut response: Response,
    limit: usize,
    registry: &str,
    what: &str,
) -> Result<Bytes, RegistryError> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body.into()),
            Ok(Some(piece)) if body.len() + piece.len() > limit => {
                return Err(RegistryError::TooLarge {
                    registry: registry.to_owned(),
                    what: what.to_owned(),
                    limit: limit as u64,
                    why: "the most that is accepted",
                });
            }
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Err(error) => {
                return Err(RegistryError::BrokenOff {
                    registry: registry.to_owned(),
                    what: what.to_owned(),
                    reason: printable(&cause(&error)),
                });
            }
        }
    }
}

/// The beginning of an error's body; whoever sends an endless one is not listened to.
async fn read_start(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() >= MAX_ERROR_LEN {
            body.truncate(MAX_ERROR_LEN);
            break;
        }
    }
    body
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<OneError>,
    #[serde(default)]
    details: String,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What an error's body says (OCI distribution-spec, "Error codes"), else what its status means.
pub(crate) fn error_text(status: StatusCode, body: &[u8]) -> String {
    let parsed: Option<Errors> = serde_json::from_slice(body).ok();
    let said = parsed.map(|errors| {
        let texts = errors
            .errors
            .iter()
            .map(|error| match (error.code.as_str(), error.message.as_str()) {
                (code, "") => code.to_owned(),
                (_, message) => message.to_owned(),
            });
        texts
            .chain([errors.details])
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join(", ")
    });
    let said = printable(&said.unwrap_or_default());
    let meaning = status
        .canonical_reason()
        .unwrap_or("no known status")
        .to_lowercase();
    if said.is_empty() {
        format!("{} {meaning}", status.as_u16())
    } else {
        format!("{said} ({})", status.as_u16())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_shown_without_its_tricks() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[2J access"},{"code":"X"}]}"#;
        assert_eq!(error_text(StatusCode::FORBIDDEN, body), "no[2J access, X (403)");
        assert_eq!(error_text(StatusCode::BAD_GATEWAY, b"<html>"), "502 bad gateway");
        assert_eq!(
            error_text(StatusCode::UNAUTHORIZED, br#"{"details":"incorrect"}"#),
            "incorrect (401)"
        );
    }
}
