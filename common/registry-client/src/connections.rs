//! This module owns [`Connections`]: one pool of connections per host, each with that host's certificates.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::limits::{CONNECT_PATIENCE, IDLE_PATIENCE};
use crate::{Places, RegistryError, certificates};

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
            .user_agent(concat!("gantry/", env!("CARGO_PKG_VERSION")))
            // Redirects are followed by `requests`, which knows what may be shown to whom.
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_PATIENCE)
            .read_timeout(IDLE_PATIENCE)
            .build()
            .map_err(|error| RegistryError::Credentials(format!("cannot speak HTTP: {error}")))?;
        clients.insert((host, insecure), client.clone());
        Ok(client)
    }
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
