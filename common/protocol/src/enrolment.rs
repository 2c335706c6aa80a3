//! Messages of an enrolment: how a host without a certificate gets one. One stream, opened by the orchestrator.
//!
//! ```text
//! orchestrator                                        agent (self-signed certificate, holds the token)
//!    ├── Hello {versions, clock, nonce, CAs' hash} ────▶│
//!    │◀─────────────── Offer {token id, clock, nonce} ──┤   the id is public
//!    ├── Proof {MAC, host name, CAs} ──────────────────▶│   checked before the agent says anything more
//!    │◀──────────────────────── Request {MAC, CSR} ─────┤   checked before anything is signed
//!    ├── Grant {certificate, revocations} ─────────────▶│   stored durably
//!    │◀───────────────────────────────────── Stored ────┤
//! ```
//!
//! Both MACs are HMAC-SHA256 under a key derived from the token, over a label for the side, the TLS exporter of
//! this very connection, both nonces, the token id and the digests of the agent's certificate and the CAs. A
//! party in the middle has two TLS connections with two exporters: what it hears on one is worthless on the other.

use serde::{Deserialize, Serialize};

use crate::ProtocolVersion;
use crate::reply::Refusal;

/// What the orchestrator says. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrolmentAsk {
    /// First message.
    Hello {
        /// Oldest protocol version it speaks.
        oldest: ProtocolVersion,
        /// Newest protocol version it speaks.
        newest: ProtocolVersion,
        /// Its program version, for messages to people.
        program: String,
        /// Its clock, milliseconds since the epoch.
        clock_ms: i64,
        /// Random.
        nonce: [u8; 32],
        /// SHA-256 of `ca` in the proof.
        ca_hash: [u8; 32],
    },
    /// It holds the token.
    Proof {
        /// HMAC.
        mac: [u8; 32],
        /// The name the agent will have: the address the host is reached by.
        host: String,
        /// The CAs to trust, with their revocation lists: PEM, as in `Request::Trust`.
        ca: Vec<u8>,
    },
    /// The certificate.
    Grant {
        /// DER.
        certificate: Vec<u8>,
        /// The revocation list of the CA that signed it, DER.
        crl: Vec<u8>,
    },
    /// It goes no further; nothing was changed.
    Refused(Refusal),
}

/// What the agent says. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrolmentAnswer {
    /// The token it holds.
    Offer {
        /// The version both speak.
        version: ProtocolVersion,
        /// Its program version, for messages to people.
        program: String,
        /// Its clock, milliseconds since the epoch.
        clock_ms: i64,
        /// Random.
        nonce: [u8; 32],
        /// The public part of the token.
        token_id: String,
    },
    /// It holds the token too and wants a certificate.
    Request {
        /// HMAC.
        mac: [u8; 32],
        /// PKCS #10, DER, for the key of its TLS certificate.
        csr: Vec<u8>,
    },
    /// The certificate is stored durably; the token is spent.
    Stored,
    /// It goes no further; nothing was changed.
    Refused(Refusal),
}
