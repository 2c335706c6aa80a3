//! The balancer's process: takes connections and passes them on to a backend that answers.
//!
//! ```text
//! settings ── looked at every second ──▶ backends: those that answer, those that do not
//! accept ─▶ connect to the next one that answers, else to any ─▶ copy both ways
//!                                                               └─ cut when its backend stops answering or is gone
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Settings;
use crate::systemd;

/// Connections at a time: kubelet, kube-proxy and the host's own pods need dozens.
const MAX_CONNECTIONS: usize = 4096;
/// How often settings and backends are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a backend may take to answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// A backend that did not answer for this long is down: its connections are cut, so that their owners come again and
/// are led elsewhere, instead of waiting for a host that has no power.
const DOWN_AFTER: Duration = Duration::from_secs(5);
/// How long to wait after the system refused to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One API server, as it was seen last.
#[derive(Debug, Clone)]
struct Backend {
    answers: bool,
    /// When it answered last, or was first heard of.
    answered: Instant,
    /// Cancelled when its connections are to be cut.
    cut: CancellationToken,
}

impl Backend {
    fn new() -> Self {
        Self {
            answers: true,
            answered: Instant::now(),
            cut: CancellationToken::new(),
        }
    }
}

type Backends = BTreeMap<SocketAddr, Backend>;

/// Balances as the settings at `path` say, until `stop` is cancelled.
///
/// # Errors
/// When the settings cannot be read at first, or the port is taken.
pub async fn run(path: &Path, stop: CancellationToken) -> anyhow::Result<()> {
    let settings = Settings::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    let (backends, seen) = watch::channel(new_backends(&settings.backends));
    tracing::info!(listen = %settings.listen, backends = settings.backends.len(), "balancing");
    systemd::ready(&format!("listening on {}", settings.listen));
    tokio::select! {
        () = stop.cancelled() => {}
        () = accept(listener, seen) => {}
        () = keep_looking(path, &settings, &backends) => {}
    }
    Ok(())
}

fn new_backends(addresses: &BTreeSet<SocketAddr>) -> Backends {
    addresses
        .iter()
        .map(|address| (*address, Backend::new()))
        .collect()
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
    let order = order(&backends.borrow(), turn);
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

/// Whom to try, in order: those that answer, from another one each turn, then the rest.
fn order(backends: &Backends, turn: usize) -> Vec<(SocketAddr, CancellationToken)> {
    let of = |answers: bool| {
        let some: Vec<_> = backends
            .iter()
            .filter(|(_, backend)| backend.answers == answers)
            .map(|(address, backend)| (*address, backend.cut.clone()))
            .collect();
        let start = if some.is_empty() { 0 } else { turn % some.len() };
        some.clone().into_iter().cycle().skip(start).take(some.len())
    };
    of(true).chain(of(false)).collect()
}

async fn keep_looking(path: &Path, first: &Settings, backends: &watch::Sender<Backends>) {
    let mut settings = first.clone();
    loop {
        sleep(LOOK_EVERY).await;
        match Settings::read(path) {
            Ok(found) if found.backends != settings.backends => {
                tracing::info!(backends = ?found.backends, "settings changed");
                settings = found;
            }
            Ok(_) => {}
            // Removed just before this service is stopped, or written by hand.
            Err(error) => tracing::debug!("{} is not read: {error}", path.display()),
        }
        let found = look(&settings.backends).await;
        backends.send_modify(|backends| note(backends, &found));
    }
}

/// Which of `addresses` answer now.
async fn look(addresses: &BTreeSet<SocketAddr>) -> BTreeMap<SocketAddr, bool> {
    let mut looks = JoinSet::new();
    for &address in addresses {
        looks.spawn(async move {
            let answered = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
            (address, matches!(answered, Ok(Ok(_))))
        });
    }
    looks.join_all().await.into_iter().collect()
}

/// Takes down what was seen: who is new, who is gone, who stopped answering.
fn note(backends: &mut Backends, found: &BTreeMap<SocketAddr, bool>) {
    backends.retain(|address, backend| {
        let stays = found.contains_key(address);
        if !stays {
            backend.cut.cancel();
        }
        stays
    });
    for (&address, &answers) in found {
        let backend = backends.entry(address).or_insert_with(Backend::new);
        if answers != backend.answers {
            tracing::info!(%address, answers, "API server");
        }
        backend.answers = answers;
        if answers {
            backend.answered = Instant::now();
        } else if backend.answered.elapsed() >= DOWN_AFTER && !backend.cut.is_cancelled() {
            backend.cut.cancel();
        }
        if answers && backend.cut.is_cancelled() {
            backend.cut = CancellationToken::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Answers every connection with its name, then with what it is sent.
    async fn server(name: &'static str) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let stopped = stop.clone();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let stopped = stopped.clone();
                tokio::spawn(stopped.run_until_cancelled_owned(async move {
                    client.write_all(name.as_bytes()).await.unwrap();
                    let (mut read, mut write) = client.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                }));
            }
        }));
        (address, stop)
    }

    struct Balancer {
        address: SocketAddr,
        settings: std::path::PathBuf,
        _folder: tempfile::TempDir,
        _stop: tokio_util::sync::DropGuard,
    }

    impl Balancer {
        async fn of(backends: &[SocketAddr]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            // Free a moment ago; somebody else's by now is very unlikely.
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let balancer = Self {
                address,
                settings: folder.path().join("demo.json"),
                _folder: folder,
                _stop: CancellationToken::new().drop_guard(),
            };
            balancer.lead_to(backends);
            let (path, stop) = (balancer.settings.clone(), CancellationToken::new());
            let ended = stop.clone();
            tokio::spawn(async move { run(&path, ended).await });
            Self {
                _stop: stop.drop_guard(),
                ..balancer
            }
        }

        fn lead_to(&self, backends: &[SocketAddr]) {
            let settings = Settings {
                listen: self.address,
                backends: backends.iter().copied().collect(),
            };
            gantry_system::files::write_atomically(&self.settings, settings.to_text().as_bytes(), 0o644)
                .unwrap();
        }

        /// A connection, and the one letter by which its server names itself.
        async fn connect(&self) -> Option<(TcpStream, char)> {
            let mut stream = TcpStream::connect(self.address).await.ok()?;
            let name = stream.read_u8().await.ok()?;
            Some((stream, name.into()))
        }

        async fn until_it_leads_to(&self, wanted: char) -> TcpStream {
            loop {
                match self.connect().await {
                    Some((stream, name)) if name == wanted => return stream,
                    _ => tokio::task::yield_now().await,
                }
            }
        }
    }

    #[tokio::test]
    async fn connections_take_turns_and_a_server_that_ends_is_passed_over() {
        let ((a, stop_a), (b, _stop_b)) = (server("a").await, server("b").await);
        let balancer = Balancer::of(&[a, b]).await;
        drop(balancer.until_it_leads_to('a').await);
        drop(balancer.until_it_leads_to('b').await);
        stop_a.cancel();
        drop(balancer.until_it_leads_to('b').await);
        for _ in 0..4 {
            assert_eq!(balancer.connect().await.unwrap().1, 'b');
        }
    }

    #[tokio::test]
    async fn new_settings_cut_only_the_connections_of_who_is_gone() {
        let ((a, _stop_a), (b, _stop_b)) = (server("a").await, server("b").await);
        let balancer = Balancer::of(&[a]).await;
        let mut old = balancer.until_it_leads_to('a').await;
        balancer.lead_to(&[a, b]);
        let mut new = balancer.until_it_leads_to('b').await;
        for stream in [&mut old, &mut new] {
            stream.write_u8(b'x').await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
        }
        balancer.lead_to(&[b]);
        assert!(
            old.read_u8().await.is_err(),
            "its server is no longer one of them"
        );
        new.write_u8(b'y').await.unwrap();
        assert_eq!(new.read_u8().await.unwrap(), b'y');
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_down_for_a_while_loses_its_connections_and_gets_new_ones_when_it_is_back() {
        let address: SocketAddr = "10.0.0.2:6443".parse().unwrap();
        let mut backends = new_backends(&[address].into());
        let cut = backends[&address].cut.clone();
        note(&mut backends, &[(address, false)].into());
        assert!(!cut.is_cancelled(), "it may only be slow");
        tokio::time::advance(DOWN_AFTER).await;
        note(&mut backends, &[(address, false)].into());
        assert!(cut.is_cancelled());
        note(&mut backends, &[(address, true)].into());
        assert!(backends[&address].answers && !backends[&address].cut.is_cancelled());
    }
}
