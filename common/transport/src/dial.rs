//! This module owns dialling: [`dial`] and what can go wrong with it.

use std::net::SocketAddr;
use std::time::Duration;

use gantry_protocol::HelloReply;

use crate::connection::Connection;
use crate::identity::Identity;

/// Which ways may be tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UdpMode {
    /// QUIC first; TCP beside it when UDP stays silent.
    #[default]
    Auto,
    /// QUIC only.
    Only,
    /// TCP only.
    Never,
}

/// How to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// The name the agent's certificate must carry: the address the host was enrolled by.
    pub expected: Option<String>,
    /// Which ways may be tried.
    pub udp: UdpMode,
    /// How long everything up to the agent's hello may take.
    pub timeout: Duration,
    /// This program's version, for messages to people.
    pub program: String,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            expected: None,
            udp: UdpMode::Auto,
            timeout: Duration::from_secs(10),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Why an agent could not be talked to. One line each: what, why, what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nothing answers there.
    #[error("cannot reach the agent at {addr}: {reason}")]
    Unreachable {
        /// Where.
        addr: SocketAddr,
        /// What the network said.
        reason: String,
    },
    /// A certificate was refused, by us or by the agent.
    #[error("{0}")]
    Certificate(String),
    /// The agent waits for enrolment.
    #[error("the agent at {addr} is not enrolled: run gantry enroll for this host")]
    NotEnrolled {
        /// Where.
        addr: SocketAddr,
    },
    /// No common protocol version.
    #[error("{0}")]
    Version(String),
    /// It answers, but not as an agent does.
    #[error("{addr} does not answer like a Gantry agent: {reason}")]
    Protocol {
        /// Where.
        addr: SocketAddr,
        /// What came.
        reason: String,
    },
    /// The agent closed the connection.
    #[error("the agent at {addr} closed the connection: {reason}")]
    Refused {
        /// Where.
        addr: SocketAddr,
        /// What it said.
        reason: String,
    },
    /// A failure of this machine.
    #[error("cannot dial {addr}: {reason}")]
    Local {
        /// Where to.
        addr: SocketAddr,
        /// What failed.
        reason: String,
    },
}

/// Connects to an agent, checks both certificates and agrees on a protocol version.
pub async fn dial(
    _addr: SocketAddr,
    _identity: &Identity,
    _options: &DialOptions,
) -> Result<(Connection, HelloReply), DialError> {
    todo!()
}
