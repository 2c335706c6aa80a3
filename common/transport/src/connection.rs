//! This module owns [`Connection`]: a session with an identified peer, the same over QUIC and TCP.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use gantry_protocol::CloseCode;
use tokio::sync::OwnedSemaphorePermit;

use crate::closed::Closed;
use crate::identity::PeerIdentity;
use crate::link::Link;
use crate::streams::{RecvStream, SendStream, StreamError};

/// How long [`Connection::shut_down`] waits for the last packet to leave.
const SHUT_DOWN_TIME: Duration = Duration::from_secs(1);

/// Which way a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP: UDP is blocked somewhere between the two.
    Tcp,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        })
    }
}

/// Bytes and packets of a connection so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Bytes sent: UDP payload on QUIC, stream payload on TCP.
    pub sent: u64,
    /// Bytes received, counted likewise.
    pub received: u64,
    /// Packets taken for lost; 0 on TCP, where the kernel keeps that to itself.
    pub lost_packets: u64,
    /// Largest UDP payload in use; 0 on TCP.
    pub mtu: u16,
    /// Datagrams per system call when sending. Near 1 in a bulk transfer, segmentation offload does not work.
    pub datagrams_per_send: u64,
}

/// A session with an identified peer. Clones share it; when the last one and its streams are gone, it closes.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Session>);

#[derive(Debug)]
struct Session {
    link: Link,
    peer: PeerIdentity,
    /// One of the places of the listener that accepted it.
    _place: Option<OwnedSemaphorePermit>,
}

/// A handle that does not keep the connection alive.
#[derive(Debug)]
pub(crate) struct WeakConnection(Weak<Session>);

impl WeakConnection {
    /// The connection, if it still lives.
    pub(crate) fn upgrade(&self) -> Option<Connection> {
        self.0
            .upgrade()
            .map(Connection)
            .filter(|connection| connection.close_reason().is_none())
    }
}

impl Connection {
    pub(crate) fn new(link: Link, peer: PeerIdentity, place: Option<OwnedSemaphorePermit>) -> Self {
        Self(Arc::new(Session {
            link,
            peer,
            _place: place,
        }))
    }

    pub(crate) fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.0))
    }

    /// Opens a stream. Waits while the peer allows no more streams. The peer sees it with the first bytes sent.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), StreamError> {
        self.0.link.open_bi().await
    }

    /// The next stream the peer opened. Cancel safe.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), StreamError> {
        self.0.link.accept_bi().await
    }

    /// Who the peer proved to be.
    #[must_use]
    pub fn peer(&self) -> &PeerIdentity {
        &self.0.peer
    }

    /// The peer's address.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.0.link.remote_addr()
    }

    /// Which way it goes.
    #[must_use]
    pub fn path(&self) -> Path {
        self.0.link.path()
    }

    /// Closes now; what was not yet delivered is lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.0.link.close(code, reason);
    }

    /// Closes and waits until the peer was told, a second at most: before a program exits.
    pub async fn shut_down(&self, code: CloseCode, reason: &str) {
        self.close(code, reason);
        let _ = tokio::time::timeout(SHUT_DOWN_TIME, self.0.link.drained()).await;
    }

    /// Waits until the connection ends.
    pub async fn closed(&self) -> Closed {
        self.0.link.closed().await
    }

    /// How it ended; none while it lives.
    #[must_use]
    pub fn close_reason(&self) -> Option<Closed> {
        self.0.link.close_reason()
    }

    /// Bytes so far.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        self.0.link.stats()
    }
}
