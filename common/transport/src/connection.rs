//! This module owns [`Connection`] and its streams, the same over QUIC and TCP.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use gantry_protocol::{CloseCode, Message};

use crate::identity::PeerIdentity;

/// Which way a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP: UDP is blocked somewhere between the two.
    Tcp,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The code the closing side gave; none when the connection was lost.
    pub code: Option<CloseCode>,
    /// What happened, one line, for people.
    pub reason: String,
    /// Whether the other side closed it.
    pub by_peer: bool,
}
impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Why a stream operation did not work.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection is gone.
    #[error("connection closed: {0}")]
    Closed(Closed),
    /// The peer reset or stopped this stream.
    #[error("the peer ended the stream: {0}")]
    Ended(CloseCode),
    /// The stream ended where a message or more bytes were due.
    #[error("the stream ended early")]
    Early,
    /// What came is not the message that was due, or the message to send is too long.
    #[error(transparent)]
    Codec(#[from] gantry_protocol::CodecError),
}

/// Bytes and packets of a connection so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Bytes sent, with all overhead on QUIC; payload only on TCP.
    pub sent: u64,
    /// Bytes received, counted likewise.
    pub received: u64,
    /// Packets taken for lost; 0 on TCP, where the kernel keeps that to itself.
    pub lost_packets: u64,
    /// Largest UDP payload in use; 0 on TCP.
    pub mtu: u16,
}

/// A session with an identified peer. Clones share it.
#[derive(Debug, Clone)]
pub struct Connection {}

impl Connection {
    /// Opens a stream. Waits while the peer allows no more streams. The peer sees it with the first bytes sent.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), StreamError> {
        todo!()
    }
    /// The next stream the peer opened.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), StreamError> {
        todo!()
    }
    /// Who the peer proved to be.
    pub fn peer(&self) -> &PeerIdentity {
        todo!()
    }
    /// The peer's address.
    pub fn remote_addr(&self) -> SocketAddr {
        todo!()
    }
    /// Which way it goes.
    pub fn path(&self) -> Path {
        todo!()
    }
    /// Closes now; what was not yet delivered is lost.
    pub fn close(&self, _code: CloseCode, _reason: &str) {
        todo!()
    }
    /// Closes and waits until the peer was told, a second at most.
    pub async fn shut_down(&self, _code: CloseCode, _reason: &str) {
        todo!()
    }
    /// Waits until the connection ends.
    pub async fn closed(&self) -> Closed {
        todo!()
    }
    /// How it ended; none while it lives.
    pub fn close_reason(&self) -> Option<Closed> {
        todo!()
    }
    /// Bytes so far.
    pub fn stats(&self) -> ConnectionStats {
        todo!()
    }
}

/// The sending half of a stream. Dropping it unfinished finishes it.
#[derive(Debug)]
pub struct SendStream {}

impl SendStream {
    /// Sends one message.
    pub async fn send<M: Message>(&mut self, _message: &M) -> Result<(), StreamError> {
        todo!()
    }
    /// Sends raw bytes.
    pub async fn write_bytes(&mut self, _bytes: Bytes) -> Result<(), StreamError> {
        todo!()
    }
    /// Says that nothing more comes.
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        todo!()
    }
    /// Gives the stream up. Over TCP the receiving half ends with it.
    pub fn reset(&mut self, _code: CloseCode) {
        todo!()
    }
}

/// The receiving half of a stream.
#[derive(Debug)]
pub struct RecvStream {}

impl RecvStream {
    /// The next message; `StreamError::Early` when the stream ended instead.
    pub async fn recv<M: Message>(&mut self) -> Result<M, StreamError> {
        todo!()
    }
    /// The next message, or none when the stream ended before it began.
    pub async fn recv_or_end<M: Message>(&mut self) -> Result<Option<M>, StreamError> {
        todo!()
    }
    /// The next piece of raw bytes, at most `max` long, without copying on QUIC; none at the end.
    pub async fn read_chunk(&mut self, _max: usize) -> Result<Option<Bytes>, StreamError> {
        todo!()
    }
    /// Exactly `len` raw bytes. The caller bounds `len`.
    pub async fn read_exact(&mut self, _len: usize) -> Result<Bytes, StreamError> {
        todo!()
    }
    /// Tells the peer that no more is needed. Over TCP the sending half ends with it.
    pub fn stop(&mut self, _code: CloseCode) {
        todo!()
    }
}
