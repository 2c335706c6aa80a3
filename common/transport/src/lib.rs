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

mod agent_key;
pub mod authority;
mod certificate;
mod closed;
pub mod connection;
mod crowd;
pub mod dial;
mod door;
pub mod enrolment;
pub mod identity;
pub mod limits;
mod link;
pub mod listener;
mod quic;
mod race;
mod revocation;
mod strangers;
mod streams;
mod tcp;
mod tls;
mod trust;
mod udp;
mod verify;

pub use authority::{
    Authority, AuthorityError, CERTIFICATE_LIFETIME, IssuedCertificate, IssuedRecord, Rotation,
};
pub use closed::Closed;
pub use connection::{Connection, ConnectionStats, Path};
pub use dial::{DialError, DialOptions, UdpMode, dial};
pub use enrolment::{
    EnrolledAgent, EnrolmentError, EnrolmentListener, Token, TokenBook, TokenRecord, TokenRefusal, enrol,
};
pub use identity::{AgentKey, Identity, IdentityError, PeerIdentity, Role};
pub use listener::{Listener, ListenerOptions};
pub use streams::{RecvStream, SendStream, StreamError};
pub use trust::{MAX_TRUST_LEN, Trust};
