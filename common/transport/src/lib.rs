//! How messages travel: QUIC first, TLS over TCP where UDP is blocked; same port, same protocol, mutual TLS 1.3.
//!
//! ```text
//! orchestrator                                  agent
//!   dial(addr, &identity, &options)               Listener::bind(addr, identity, options)
//!        │  QUIC, or TCP when UDP is silent          │
//!        │  TLS 1.3, both certificates checked       │
//!        │  Hello ──▶  ◀── HelloReply                │
//!   Connection ◀────────── streams ──────────▶ Connection (listener.accept())
//! ```
//!
//! Reading order: [`identity`] and [`authority`] (who is who), [`dial`](mod@dial) and [`listener`] (how a
//! connection comes to be), [`connection`] (what it offers), [`enrolment`] (how a host gets its certificate).

pub mod authority;
mod certificate;
pub mod connection;
pub mod dial;
pub mod enrolment;
pub mod identity;
pub mod listener;
mod revocation;
mod verify;

pub use authority::{Authority, AuthorityError, IssuedCertificate, IssuedRecord};
pub use connection::{Closed, Connection, ConnectionStats, Path, RecvStream, SendStream, StreamError};
pub use dial::{DialError, DialOptions, UdpMode, dial};
pub use enrolment::{
    EnrolledAgent, EnrolmentError, EnrolmentListener, Token, TokenBook, TokenRecord, TokenRefusal, enrol,
};
pub use identity::{AgentKey, Identity, IdentityError, PeerIdentity, Role};
pub use listener::{Listener, ListenerOptions};
