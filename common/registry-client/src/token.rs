//! This module owns authorization: the header that goes with a request, and the tokens behind it (distribution's token
//! authentication, RFC 6750).

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use tokio::time::Instant;

use crate::client::RegistryClient;
use crate::limits::MAX_TOKEN_LEN;
use crate::printable::printable;
use crate::requests::read_bounded;
use crate::{Challenge, Credentials, Endpoint, Registry, RegistryError, Repository, credentials};

/// How long a token holds that does not say (distribution's specification).
const DEFAULT_LIFE: Duration = Duration::from_mins(1);
/// So much before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(10);
/// Longest life of a token that is believed.
const LONGEST_LIFE: Duration = Duration::from_hours(1);

/// What was learned about registries' authentication.
#[derive(Debug, Default)]
pub(crate) struct Authorizations {
    /// How each registry wants to be asked.
    challenges: HashMap<String, Challenge>,
    tokens: HashMap<(String, String), (HeaderValue, Instant)>,
}

/// What a request needs: `repository:NAME:pull,push`, in the words of the token specification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope(pub(crate) Vec<String>);

impl Scope {
    /// To do `actions` in the repository of `endpoint`.
    pub(crate) fn repository(endpoint: &Endpoint, actions: &str) -> Self {
        Self(vec![format!(
            "repository:{}:{actions}",
            endpoint.repository.path()
        )])
    }

    /// And to read another repository of the same registry.
    pub(crate) fn and_pull(mut self, path: &str) -> Self {
        self.0.push(format!("repository:{path}:pull"));
        self
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl RegistryClient {
    /// The header that this registry wants, as far as it is known what it wants.
    pub(crate) async fn authorization(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let registry = endpoint.repository.registry();
        // Held while a token is fetched, so that requests side by side fetch one.
        let mut known = self.authorizations().lock().await;
        let Some(challenge) = known.challenges.get(registry.name()).cloned() else {
            return Ok(None);
        };
        let credentials = self.credentials(endpoint).await?;
        if challenge.scheme == "basic" {
            return Ok(match credentials {
                Some(Credentials::Password { user, secret }) => Some(basic(&user, &secret)?),
                _ => None,
            });
        }
        let key = (registry.name().to_owned(), scope.0.join(" "));
        if let Some((token, ends)) = known.tokens.get(&key)
            && *ends > Instant::now()
        {
            return Ok(Some(token.clone()));
        }
        let (token, life) = self.fetch_token(endpoint, &challenge, scope, credentials).await?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| malformed(endpoint, "the token it sends is not one"))?;
        value.set_sensitive(true);
        let ends = Instant::now() + life.saturating_sub(MARGIN);
        known.tokens.insert(key, (value.clone(), ends));
        Ok(Some(value))
    }

    /// Remembers how a registry wants to be asked, and forgets the token it refused.
    pub(crate) async fn learn(
        &self,
        endpoint: &Endpoint,
        scope: &Scope,
        challenges: Vec<Challenge>,
    ) -> Result<(), RegistryError> {
        let registry = endpoint.repository.registry();
        let offered: Vec<_> = challenges
            .iter()
            .map(|challenge| challenge.scheme.clone())
            .collect();
        let wanted = ["bearer", "basic"];
        let best = wanted
            .iter()
            .find_map(|wanted| challenges.iter().find(|one| one.scheme == *wanted));
        let Some(best) = best else {
            let reason = if offered.is_empty() {
                "it does not say how to log in".to_owned()
            } else {
                format!(
                    "it wants {}, which Gantry does not speak",
                    printable(&offered.join(", "))
                )
            };
            return Err(RegistryError::Answer {
                registry: registry.name().to_owned(),
                what: "a request without a password".to_owned(),
                reason,
            });
        };
        let mut known = self.authorizations().lock().await;
        known
            .tokens
            .remove(&(registry.name().to_owned(), scope.0.join(" ")));
        known.challenges.insert(registry.name().to_owned(), best.clone());
        Ok(())
    }

    /// The credentials for a repository: given ones, else those of the auth files.
    pub(crate) async fn credentials(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Option<Credentials>, RegistryError> {
        if let Some(given) = &self.settings().credentials {
            return Ok(Some(given.clone()));
        }
        if let Some(login) = self.settings().logins.get(&endpoint.repository) {
            return Ok(Some(login.clone()));
        }
        credentials::look_up(&self.settings().places, &endpoint.repository).await
    }

    /// Whether a token server may be insecure: one of a registry that may, if it is the same host, and one of which
    /// `registries.conf` or the command line says so. Any other is whatever the registry says, which nobody has proved to be it.
    async fn is_insecure_realm(&self, endpoint: &Endpoint, realm: &Url) -> Result<bool, RegistryError> {
        if endpoint.insecure && self.origin(endpoint).await?.host_str() == realm.host_str() {
            return Ok(true);
        }
        let Ok(server) = Registry::parse(&host_and_port(realm)) else {
            return Ok(false);
        };
        let somewhere = Repository::new(server, "any/repository");
        Ok(self
            .destination(&somewhere, None)
            .is_ok_and(|server| server.insecure))
    }

    async fn fetch_token(
        &self,
        endpoint: &Endpoint,
        challenge: &Challenge,
        scope: &Scope,
        credentials: Option<Credentials>,
    ) -> Result<(String, Duration), RegistryError> {
        let registry = endpoint.repository.registry().name();
        let realm = challenge.get("realm").unwrap_or_default();
        let mut url: Url = realm
            .parse()
            .map_err(|_| malformed(endpoint, &format!("its token server {realm:?} is no address")))?;
        // Credentials go to the server that the registry names; never by a way that others can read, unless said.
        let insecure = self.is_insecure_realm(endpoint, &url).await?;
        if url.scheme() != "https" && !(url.scheme() == "http" && insecure) {
            let how = if endpoint.insecure {
                let server = host_and_port(&url);
                format!("; where that is meant, say `insecure = true` for {server} in registries.conf")
            } else {
                String::new()
            };
            let reason = format!(
                "its token server {realm:?} is not reached over TLS, so no password is sent there{how}"
            );
            return Err(malformed(endpoint, &reason));
        }
        let client = self.connections().client(&url, insecure)?;
        let mut fields: Vec<(&str, String)> = Vec::new();
        if let Some(service) = challenge.get("service") {
            fields.push(("service", service.to_owned()));
        }
        let wanted = if scope.0.is_empty() {
            challenge
                .get("scope")
                .map(|scope| vec![scope.to_owned()])
                .unwrap_or_default()
        } else {
            scope.0.clone()
        };
        let user = credentials
            .as_ref()
            .map(|credentials| credentials.user().to_owned());
        let request = match credentials {
            Some(Credentials::IdentityToken(token)) => {
                fields.push(("scope", wanted.join(" ")));
                fields.push(("grant_type", "refresh_token".to_owned()));
                fields.push(("refresh_token", token));
                fields.push(("client_id", "gantry".to_owned()));
                let mut form = Url::parse("http://form").expect("it is an address");
                form.query_pairs_mut().extend_pairs(&fields);
                client
                    .post(url)
                    .header("Content-Type", "application/x-www-form-urlencoded")
                    .body(form.query().unwrap_or_default().to_owned())
            }
            other => {
                fields.extend(wanted.into_iter().map(|scope| ("scope", scope)));
                let mut header = None;
                if let Some(Credentials::Password { user, secret }) = other {
                    fields.push(("account", user.clone()));
                    header = Some(basic(&user, &secret)?);
                }
                url.query_pairs_mut().extend_pairs(&fields);
                let request = client.get(url);
                match header {
                    Some(header) => request.header("Authorization", header),
                    None => request,
                }
            }
        };
        let what = "a token";
        let response = self.send_retrying(registry, "its token server", request).await?;
        let status = response.status();
        let body = read_bounded(response, MAX_TOKEN_LEN, registry, what).await?;
        if matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST
        ) {
            return Err(refused(
                registry,
                user,
                crate::requests::error_text(status, &body),
            ));
        }
        if !status.is_success() {
            return Err(RegistryError::Answer {
                registry: registry.to_owned(),
                what: "a request for a token".to_owned(),
                reason: crate::requests::error_text(status, &body),
            });
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| malformed(endpoint, "its token server's answer is not JSON with a token"))?;
        let token = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| malformed(endpoint, "its token server's answer has no token"))?;
        let life = answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
        Ok((token, life.clamp(DEFAULT_LIFE, LONGEST_LIFE)))
    }
}

/// The error of somebody who was refused: one who came without a name is told to log in.
pub(crate) fn refused(registry: &str, user: Option<String>, reason: String) -> RegistryError {
    let (registry, what) = (registry.to_owned(), "access".to_owned());
    match user {
        None => RegistryError::NotLoggedIn {
            registry,
            what,
            reason,
        },
        Some(user) => RegistryError::Denied {
            registry,
            what,
            user,
            reason,
        },
    }
}

/// `HOST` or `HOST:PORT`, as registries are called.
fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn basic(user: &str, secret: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{user}:{secret}"))))
        .map_err(|_| RegistryError::Credentials("the user name or password cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn malformed(endpoint: &Endpoint, reason: &str) -> RegistryError {
    RegistryError::Malformed {
        registry: endpoint.repository.registry().name().to_owned(),
        what: "the login".to_owned(),
        reason: printable(reason),
    }
}
