//! QUIC against TCP: which way leads to an agent.
//!
//! ```text
//! 0 ms      QUIC starts
//! 750 ms    no answer yet: TCP starts beside it
//! either    done: it wins (QUIC may still take its place a moment after TCP is done)
//!           refused by the agent itself: that is the answer, the other way would hear the same
//! both      failed: the clearer of the two reasons
//! ```

use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use quinn::AsyncUdpSocket;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::closed::Closed;
use crate::dial::{DialError, DialOptions, UdpMode};
use crate::limits::{HANDSHAKE_TIMEOUT, QUIC_AFTER_REFUSAL, QUIC_GRACE, TCP_HEAD_START};
use crate::link::Link;
use crate::quic::{self, KeepAlive};
use crate::tcp::{self, Side};
use crate::{tls, udp};

/// One way to make a TLS connection.
#[derive(Clone)]
pub(crate) enum LinkAttempt {
    Quic(Option<std::sync::Arc<dyn AsyncUdpSocket>>),
    Tcp,
}

impl LinkAttempt {
    /// Makes the TLS connection.
    pub(crate) async fn connect(self, addr: SocketAddr, config: ClientConfig) -> Result<Link, Closed> {
        match self {
            Self::Quic(socket) => quic_link(addr, config, socket).await,
            Self::Tcp => tcp_link(addr, config).await,
        }
    }
}

async fn quic_link(
    addr: SocketAddr,
    config: ClientConfig,
    socket: Option<std::sync::Arc<dyn AsyncUdpSocket>>,
) -> Result<Link, Closed> {
    let payload = udp::route_payload(addr);
    let (socket, receive_buffer) = match socket {
        Some(socket) => (socket, crate::limits::SOCKET_BUFFER),
        None => {
            let any = if addr.is_ipv4() {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            };
            let port = udp::bind(SocketAddr::new(any, 0)).map_err(Closed::lost)?;
            (
                udp::for_quinn(port.socket, None).map_err(Closed::lost)?,
                port.receive_buffer,
            )
        }
    };
    let transport = quic::transport(receive_buffer, payload, KeepAlive::Us);
    let config = quic::client(config, transport).map_err(Closed::lost)?;
    let endpoint = quic::endpoint(socket, None, None).map_err(Closed::lost)?;
    let name = tls::server_name();
    let connecting = endpoint
        .connect_with(config, addr, &name.to_str())
        .map_err(Closed::lost)?;
    let connection = connecting.await.map_err(Closed::from)?;
    Ok(Link::quic(connection, Some(endpoint)))
}

async fn tcp_link(addr: SocketAddr, config: ClientConfig) -> Result<Link, Closed> {
    let socket = TcpStream::connect(addr)
        .await
        .map_err(|error| Closed::lost(describe(&error)))?;
    tcp::configure(&socket).map_err(Closed::lost)?;
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    let stream = timeout(HANDSHAKE_TIMEOUT, connector.connect(tls::server_name(), socket))
        .await
        .map_err(|_| Closed::lost("the TLS handshake over TCP got no answer"))?
        .map_err(|error| tcp::from_io(&error))?;
    let exporter = tls::exporter(stream.get_ref().1).ok_or_else(|| Closed::lost("no TLS exporter"))?;
    Ok(Link::Tcp(tcp::Session::start(
        stream,
        Side::Dialled,
        addr,
        exporter,
    )))
}

/// The system's words without its numbers.
fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            "connection refused: the host is up, but gantry-agent does not listen there".into()
        }
        _ => error.to_string(),
    }
}

/// Tries the ways the options allow with `attempt`, each up to its very end.
pub(crate) async fn race<T, F, Fut>(
    addr: SocketAddr,
    options: &DialOptions,
    attempt: F,
) -> Result<T, DialError>
where
    F: Fn(LinkAttempt) -> Fut,
    Fut: Future<Output = Result<T, DialError>>,
{
    let quic = || attempt(LinkAttempt::Quic(options.socket.clone()));
    let ways = async {
        match options.udp {
            UdpMode::Only => quic().await,
            UdpMode::Never => attempt(LinkAttempt::Tcp).await,
            UdpMode::Auto => both(quic(), || attempt(LinkAttempt::Tcp)).await,
        }
    };
    match timeout(options.timeout, ways).await {
        Ok(result) => result,
        Err(_) => Err(DialError::Unreachable {
            addr,
            reason: format!(
                "no answer within {} s: is the host up, is gantry-agent running, and does a firewall let port {} through?",
                options.timeout.as_secs_f32(),
                addr.port()
            ),
        }),
    }
}

async fn both<T, Fut>(
    quic: impl Future<Output = Result<T, DialError>>,
    tcp: impl FnOnce() -> Fut,
) -> Result<T, DialError>
where
    Fut: Future<Output = Result<T, DialError>>,
{
    let mut quic = std::pin::pin!(quic);
    let early = tokio::select! {
        result = &mut quic => Some(result),
        () = sleep(TCP_HEAD_START) => None,
    };
    match early {
        Some(Err(error)) if says_nothing(&error) => return clearer(error, tcp().await),
        Some(result) => return result,
        None => {}
    }
    let mut tcp = std::pin::pin!(tcp());
    tokio::select! {
        result = &mut quic => match result {
            Err(error) if says_nothing(&error) => clearer(error, tcp.await),
            result => result,
        },
        result = &mut tcp => {
            let grace = match &result {
                Ok(_) => QUIC_GRACE,
                Err(error) if says_nothing(error) => QUIC_AFTER_REFUSAL,
                Err(_) => Duration::ZERO,
            };
            match timeout(grace, quic).await {
                Ok(Ok(better)) => Ok(better),
                Ok(Err(other)) if result.is_err() && !says_nothing(&other) => Err(other),
                _ => result,
            }
        }
    }
}

/// Whether an error is only the network's silence, so that the other way may do better.
const fn says_nothing(error: &DialError) -> bool {
    matches!(error, DialError::Unreachable { .. } | DialError::Local { .. })
}

/// The second way's result, unless it says nothing while the first one's error says something.
fn clearer<T>(first: DialError, second: Result<T, DialError>) -> Result<T, DialError> {
    match second {
        Err(error) if says_nothing(&error) && !says_nothing(&first) => Err(first),
        second => second,
    }
}
