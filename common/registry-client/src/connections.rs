//! This module owns [`Connections`]: one pool of connections per host, each with that host's certificates.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::limits::{CONNECT_PATIENCE, IDLE_PATIENCE, MAX_REDIRECTS};
use crate::{Places, RegistryError, certificates};

const USER_AGENT: &str = concat!("gantry/", env!("CARGO_PKG_VERSION"));

/// The hosts that were talked to.
#[derive(Debug)]
pub(crate) struct Connections {
    places: Places,
    certificates: Option<PathBuf>,
    clients: Mutex<HashMap<(String, bool), Client>>,
}

impl Connections {
    /// `certificates` is the folder to look into instead of those of the configuration.
    pub(crate) fn new(places: Places, certificates: Option<PathBuf>) -> Self {
        Self {
            places,
            certificates,
            clients: Mutex::default(),
        }
    }

    /// The client for the host of `url`.
    pub(crate) fn client(&self, url: &Url, insecure: bool) -> Result<Client, RegistryError> {
        let host = host_of(url);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&(host.clone(), insecure)) {
            return Ok(client.clone());
        }
        let folders = match &self.certificates {
            Some(folder) => vec![folder.clone()],
            None => self.places.certificate_folders(&host),
        };
        let client = Client::builder()
            .tls_backend_preconfigured(certificates::client_config(&folders, insecure)?)
            .user_agent(USER_AGENT)
            // Redirects are followed by `requests`, which knows what may be shown to whom.
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_PATIENCE)
            .read_timeout(IDLE_PATIENCE)
            .build()
            .map_err(no_http)?;
        clients.insert((host, insecure), client.clone());
        Ok(client)
    }
}

/// A client for files that lie on servers of any kind: it trusts whom this machine trusts, follows a few redirects, and none
/// from TLS to without.
///
/// # Errors
/// When this machine cannot speak TLS.
pub fn web_client() -> Result<Client, RegistryError> {
    let redirects = Policy::custom(|attempt| {
        let downgraded = attempt
            .previous()
            .last()
            .is_some_and(|last| last.scheme() == "https")
            && attempt.url().scheme() != "https";
        if downgraded {
            attempt.error("it leads to an address without TLS")
        } else if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("it is redirected too often")
        } else {
            attempt.follow()
        }
    });
    Client::builder()
        .tls_backend_preconfigured(certificates::client_config(&[], false)?)
        .user_agent(USER_AGENT)
        .redirect(redirects)
        .referer(false)
        .connect_timeout(CONNECT_PATIENCE)
        .read_timeout(IDLE_PATIENCE)
        .build()
        .map_err(no_http)
}

fn no_http(error: reqwest::Error) -> RegistryError {
    RegistryError::Credentials(format!("cannot speak HTTP: {error}"))
}

/// `HOST[:PORT]` of an address, the port only where it is not the scheme's own.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether two addresses lead to the same server: what one may be shown, the other may.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Why sending failed, in words: the last cause, which is the one that tells something.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it does not answer in time".to_owned();
    }
    let mut source: &dyn std::error::Error = error;
    while let Some(next) = source.source() {
        source = next;
    }
    source.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_port_or_scheme_is_another_server() {
        let url = |text: &str| text.parse::<Url>().unwrap();
        assert!(same_origin(&url("https://a.io/x"), &url("https://A.io:443/y")));
        for other in [
            "http://a.io/x",
            "https://a.io:444/x",
            "https://b.a.io/x",
            "https://a.io.evil/x",
        ] {
            assert!(!same_origin(&url("https://a.io/x"), &url(other)), "{other}");
        }
    }
}
