//! One connection of a client: TLS, then requests until it has no more, or nothing moves any more.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::answer;
use super::tree::Tree;

/// How long a client may take to agree on TLS.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long a client may take to say what it wants, once it began.
const HEADERS_LIMIT: Duration = Duration::from_secs(10);
/// A connection on which nothing moves for this long is cut: its client is gone, or has no more to ask.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Longest head of a request, and most bytes kept for a client that is slow to read, in bytes.
const MAX_BUFFER: usize = 64 << 10;

/// When something moved last on a connection.
#[derive(Debug)]
pub(super) struct Progress(Mutex<Instant>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Something moves.
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Ends when nothing has moved for [`STALLED_AFTER`].
    async fn stalled(&self) {
        loop {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + STALLED_AFTER;
            if Instant::now() >= until {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// Serves `tree` to one client. Told to `stop`, it ends what it has begun and takes no more.
pub(super) async fn serve(client: TcpStream, tls: TlsAcceptor, tree: Tree, stop: CancellationToken) {
    let client = match timeout(HANDSHAKE_LIMIT, tls.accept(client)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return tracing::debug!("no TLS: {error}"),
        Err(_) => return tracing::debug!("no TLS within {HANDSHAKE_LIMIT:?}"),
    };
    let progress = Arc::new(Progress::new());
    let service = service_fn(|request: Request<Incoming>| {
        progress.note();
        let (tree, progress) = (tree.clone(), Arc::clone(&progress));
        async move { Ok::<_, Infallible>(answer::answer(tree, request.into_parts().0, progress).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_LIMIT)
            .max_buf_size(MAX_BUFFER)
            .serve_connection(TokioIo::new(client), service)
    );
    let mut stalled = pin!(progress.stalled());
    let mut told = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!("a connection ended: {error}");
                }
                return;
            }
            () = &mut stalled => return tracing::debug!("a connection stood still"),
            () = stop.cancelled(), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_stalled_when_nothing_moved_for_a_while() {
        let progress = Arc::new(Progress::new());
        let watched = Arc::clone(&progress);
        let stalled = tokio::spawn(async move { watched.stalled().await });
        for _ in 0..5 {
            tokio::time::sleep(STALLED_AFTER / 2).await;
            assert!(!stalled.is_finished());
            progress.note();
        }
        tokio::time::sleep(STALLED_AFTER + Duration::from_secs(1)).await;
        assert!(stalled.is_finished());
    }
}
