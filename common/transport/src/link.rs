//! This module owns [`Link`]: one TLS connection, QUIC or TCP, before anybody asked who is at its other end.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gantry_protocol::CloseCode;
use quinn::VarInt;

use crate::closed::Closed;
use crate::connection::{ConnectionStats, Path};
use crate::limits::MAX_REASON_LEN;
use crate::streams::{RecvStream, SendStream, StreamError};
use crate::tcp;
use crate::tls::EXPORTER_LABEL;

/// Time for the program itself to send its last packet.
const CLOSE_LEAVES: Duration = Duration::from_millis(10);

/// From this many bytes on it matters how they are sent.
const BULK: u64 = 64 << 20;

/// One TLS connection. Clones share it.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    Quic(QuicLink),
    Tcp(Arc<tcp::Session>),
}

/// A QUIC connection and what quinn does not keep about it.
#[derive(Debug, Clone)]
pub(crate) struct QuicLink {
    connection: quinn::Connection,
    /// The dialling side's own socket, so that it can wait until its last packet is out.
    endpoint: Option<quinn::Endpoint>,
    closed_here: Arc<OnceLock<Closed>>,
}

impl Link {
    pub(crate) fn quic(connection: quinn::Connection, endpoint: Option<quinn::Endpoint>) -> Self {
        Self::Quic(QuicLink {
            connection,
            endpoint,
            closed_here: Arc::default(),
        })
    }

    pub(crate) async fn open_bi(&self) -> Result<(SendStream, RecvStream), StreamError> {
        match self {
            Self::Quic(link) => {
                let (send, recv) = link
                    .connection
                    .open_bi()
                    .await
                    .map_err(|error| StreamError::Closed(link.closed(error)))?;
                Ok((SendStream::quic(send), RecvStream::quic(recv)))
            }
            Self::Tcp(session) => session.open().await,
        }
    }

    pub(crate) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), StreamError> {
        match self {
            Self::Quic(link) => {
                let (send, recv) = link
                    .connection
                    .accept_bi()
                    .await
                    .map_err(|error| StreamError::Closed(link.closed(error)))?;
                Ok((SendStream::quic(send), RecvStream::quic(recv)))
            }
            Self::Tcp(session) => session.accept().await,
        }
    }

    /// 32 bytes both ends of this TLS connection know and nobody else does.
    pub(crate) fn exporter(&self) -> Option<[u8; 32]> {
        match self {
            Self::Quic(link) => {
                let mut bytes = [0; 32];
                link.connection
                    .export_keying_material(&mut bytes, EXPORTER_LABEL, b"")
                    .ok()?;
                Some(bytes)
            }
            Self::Tcp(session) => Some(session.exporter()),
        }
    }

    pub(crate) fn remote_addr(&self) -> SocketAddr {
        match self {
            Self::Quic(link) => link.connection.remote_address(),
            Self::Tcp(session) => session.remote_addr(),
        }
    }

    pub(crate) const fn path(&self) -> Path {
        match self {
            Self::Quic(_) => Path::Quic,
            Self::Tcp(_) => Path::Tcp,
        }
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        let reason = cut(reason);
        match self {
            Self::Quic(link) => {
                link.warn_without_offload();
                let _ = link.closed_here.set(Closed::local(code, reason));
                link.connection
                    .close(VarInt::from_u32(code as u32), reason.as_bytes());
            }
            Self::Tcp(session) => session.close(code, reason),
        }
    }

    /// Waits until the peer was told that the connection is closed, as far as that can be known.
    pub(crate) async fn drained(&self) {
        match self {
            Self::Quic(link) => {
                if let Some(endpoint) = &link.endpoint {
                    // quinn waits three probe timeouts, 160 ms on a LAN. The packet leaves at once; two round
                    // trips are enough to send it again to a peer that went on talking because it was lost.
                    let enough = 2 * link.connection.rtt() + CLOSE_LEAVES;
                    let _ = tokio::time::timeout(enough, endpoint.wait_idle()).await;
                }
            }
            Self::Tcp(session) => session.drained().await,
        }
    }

    pub(crate) async fn closed(&self) -> Closed {
        match self {
            Self::Quic(link) => link.closed(link.connection.closed().await),
            Self::Tcp(session) => session.closed().await,
        }
    }

    pub(crate) fn close_reason(&self) -> Option<Closed> {
        match self {
            Self::Quic(link) => link.connection.close_reason().map(|error| link.closed(error)),
            Self::Tcp(session) => session.close_reason(),
        }
    }

    pub(crate) fn stats(&self) -> ConnectionStats {
        match self {
            Self::Quic(link) => {
                let stats = link.connection.stats();
                ConnectionStats {
                    sent: stats.udp_tx.bytes,
                    received: stats.udp_rx.bytes,
                    lost_packets: stats.path.lost_packets,
                    mtu: stats.path.current_mtu,
                    datagrams_per_send: stats.udp_tx.datagrams.checked_div(stats.udp_tx.ios).unwrap_or(0),
                }
            }
            Self::Tcp(session) => session.stats(),
        }
    }
}

impl QuicLink {
    /// Bulk data that left one datagram at a time cost about three times the work.
    fn warn_without_offload(&self) {
        let sent = self.connection.stats().udp_tx;
        if sent.bytes > BULK && sent.datagrams < 2 * sent.ios {
            tracing::warn!(
                "segmentation offload does not work towards {}: sending costs about three times the CPU time; look at the network driver's tx-udp-segmentation",
                self.connection.remote_address()
            );
        }
    }

    fn closed(&self, error: quinn::ConnectionError) -> Closed {
        match (error, self.closed_here.get()) {
            (quinn::ConnectionError::LocallyClosed, Some(closed)) => closed.clone(),
            (error, _) => error.into(),
        }
    }
}

/// A reason cut at a character boundary.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON_LEN);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
