//! The registry's process: listens on the host's loopback address and serves who comes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certificate;
use super::connection;
use super::settings::Settings;
use super::tree::Tree;
use crate::systemd;

/// Connections at a time: container runtimes pull with some twenty. More wait until one ends.
const MAX_CONNECTIONS: usize = 128;
/// How long to wait after the system refused to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long answers that have begun may take when the service is stopped.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);

/// Serves what the settings at `path` say, until `stop` is cancelled.
///
/// # Errors
/// When the settings or the certificate cannot be read, or the port is taken.
pub async fn run(path: &Path, stop: CancellationToken) -> anyhow::Result<()> {
    let settings = Settings::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let tls = certificate::acceptor(&settings)
        .with_context(|| format!("cannot use the certificate {}", settings.certificate.display()))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port));
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    tracing::info!(%address, domain = settings.domain, rootfs = %settings.rootfs.display(), "serving images");
    systemd::ready(&format!("listening on {address}"));
    serve(listener, tls, Tree::new(settings.rootfs), stop).await;
    Ok(())
}

/// Serves `tree` on `listener` until `stop` is cancelled and what has begun has ended.
pub(super) async fn serve(listener: TcpListener, tls: TlsAcceptor, tree: Tree, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accept = async {
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((client, _)) => {
                    let served = connection::serve(client, tls.clone(), tree.clone(), stop.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept => {}
    }
    drop(listener);
    connections.close();
    if timeout(DRAIN_LIMIT, connections.wait()).await.is_err() {
        tracing::warn!("{} connections are cut", connections.len());
    }
}
