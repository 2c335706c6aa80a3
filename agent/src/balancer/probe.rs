//! This module owns [`Probe`]: whether an API server is ready, by its own word (`/readyz`), over a connection that is kept.
//!
//! The certificate is not verified, as kubelet's own HTTPS probes do not: nothing is told to the server, and all that is
//! believed is a status. Whoever is led to it verifies it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long an answer may take, with the connection if there is none yet.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Longest answer that is read, in bytes: a line for each of some thirty checks.
const MAX_ANSWER_LEN: usize = 16 << 10;
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
    connector: TlsConnector,
    path: &'static str,
    kept: Option<TlsStream<TcpStream>>,
}

impl Probe {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connector: TlsConnector::from(Arc::new(client())),
            path: READY,
            kept: None,
        }
    }

    /// Asks once.
    pub(super) async fn ask(&mut self) -> Health {
        match timeout(ANSWER_LIMIT, self.status()).await {
            Err(_) => Health::Silent(format!("no answer within {} s", ANSWER_LIMIT.as_secs())),
            Ok(Err(error)) if is_alert(&error) => Health::Ready,
            Ok(Err(error)) => Health::Silent(error.to_string()),
            // Strangers are told nothing where anonymous access is off; but it is there.
            Ok(Ok((200 | 401 | 403, _))) => Health::Ready,
            Ok(Ok((status, body))) => Health::NotReady(reason(status, &body)),
        }
    }

    async fn status(&mut self) -> io::Result<(u16, String)> {
        let answer = self.answer().await?;
        if answer.0 != 404 || self.path == HEALTHY {
            return Ok(answer);
        }
        self.path = HEALTHY;
        self.answer().await
    }

    async fn answer(&mut self) -> io::Result<(u16, String)> {
        if let Some(stream) = self.kept.take() {
            // It may have been closed since the last time, which tells nothing.
            if let Ok(answer) = self.request(stream).await {
                return Ok(answer);
            }
        }
        let stream = self.connect().await?;
        self.request(stream).await
    }

    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        self.connector
            .connect(ServerName::from(self.address.ip()), stream)
            .await
    }

    /// One request (RFC 9112); the connection is kept when where its answer ends is known.
    async fn request(&mut self, mut stream: TlsStream<TcpStream>) -> io::Result<(u16, String)> {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: gantry-balancer\r\nAccept: text/plain\r\n\r\n",
            self.path, self.address
        );
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut bytes = Vec::new();
        loop {
            if let Some(answer) = Answer::of(&bytes)? {
                if answer.is_kept {
                    self.kept = Some(stream);
                }
                return Ok((answer.status, answer.body));
            }
            let room = MAX_ANSWER_LEN - bytes.len();
            if room == 0 {
                return Err(io::Error::other("its answer is too long"));
            }
            if (&mut stream).take(room as u64).read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

struct Answer {
    status: u16,
    body: String,
    is_kept: bool,
}

impl Answer {
    /// The answer in `bytes`; none while it is not whole.
    fn of(bytes: &[u8]) -> io::Result<Option<Self>> {
        let text = String::from_utf8_lossy(bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return Ok(None);
        };
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("it does not speak HTTP"))?;
        let fields = || lines.clone().filter_map(|line| line.split_once(':'));
        let field = |wanted: &str| {
            fields()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.trim())
        };
        let length = field("content-length").and_then(|length| length.parse::<usize>().ok());
        if length.is_some_and(|length| body.len() < length) {
            return Ok(None);
        }
        Ok(Some(Self {
            status,
            body: body.to_owned(),
            is_kept: length == Some(body.len()) && field("connection").is_none_or(|value| value != "close"),
        }))
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
    fn an_answer_is_whole_when_its_body_is() {
        let head =
            "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 26\r\n\r\n";
        let body = "[+]ping ok\n[-]etcd failed\n";
        assert!(Answer::of(&head.as_bytes()[..40]).unwrap().is_none());
        assert!(Answer::of(head.as_bytes()).unwrap().is_none());
        let answer = Answer::of(format!("{head}{body}").as_bytes()).unwrap().unwrap();
        assert!(answer.is_kept);
        assert_eq!(reason(answer.status, &answer.body), "status 500: etcd failed");
        assert!(Answer::of(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(!Answer::of(b"HTTP/1.0 200 OK\r\n\r\nok").unwrap().unwrap().is_kept);
    }
}
