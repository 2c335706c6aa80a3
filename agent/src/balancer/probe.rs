//! This module owns [`Probe`]: whether an API server is ready, by its own word (`/readyz`), over a connection that is kept.
//!
//! The certificate is not verified, as kubelet's own HTTPS probes do not: nothing is told to the server, and all that is
//! believed is a status. Whoever is led to it verifies it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::https::{HttpsConnection, SHORT_ANSWER_LEN};

/// How long an answer may take, with the connection if there is none yet: an API server itself waits 2 s for its etcd.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// How long a host may take to accept a connection, when its answer is late.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// What API servers since v1.16 say about themselves; it covers what `/livez` covers.
const READY: &str = "/readyz";
/// What older ones do.
const HEALTHY: &str = "/healthz";

/// How an API server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// It serves.
    Ready,
    /// It answers, and says that it does not serve: without its etcd, or while it shuts down.
    NotReady(String),
    /// It does not answer.
    Silent(String),
}

/// What asks one API server how it is.
pub(super) struct Probe {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    path: &'static str,
    kept: Option<HttpsConnection>,
}

impl Probe {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            config: Arc::new(client()),
            path: READY,
            kept: None,
        }
    }

    /// Asks once.
    pub(super) async fn ask(&mut self) -> Health {
        match timeout(ANSWER_LIMIT, self.status()).await {
            Err(_) => {
                // Whatever it was going to say, it belongs to this question.
                self.kept = None;
                self.late().await
            }
            Ok(Err(error)) if is_alert(&error) => Health::Ready,
            Ok(Err(error)) => Health::Silent(error.to_string()),
            // Strangers are told nothing where anonymous access is off; but it is there.
            Ok(Ok((200 | 401 | 403, _))) => Health::Ready,
            Ok(Ok((status, body))) => Health::NotReady(reason(status, &String::from_utf8_lossy(&body))),
        }
    }

    /// How a server is whose answer did not come: it has too much to do, or its host has no power.
    async fn late(&self) -> Health {
        let reason = format!("no answer within {} s", ANSWER_LIMIT.as_secs());
        match timeout(CONNECT_LIMIT, TcpStream::connect(self.address)).await {
            Ok(Ok(_)) => Health::NotReady(reason),
            _ => Health::Silent(reason),
        }
    }

    async fn status(&mut self) -> io::Result<(u16, Bytes)> {
        let answer = self.answer().await?;
        if answer.0 != 404 || self.path == HEALTHY {
            return Ok(answer);
        }
        self.path = HEALTHY;
        self.answer().await
    }

    async fn answer(&mut self) -> io::Result<(u16, Bytes)> {
        if let Some(kept) = &mut self.kept {
            // It may have been closed since the last time, which tells nothing.
            if let Ok(answer) = kept.request(self.path, None, SHORT_ANSWER_LEN).await {
                return Ok(answer);
            }
        }
        let fresh = HttpsConnection::connect(self.address, Arc::clone(&self.config)).await?;
        self.kept
            .insert(fresh)
            .request(self.path, None, SHORT_ANSWER_LEN)
            .await
    }
}

/// What a server that is not ready says is wrong: the checks it marks with `[-]`.
fn reason(status: u16, body: &str) -> String {
    let failed = body
        .lines()
        .filter_map(|line| line.strip_prefix("[-]")?.split_ascii_whitespace().next());
    let failed: Vec<&str> = failed.collect();
    if failed.is_empty() {
        format!("status {status}")
    } else {
        format!("status {status}: {} failed", failed.join(", "))
    }
}

/// Whether a server refused our way of speaking TLS: it is there, and cannot be asked. Before v1.17 it was TLS 1.2.
fn is_alert(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(error, Some(Error::AlertReceived(_)))
}

fn client() -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has cipher suites of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Takes every certificate; see above.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_not_ready_names_the_checks_that_failed() {
        let body = "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nreadyz check failed\n";
        assert_eq!(reason(500, body), "status 500: etcd failed");
        assert_eq!(reason(503, ""), "status 503");
    }
}
