//! The port itself: UDP and TCP on one number, admission of unproven peers, TLS handshakes.
//!
//! What is behind the door (sessions, or enrolment) is a [`Doorkeeper`].

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{AsyncUdpSocket, Endpoint, Incoming};
use ring::hmac;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use crate::closed::Closed;
use crate::crowd::Crowd;
use crate::limits::{HANDSHAKE_TIMEOUT, MAX_UDP_PAYLOAD, RETRY_FROM_HANDSHAKES, SOCKET_BUFFER};
use crate::link::Link;
use crate::quic::{self, KeepAlive};
use crate::strangers::Strangers;
use crate::streams::StreamError;
use crate::tcp::{self, Side};
use crate::{tls, udp};

/// How often a port free for both UDP and TCP is looked for.
const PORT_ATTEMPTS: usize = 16;
/// How long a port that is taken is waited for.
const PORT_WAIT: Duration = Duration::from_secs(2);
/// Connections the kernel keeps until they are accepted.
const TCP_BACKLOG: i32 = 128;
/// How long, and for how much, a refused TCP peer is still read from: closing with unread bytes makes the kernel
/// reset the connection, and the peer would lose the reason.
const LAST_WORDS_TIME: Duration = Duration::from_secs(1);
const LAST_WORDS_LEN: u64 = 64 << 10;

/// Why somebody was not let in.
#[derive(Debug)]
pub(crate) enum Knock {
    /// For this reason.
    Refused(String),
    /// The connection ended.
    Closed(Closed),
}

impl Knock {
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }

    pub(crate) fn failed(error: StreamError) -> Self {
        match error {
            StreamError::Closed(closed) => Self::Closed(closed),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// Decides what happens to those who come.
pub(crate) trait Doorkeeper: Send + Sync + 'static {
    /// What belongs to one connection from its TLS handshake on.
    type Session: Send + Sync + 'static;

    /// TLS settings for one connection.
    fn tls(&self) -> Result<(rustls::ServerConfig, Self::Session), rustls::Error>;

    /// Known to this host only, and the same after a restart.
    fn secret(&self) -> [u8; 32];

    /// Why a connection ended, for the log.
    fn explain(&self, session: &Self::Session, closed: &Closed) -> String;

    /// Goes on once the handshake is done. An error is logged.
    fn welcome(
        self: Arc<Self>,
        link: Link,
        session: Arc<Self::Session>,
    ) -> impl Future<Output = Result<(), Knock>> + Send;
}

/// A secret of its own, derived from the private key, so that the key itself is used for signing only.
pub(crate) fn derived_secret(key: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"gantry listener secret");
    let mut secret = [0; 32];
    secret.copy_from_slice(tag.as_ref());
    secret
}

/// An open port. Dropping it closes the port; connections go on.
#[derive(Debug)]
pub(crate) struct Door {
    local_addr: SocketAddr,
    strangers: Arc<Strangers>,
    endpoint: Endpoint,
    tasks: Vec<JoinHandle<()>>,
}

impl Door {
    pub(crate) async fn open<K: Doorkeeper>(
        addr: SocketAddr,
        keeper: Arc<K>,
        tcp: bool,
        socket: Option<Arc<dyn AsyncUdpSocket>>,
    ) -> io::Result<Self> {
        let strangers = Arc::<Strangers>::default();
        let (socket, receive_buffer, listener) = match socket {
            Some(socket) => (socket, SOCKET_BUFFER, None),
            None => {
                let (port, listener) = bind_soon(addr, tcp).await?;
                let socket = udp::for_quinn(port.socket, Some(Arc::clone(&strangers)))?;
                (socket, port.receive_buffer, listener)
            }
        };
        let local_addr = socket.local_addr()?;
        let (config, _) = keeper.tls().map_err(io::Error::other)?;
        let transport = quic::transport(receive_buffer, MAX_UDP_PAYLOAD, KeepAlive::Peer);
        let config = quic::server(config, transport).map_err(io::Error::other)?;
        let endpoint = quic::endpoint(socket, Some(config), Some(keeper.secret()))?;
        let hall = Arc::new(Hall {
            keeper,
            strangers: Arc::clone(&strangers),
            crowd: Arc::default(),
            receive_buffer,
        });
        let mut tasks = vec![tokio::spawn(serve_quic(Arc::clone(&hall), endpoint.clone()))];
        if let Some(listener) = listener {
            tasks.push(tokio::spawn(serve_tcp(hall, listener)));
        }
        Ok(Self {
            local_addr,
            strangers,
            endpoint,
            tasks,
        })
    }

    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    pub(crate) fn strangers(&self) -> &Strangers {
        &self.strangers
    }

    /// Closes the port and waits until both sockets are given back, so that another door can open there.
    pub(crate) async fn shut(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            let _ = task.await;
        }
        self.endpoint.set_server_config(None);
        let _ = timeout(LAST_WORDS_TIME, self.endpoint.wait_idle()).await;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // Connections keep the socket; new ones are not answered.
        self.endpoint.set_server_config(None);
    }
}

/// Binds, waiting a moment for a port that is just being given back: an enrolment's, or the former process's.
async fn bind_soon(addr: SocketAddr, tcp: bool) -> io::Result<(udp::UdpPort, Option<TcpListener>)> {
    let give_up = Instant::now() + PORT_WAIT;
    loop {
        match bind_both(addr, tcp) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < give_up => {
                tokio::time::sleep(PORT_WAIT / 100).await;
            }
            result => return result,
        }
    }
}

/// Binds both protocols to the same port number.
fn bind_both(addr: SocketAddr, tcp: bool) -> io::Result<(udp::UdpPort, Option<TcpListener>)> {
    let mut attempts = 1..=PORT_ATTEMPTS;
    loop {
        let attempt = attempts.next();
        let port = udp::bind(addr).map_err(|error| named("UDP", addr, &error))?;
        if !tcp {
            return Ok((port, None));
        }
        let bound = port.socket.local_addr()?;
        match bind_tcp(bound) {
            Ok(listener) => return Ok((port, Some(listener))),
            // Port 0 asked for any port, and this one is taken for TCP only.
            Err(error)
                if addr.port() == 0 && error.kind() == io::ErrorKind::AddrInUse && attempt.is_some() => {}
            Err(error) => return Err(named("TCP", bound, &error)),
        }
    }
}

fn named(protocol: &str, addr: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot listen on {addr} with {protocol}: {error}"),
    )
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restarted agent takes its port back while old connections still time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(TCP_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What all connections of one door share.
struct Hall<K> {
    keeper: Arc<K>,
    strangers: Arc<Strangers>,
    crowd: Arc<Crowd>,
    receive_buffer: usize,
}

async fn serve_quic<K: Doorkeeper>(hall: Arc<Hall<K>>, endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        let from = incoming.remote_address();
        if hall.crowd.len() >= RETRY_FROM_HANDSHAKES
            && !incoming.remote_address_validated()
            && incoming.may_retry()
        {
            let _ = incoming.retry();
            continue;
        }
        let Some(place) = hall.crowd.enter(from.ip()) else {
            incoming.refuse();
            hall.strangers.note(from, "too many unfinished handshakes");
            continue;
        };
        let hall = Arc::clone(&hall);
        tokio::spawn(async move {
            if let Err(reason) = hall.quic_peer(incoming).await {
                hall.strangers.note(from, reason);
            }
            drop(place);
        });
    }
}

async fn serve_tcp<K: Doorkeeper>(hall: Arc<Hall<K>>, listener: TcpListener) {
    loop {
        let (socket, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the peer gave up already. Neither ends the listener.
                tracing::debug!("accepting a TCP connection failed: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(place) = hall.crowd.enter(from.ip()) else {
            hall.strangers.note(from, "too many unfinished handshakes");
            continue;
        };
        let hall = Arc::clone(&hall);
        tokio::spawn(async move {
            if let Err(reason) = hall.tcp_peer(socket, from).await {
                hall.strangers.note(from, reason);
            }
            drop(place);
        });
    }
}

impl<K: Doorkeeper> Hall<K> {
    async fn quic_peer(&self, incoming: Incoming) -> Result<(), String> {
        let (config, session) = self.keeper.tls().map_err(|error| error.to_string())?;
        let payload = udp::route_payload(incoming.remote_address());
        let transport = quic::transport(self.receive_buffer, payload, KeepAlive::Peer);
        let config = quic::server(config, transport)?;
        // The first packet is judged at once, so that this may be a refusal already.
        let connecting = incoming
            .accept_with(Arc::new(config))
            .map_err(|error| self.keeper.explain(&session, &error.into()))?;
        match timeout(HANDSHAKE_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => self.welcome(Link::quic(connection, None), session).await,
            Ok(Err(error)) => Err(self.keeper.explain(&session, &error.into())),
            Err(_) => Err(unfinished()),
        }
    }

    async fn tcp_peer(&self, socket: TcpStream, from: SocketAddr) -> Result<(), String> {
        tcp::configure(&socket).map_err(|error| error.to_string())?;
        let (config, session) = self.keeper.tls().map_err(|error| error.to_string())?;
        let accept = TlsAcceptor::from(Arc::new(config)).accept(socket).into_fallible();
        match timeout(HANDSHAKE_TIMEOUT, accept).await {
            Ok(Ok(stream)) => {
                let exporter = tls::exporter(stream.get_ref().1).ok_or("no TLS exporter")?;
                let session_link = tcp::Session::start(stream, Side::Accepted, from, exporter);
                self.welcome(Link::Tcp(session_link), session).await
            }
            Ok(Err((error, socket))) => {
                last_words(socket).await;
                Err(self.keeper.explain(&session, &tcp::from_io(&error)))
            }
            Err(_) => Err(unfinished()),
        }
    }

    async fn welcome(&self, link: Link, session: K::Session) -> Result<(), String> {
        let session = Arc::new(session);
        match Arc::clone(&self.keeper).welcome(link, Arc::clone(&session)).await {
            Ok(()) => Ok(()),
            Err(Knock::Refused(reason)) => Err(reason),
            Err(Knock::Closed(closed)) => Err(self.keeper.explain(&session, &closed)),
        }
    }
}

fn unfinished() -> String {
    format!(
        "its TLS handshake was not done after {} s",
        HANDSHAKE_TIMEOUT.as_secs()
    )
}

/// Lets a refused peer read why before the socket closes.
async fn last_words(mut socket: TcpStream) {
    let _ = socket.shutdown().await;
    let mut rest = socket.take(LAST_WORDS_LEN);
    let _ = timeout(
        LAST_WORDS_TIME,
        tokio::io::copy(&mut rest, &mut tokio::io::sink()),
    )
    .await;
}
