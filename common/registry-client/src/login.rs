//! This module owns logging in: credentials are tried before they are kept.

use reqwest::{Method, StatusCode};

use crate::client::RegistryClient;
use crate::requests::Ask;
use crate::token::Scope;
use crate::{Endpoint, Namespace, RegistryError, Repository, credentials};

impl RegistryClient {
    /// Shows the credentials of the settings to the registry of `namespace`; when it accepts them, they are kept for what is in that.
    /// Gives the file or the credential helper that has them now.
    ///
    /// # Errors
    /// When the registry refuses them, or they cannot be kept.
    pub async fn log_in(&self, namespace: &Namespace) -> Result<String, RegistryError> {
        let shown = self.settings().credentials.clone();
        let shown = shown.ok_or_else(|| {
            RegistryError::Credentials("there is no name and password to log in with".to_owned())
        })?;
        let endpoint = Endpoint {
            insecure: self
                .destination(&namespace.repository(), Some(namespace.registry()))?
                .insecure,
            repository: Repository::new(namespace.registry().clone(), "-"),
            mirror: false,
        };
        let url = self
            .origin(&endpoint)
            .await?
            .join("v2/")
            .expect("a path follows an address");
        let mut ask = Ask::new(&endpoint, Method::GET, url, "the login");
        ask.scope = Scope::default();
        // Registries without repositories to list, and those without an answer here, still say who may ask.
        ask.accepted = &[StatusCode::NOT_FOUND];
        self.ask(&ask).await?;
        let path = self.login_file()?;
        credentials::keep(path, namespace, &shown).await
    }

    /// Forgets the credentials that were kept for `namespace`; those for a part of it stay. Gives the file or helper that had them, none if nobody had.
    ///
    /// # Errors
    /// When an auth file cannot be read or written.
    pub async fn log_out(&self, namespace: &Namespace) -> Result<Option<String>, RegistryError> {
        credentials::forget(self.login_file()?, namespace).await
    }

    fn login_file(&self) -> Result<std::path::PathBuf, RegistryError> {
        self.settings().places.login_file().ok_or_else(|| {
            RegistryError::Credentials(
                "there is no home folder to keep the login in; give a file with --authfile".to_owned(),
            )
        })
    }
}
