//! This module owns [`HttpsConnection`]: requests to a program of this cluster, over one TLS connection that is kept.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// Longest answer that is usual, in bytes: a list of etcd's members, or a line for each check of an API server.
pub(crate) const SHORT_ANSWER_LEN: usize = 64 << 10;

/// A connection on which one request follows the other.
pub(crate) struct HttpsConnection {
    address: SocketAddr,
    requests: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

impl HttpsConnection {
    /// Connects to the server at `address`, which shows a certificate for that address as `config` verifies it.
    ///
    /// # Errors
    /// When it does not answer, or cannot be trusted.
    pub(crate) async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(address.ip());
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let (requests, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // How the connection ends is seen by the request that needs it.
        let driver = tokio::spawn(async move { drop(driver.await) });
        Ok(Self {
            address,
            requests,
            _driver: AbortOnDropHandle::new(driver),
        })
    }

    /// Asks for `path`; a request with a `body` of JSON is a POST. The answer has at most `max_len` bytes.
    ///
    /// # Errors
    /// When there is no answer, or it is longer than it should be.
    pub(crate) async fn request(
        &mut self,
        path: &str,
        body: Option<String>,
        max_len: usize,
    ) -> io::Result<(u16, Bytes)> {
        let (status, answer) = self.open(path, body).await?;
        let answer = Limited::new(answer, max_len).collect().await;
        Ok((status, answer.map_err(io::Error::other)?.to_bytes()))
    }

    /// The same for an answer of any length, which is read as it comes.
    ///
    /// # Errors
    /// When no answer begins.
    pub(crate) async fn open(&mut self, path: &str, body: Option<String>) -> io::Result<(u16, Incoming)> {
        self.requests.ready().await.map_err(io::Error::other)?;
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(USER_AGENT, "gantry-agent")
            .header(ACCEPT, "*/*")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(io::Error::other)?;
        let answer = self
            .requests
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        Ok((answer.status().as_u16(), answer.into_body()))
    }
}
