//! This module owns [`EtcdClient`]: requests to one member.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gantry_model::{QuorumError, SnapshotError};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio::time::timeout;

use super::answers::Answers;
use crate::https::{HttpsConnection, SHORT_ANSWER_LEN};

/// Where kubeadm keeps etcd's certificates on a control plane.
const PKI: &str = "/etc/kubernetes/pki/etcd";
/// How long one member may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The API's versions, newest first: etcd 3.4 and later have the first only, 3.3 the second.
const VERSIONS: [&str; 2] = ["/v3", "/v3beta"];

/// Why etcd cannot be asked, or does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EtcdError {
    /// This host has no etcd of a cluster.
    #[error("this host runs no etcd of a cluster: there is no {}", .0.display())]
    NoEtcd(PathBuf),
    /// A certificate or key cannot be used.
    #[error("{} cannot be used: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A member does not answer.
    #[error("etcd at {address} does not answer: {source}")]
    Silent {
        /// The member.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A member refuses.
    #[error("etcd at {address} refuses: {reason}")]
    Refused {
        /// The member.
        address: SocketAddr,
        /// What it says.
        reason: String,
    },
    /// What it hands out as a snapshot is none.
    #[error("the snapshot that etcd hands out cannot be used: {0}")]
    Snapshot(#[from] SnapshotError),
    /// It could not go on without a member.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
}

/// What asks members of etcd.
#[derive(Clone)]
pub(super) struct EtcdClient {
    config: Arc<ClientConfig>,
}

impl EtcdClient {
    /// A client with the certificates of this host.
    ///
    /// # Errors
    /// When this host is no control plane with an etcd of its own.
    pub(super) fn of_this_host() -> Result<Self, EtcdError> {
        Self::with(Path::new(PKI))
    }

    fn with(pki: &Path) -> Result<Self, EtcdError> {
        let path = |name: &str| pki.join(name);
        let (ca, certificate, key) = (
            path("ca.crt"),
            path("healthcheck-client.crt"),
            path("healthcheck-client.key"),
        );
        let wrong = |path: &Path, reason: String| EtcdError::Certificate {
            path: path.to_owned(),
            reason,
        };
        let read = |path: &Path| {
            let certificates =
                CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            certificates.map_err(|error| match error {
                pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                    EtcdError::NoEtcd(path.to_owned())
                }
                error => wrong(path, error.to_string()),
            })
        };
        let mut roots = RootCertStore::empty();
        for root in read(&ca)? {
            roots.add(root).map_err(|error| wrong(&ca, error.to_string()))?;
        }
        let chain = read(&certificate)?;
        let secret = PrivateKeyDer::from_pem_file(&key).map_err(|error| wrong(&key, error.to_string()))?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            // TLS 1.2 too: etcd 3.4, as Go 1.12 makes it, and 3.5 before 3.5.8 speak nothing newer.
            .with_protocol_versions(&[&TLS12, &TLS13])
            .map_err(|error| wrong(pki, error.to_string()))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, secret)
            .map_err(|error| wrong(&certificate, error.to_string()))?;
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// Calls `method` of the member at `address`.
    ///
    /// # Errors
    /// When it does not answer, refuses, or answers something else.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        address: SocketAddr,
        method: &str,
        body: &Json,
    ) -> Result<T, EtcdError> {
        self.call_for(address, method, body, SHORT_ANSWER_LEN).await
    }

    /// The same for an answer of at most `max_len` bytes.
    ///
    /// # Errors
    /// As [`EtcdClient::call`].
    pub(super) async fn call_for<T: DeserializeOwned>(
        &self,
        address: SocketAddr,
        method: &str,
        body: &Json,
        max_len: usize,
    ) -> Result<T, EtcdError> {
        let mut answer = (404, bytes::Bytes::new());
        for version in VERSIONS {
            answer = self
                .request(
                    address,
                    &format!("{version}/{method}"),
                    Some(body.to_string()),
                    max_len,
                )
                .await?;
            if answer.0 != 404 {
                break;
            }
        }
        let refused = |reason: String| EtcdError::Refused { address, reason };
        let (status, body) = answer;
        if status != 200 {
            let said = serde_json::from_slice::<Json>(&body).unwrap_or_default();
            let said = said["error"]
                .as_str()
                .or(said["message"].as_str())
                .unwrap_or_default();
            return Err(refused(format!("status {status} {said}").trim().to_owned()));
        }
        serde_json::from_slice(&body).map_err(|error| refused(format!("its answer makes no sense: {error}")))
    }

    /// Calls `method` of the member at `address`, which gives one answer after the other.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub(super) async fn stream(
        &self,
        address: SocketAddr,
        method: &str,
        body: &Json,
    ) -> Result<Answers, EtcdError> {
        let mut status = 404;
        for version in VERSIONS {
            let ask = async {
                let mut connection = HttpsConnection::connect(address, Arc::clone(&self.config)).await?;
                let path = format!("{version}/{method}");
                let (status, answer) = connection.open(&path, Some(body.to_string())).await?;
                Ok((status, Answers::new(address, connection, answer)))
            };
            let answers;
            (status, answers) = in_time(ask)
                .await
                .map_err(|source| EtcdError::Silent { address, source })?;
            match status {
                200 => return Ok(answers),
                404 => {}
                _ => break,
            }
        }
        let reason = format!("status {status}");
        Err(EtcdError::Refused { address, reason })
    }

    /// Why the member at `address` does not serve; none when it does (etcd.io, "Health check").
    pub(super) async fn problem(&self, address: SocketAddr) -> Option<String> {
        match self.request(address, "/health", None, SHORT_ANSWER_LEN).await {
            Ok((200, _)) => None,
            Ok((status, body)) => {
                let said = serde_json::from_slice::<Json>(&body).unwrap_or_default();
                let said = said["reason"].as_str().filter(|reason| !reason.is_empty());
                Some(said.map_or_else(|| format!("not healthy (status {status})"), str::to_owned))
            }
            Err(EtcdError::Silent { source, .. }) => Some(source.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    async fn request(
        &self,
        address: SocketAddr,
        path: &str,
        body: Option<String>,
        max_len: usize,
    ) -> Result<(u16, bytes::Bytes), EtcdError> {
        let ask = async {
            let mut connection = HttpsConnection::connect(address, Arc::clone(&self.config)).await?;
            connection.request(path, body, max_len).await
        };
        in_time(ask)
            .await
            .map_err(|source| EtcdError::Silent { address, source })
    }
}

async fn in_time<T>(ask: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::other(format!("no answer within {} s", ANSWER_LIMIT.as_secs()));
    timeout(ANSWER_LIMIT, ask).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ServerConfig, SupportedProtocolVersion};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A control plane's certificates in `pki`, and what a member with them speaks.
    fn member(pki: &Path, version: &'static SupportedProtocolVersion) -> ServerConfig {
        let write = |name: &str, text: String| fs::write(pki.join(name), text).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        write("ca.crt", ca.pem());
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let issuer = Issuer::new(params, key);
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (certificate, key) = issue("kube-etcd-healthcheck-client");
        write("healthcheck-client.crt", certificate.pem());
        write("healthcheck-client.key", key.serialize_pem());
        let (certificate, key) = issue("127.0.0.1");
        let provider = Arc::new(ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap()
    }

    #[tokio::test]
    async fn members_answer_over_any_version_of_tls_they_speak() {
        for version in [&TLS12, &TLS13] {
            let pki = tempfile::tempdir().unwrap();
            let tls = TlsAcceptor::from(Arc::new(member(pki.path(), version)));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(async move {
                let (client, _) = listener.accept().await.unwrap();
                let mut client = tls.accept(client).await.unwrap();
                client.read_exact(&mut [0; 12]).await.unwrap();
                let healthy = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
                client.write_all(healthy.as_bytes()).await.unwrap();
                client.shutdown().await.unwrap();
            });
            let client = EtcdClient::with(pki.path()).unwrap();
            assert_eq!(client.problem(address).await, None, "{version:?}");
            server.await.unwrap();
        }
    }
}
