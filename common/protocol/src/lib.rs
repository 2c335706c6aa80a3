//! What orchestrator and agent say to each other. No I/O and no clock: callers hand in bytes and time.
//!
//! ```text
//! orchestrator                                   agent (listens on 7443)
//!    │ dial, mutual TLS 1.3, ALPN "gantry"          │
//!    ├── stream 0: Hello ─────────────────────────▶ │   versions offered
//!    │ ◀──────────────────────────── Hello ─────────┤   version agreed, or a refusal that names both
//!    │                                              │
//!    ├── one bidi stream per Request ─────────────▶ │   Inventory, Run, Logs, Cancel, …
//!    │ ◀──────────────── Reply, then events ────────┤
//!    │                                              │
//!    │ ◀── one bidi stream per FetchRequest ────────┤   the receiver decides what travels
//!    ├── FetchReply, then raw chunk bytes ────────▶ │
//! ```
//!
//! The modules follow that drawing: [`limits`], [`version`], [`codec`], [`hello`] and [`greeting`], [`request`],
//! [`reply`], [`fetch`] and [`transfer`], [`close_code`]; before all of it, once per host, [`enrolment`].

pub mod close_code;
pub mod codec;
pub mod enrolment;
pub mod fetch;
pub mod greeting;
pub mod hello;
pub mod limits;
pub mod reply;
pub mod request;
pub mod transfer;
pub mod version;

pub use close_code::CloseCode;
pub use codec::{CodecError, Message};
pub use enrolment::{EnrolmentAnswer, EnrolmentAsk};
pub use fetch::{ChunkRange, FetchReply, FetchRequest};
pub use hello::{Hello, HelloReply};
pub use reply::{Refusal, RefusalKind, Reply, SnapshotPart, StepEvent, TransferProgress};
pub use request::Request;
pub use transfer::{Fetch, Transfer, WantedLayer, Window};
pub use version::ProtocolVersion;

/// The port agents listen on: UDP for QUIC and TCP for TLS, same number.
pub const DEFAULT_PORT: u16 = 7443;
/// ALPN of a session between enrolled peers.
pub const ALPN_SESSION: &[u8] = b"gantry";
/// ALPN of an enrolment, where the agent has no certificate yet.
pub const ALPN_ENROLMENT: &[u8] = b"gantry-enrolment";
