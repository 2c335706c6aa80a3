//! The balancer's process: takes connections and passes them on to an API server that is ready.
//!
//! ```text
//! settings ── looked at every second ──▶ one probe for each API server ─▶ backends: ready or not
//! accept ─▶ connect to the next one that is ready, else to any ─▶ copy both ways
//!                                                                  └─ cut when its backend is given up or is gone
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use gantry_protocol::limits::MAX_BACKENDS;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Settings;
use super::backends::Backends;
use super::probe::{Health, Probe};
use crate::systemd;

/// Connections at a time: kubelet, kube-proxy and the host's own pods need dozens.
const MAX_CONNECTIONS: usize = 4096;
/// How often settings are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often an API server is asked. Every worker of the cluster asks each of them.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// How long a backend may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long to wait after the system refused to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Balances as the settings at `path` say, until `stop` is cancelled.
///
/// # Errors
/// When the settings cannot be read at first, or the port is taken.
pub async fn run(path: &Path, stop: CancellationToken) -> anyhow::Result<()> {
    let settings = Settings::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    let (backends, found) = watch::channel(Backends::default());
    backends.send_modify(|backends| backends.set(&settings.backends));
    tracing::info!(listen = %settings.listen, backends = settings.backends.len(), "balancing");
    systemd::ready(&format!("listening on {}", settings.listen));
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept(listener, found) => {}
        () = keep_looking(path, settings, &backends) => {}
    }
    Ok(())
}

async fn accept(listener: TcpListener, backends: watch::Receiver<Backends>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let turn = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((client, _)) => {
                let (backends, turn) = (backends.clone(), Arc::clone(&turn));
                tokio::spawn(async move {
                    pass_on(client, &backends, turn.fetch_add(1, Ordering::Relaxed)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Passes one connection on until either side ends it, or its backend is given up.
async fn pass_on(mut client: TcpStream, backends: &watch::Receiver<Backends>, turn: usize) {
    let order = backends.borrow().order(turn);
    for (address, cut) in order {
        let Ok(Ok(mut server)) = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await else {
            continue;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        tokio::select! {
            // How it ended is both sides' own business.
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            () = cut.cancelled() => {}
        }
        return;
    }
    tracing::warn!("no API server answers; a connection was dropped");
}

/// Follows the settings, and what the probes find.
async fn keep_looking(path: &Path, mut settings: Settings, backends: &watch::Sender<Backends>) {
    let (tell, mut told) = mpsc::channel(MAX_BACKENDS);
    let mut probes = BTreeMap::new();
    let mut look = interval(LOOK_EVERY);
    loop {
        for &address in &settings.backends {
            let probe = || AbortOnDropHandle::new(tokio::spawn(keep_asking(address, tell.clone())));
            probes.entry(address).or_insert_with(probe);
        }
        tokio::select! {
            _ = look.tick() => match Settings::read(path) {
                Ok(found) if found.backends != settings.backends => {
                    tracing::info!(backends = ?found.backends, "settings changed");
                    settings = found;
                    probes.retain(|address, _| settings.backends.contains(address));
                    backends.send_modify(|backends| backends.set(&settings.backends));
                }
                Ok(_) => {}
                // Removed just before this service is stopped, or written by hand.
                Err(error) => tracing::debug!("{} is not read: {error}", path.display()),
            },
            Some((address, health)) = told.recv() => {
                backends.send_modify(|backends| backends.note(address, &health));
            }
        }
    }
}

/// Asks one API server again and again.
async fn keep_asking(address: SocketAddr, tell: mpsc::Sender<(SocketAddr, Health)>) {
    let mut probe = Probe::new(address);
    loop {
        let health = probe.ask().await;
        if tell.send((address, health)).await.is_err() {
            return;
        }
        sleep(PROBE_EVERY).await;
    }
}
