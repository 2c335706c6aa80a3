//! This module owns [`Probe`]: whether an API server is ready, by its own word (`/readyz`), over a connection that is kept.
//!
//! The certificate is not verified: see [`crate::any_certificate`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::any_certificate;
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
            config: Arc::new(any_certificate::client(&[&TLS12, &TLS13])),
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
            // It takes other ciphers than ours, or knows whom it talks to; but it is there.
            Ok(Err(error)) if any_certificate::is_alert(&error) => Health::Ready,
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
