//! This module owns [`RegistryClient`]: all registries, as one user of one machine sees them.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use gantry_model::ImageReference;
use reqwest::Url;

use crate::connections::{Connections, cause};
use crate::contact::{Contact, Contacts};
use crate::printable::printable;
use crate::requests::send_error;
use crate::token::Authorizations;
use crate::transfer::{Event, Events};
use crate::{
    Credentials, Endpoint, Places, RegistriesConf, Registry, RegistryError, Repository, RetryPolicy,
};

/// How registries are talked to.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where configuration lies.
    pub places: Places,
    /// Accept any certificate, and plain HTTP where TLS is not spoken, from the registries that names say: from no mirror, and from
    /// none that `registries.conf` puts before a short name or in the place of another.
    pub insecure: bool,
    /// The registries of which alone that is accepted, besides those of `registries.conf`.
    pub insecure_registries: BTreeSet<Registry>,
    /// The folder of certificates to use instead of those of the configuration.
    pub certificates: Option<PathBuf>,
    /// Credentials to use instead of those of auth files.
    pub credentials: Option<Credentials>,
    /// Credentials for single repositories, before those of auth files.
    pub logins: HashMap<Repository, Credentials>,
    /// How often to try again.
    pub retry: RetryPolicy,
}

/// A client of image registries. Cheap to clone.
#[derive(Clone)]
pub struct RegistryClient {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    conf: RegistriesConf,
    connections: Connections,
    authorizations: tokio::sync::Mutex<Authorizations>,
    /// Where each insecure registry answered: over TLS, or without.
    origins: Mutex<HashMap<String, Url>>,
    contacts: Contacts,
    events: Events,
}

impl std::fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryClient")
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

impl RegistryClient {
    /// A client; it tells `events` what happens.
    ///
    /// # Errors
    /// When a `registries.conf` is not valid.
    pub fn new(settings: Settings, events: Events) -> Result<Self, RegistryError> {
        let conf = RegistriesConf::load(&settings.places)?;
        let connections = Connections::new(settings.places.clone(), settings.certificates.clone());
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                conf,
                connections,
                authorizations: tokio::sync::Mutex::default(),
                origins: Mutex::default(),
                contacts: Contacts::default(),
                events,
            }),
        })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    pub(crate) fn conf(&self) -> &RegistriesConf {
        &self.inner.conf
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.inner.connections
    }

    pub(crate) fn authorizations(&self) -> &tokio::sync::Mutex<Authorizations> {
        &self.inner.authorizations
    }

    /// What is known of a registry, or of how one is reached.
    pub(crate) fn contact(&self, with: &str) -> Contact {
        self.inner.contacts.with(with)
    }

    /// Forgets that a registry does not answer, so that the next request finds out: once, however often this is called.
    pub(crate) async fn ask_once_more(&self, registry: &Registry) {
        for with in [registry.name().to_owned(), over_tls_or_not(registry)] {
            self.contact(&with).once_more().await;
        }
    }

    pub(crate) fn event(&self, event: Event) {
        (self.inner.events)(event);
    }

    /// Where to ask for a repository, mirrors first. `said` is the registry that the name says which was given; a short one says none.
    pub(crate) fn endpoints(
        &self,
        repository: &Repository,
        by_digest: bool,
        said: Option<&Registry>,
    ) -> Result<Vec<Endpoint>, RegistryError> {
        let mut endpoints = self.conf().endpoints(repository, by_digest)?;
        for endpoint in &mut endpoints {
            let registry = endpoint.repository.registry();
            endpoint.insecure |= self.settings().insecure_registries.contains(registry)
                || self.settings().insecure && said == Some(registry);
        }
        Ok(endpoints)
    }

    /// Where to send what goes into a repository, mirrors never; `said` as in [`Self::endpoints`].
    pub(crate) fn destination(
        &self,
        repository: &Repository,
        said: Option<&Registry>,
    ) -> Result<Endpoint, RegistryError> {
        let endpoints = self.endpoints(repository, false, said)?;
        Ok(endpoints
            .into_iter()
            .next_back()
            .expect("the registry itself is always last"))
    }

    /// `https://HOST/`; where that may be, `http://HOST/`, if TLS is not spoken there.
    pub(crate) async fn origin(&self, endpoint: &Endpoint) -> Result<Url, RegistryError> {
        let registry = endpoint.repository.registry();
        let address = |scheme: &str| {
            let text = format!("{scheme}://{}/", registry.host());
            text.parse::<Url>()
                .map_err(|error| RegistryError::Name(format!("registry {registry} is no address: {error}")))
        };
        let secure = address("https")?;
        if !endpoint.insecure {
            return Ok(secure);
        }
        if let Some(known) = self.origins().get(registry.name()) {
            return Ok(known.clone());
        }
        let contact = self.contact(&over_tls_or_not(registry));
        let mut first = contact.begin(registry.name()).await?;
        if let Some(known) = self.origins().get(registry.name()) {
            return Ok(known.clone());
        }
        let found = self.find_origin(endpoint, &[secure, address("http")?]).await;
        if let Ok(found) = &found {
            self.origins().insert(registry.name().to_owned(), found.clone());
        }
        contact.end(&mut first, found.as_ref().err()).await;
        found
    }

    /// Which of two `origins` answers.
    async fn find_origin(&self, endpoint: &Endpoint, origins: &[Url; 2]) -> Result<Url, RegistryError> {
        let registry = endpoint.repository.registry();
        let mut tries = 0;
        loop {
            let mut failure = None;
            for origin in origins {
                let ping = origin.join("v2/").expect("a path follows an address");
                match self.connections().client(&ping, true)?.get(ping).send().await {
                    Ok(_) => return Ok(origin.clone()),
                    Err(error) => {
                        tracing::debug!(%registry, scheme = origin.scheme(), reason = %printable(&cause(&error)), "no answer");
                        failure.get_or_insert_with(|| send_error(registry.name(), &error));
                    }
                }
            }
            let mut failure = failure.expect("both ways were tried");
            if endpoint.is_passed_over(&failure.error) {
                return Err(failure.error);
            }
            failure.transient = true;
            tries += 1;
            self.wait_after(failure, tries, registry.name()).await?;
        }
    }

    /// The address of something of a repository: `manifests/v1`, `blobs/sha256:…`.
    pub(crate) async fn url(&self, endpoint: &Endpoint, rest: &str) -> Result<Url, RegistryError> {
        let path = format!("v2/{}/{rest}", endpoint.repository.path());
        let origin = self.origin(endpoint).await?;
        origin
            .join(&path)
            .map_err(|error| RegistryError::Name(format!("{} is no address: {error}", endpoint.repository)))
    }

    fn origins(&self) -> std::sync::MutexGuard<'_, HashMap<String, Url>> {
        self.inner.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The registry that `name` says, of which `repository` is part.
pub(crate) fn said_in<'r>(name: &ImageReference, repository: &'r Repository) -> Option<&'r Registry> {
    name.domain().is_some().then(|| repository.registry())
}

/// By what name it is known whether a registry answers that may be insecure: apart from requests, which find their way here
/// themselves.
fn over_tls_or_not(registry: &Registry) -> String {
    format!("{registry}, over TLS or not")
}
