//! This module owns dialling: [`dial`] and what can go wrong with it.
//!
//! With QUIC and mutual TLS 1.3 the dialling side is connected before the agent has looked at its certificate, so
//! a dial is done only when the agent's hello was read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gantry_protocol::greeting::{GreetingState, OrchestratorGreeting, Speaker};
use gantry_protocol::{ALPN_SESSION, CloseCode, HelloReply, ProtocolVersion};
use quinn::AsyncUdpSocket;
use rustls::AlertDescription;

use crate::closed::Closed;
use crate::connection::Connection;
use crate::identity::Identity;
use crate::limits::MAX_HELLO_LEN;
use crate::link::Link;
use crate::race::{LinkAttempt, race};
use crate::streams::StreamError;
use crate::tls;
use crate::verify::{Verdict, refused_by_peer};

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
    /// Protocol versions offered, oldest and newest.
    pub versions: (ProtocolVersion, ProtocolVersion),
    /// A socket to use for QUIC instead of a new one: simulated networks.
    pub socket: Option<Arc<dyn AsyncUdpSocket>>,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            expected: None,
            udp: UdpMode::Auto,
            timeout: Duration::from_secs(10),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            versions: (ProtocolVersion::OLDEST, ProtocolVersion::CURRENT),
            socket: None,
        }
    }
}

impl DialOptions {
    pub(crate) fn speaker(&self) -> Speaker {
        Speaker {
            oldest: self.versions.0,
            newest: self.versions.1,
            program: self.program.clone(),
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
    #[error("{addr}: {reason}")]
    Certificate {
        /// Where.
        addr: SocketAddr,
        /// Whose certificate, who refused it, why, and what to do.
        reason: String,
    },
    /// The agent waits for enrolment.
    #[error("the agent at {addr} is not enrolled: create a token, put it on the host and run gantry enroll")]
    NotEnrolled {
        /// Where.
        addr: SocketAddr,
    },
    /// The agent has its certificate already. Only enrolment meets this.
    #[error(
        "the agent at {addr} is enrolled already: to enrol it anew, run gantry-agent unenroll on the host first"
    )]
    AlreadyEnrolled {
        /// Where.
        addr: SocketAddr,
    },
    /// No common protocol version.
    #[error("{addr}: {reason}")]
    Version {
        /// Where.
        addr: SocketAddr,
        /// Both programs' versions and which to upgrade.
        reason: String,
    },
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

impl DialError {
    /// Whether trying again, as it is, may help: the agent restarts, the network comes back.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused { .. })
    }
}

/// Connects to an agent, checks both certificates and agrees on a protocol version.
///
/// # Errors
/// See [`DialError`]; each is one line for people.
pub async fn dial(
    addr: SocketAddr,
    identity: &Identity,
    options: &DialOptions,
) -> Result<(Connection, HelloReply), DialError> {
    let attempt = |link: LinkAttempt| async move {
        let verdict = Verdict::default();
        let tls = tls::session_client(identity, options.expected.clone(), &verdict).map_err(|error| {
            DialError::Local {
                addr,
                reason: error.to_string(),
            }
        })?;
        let explain = Explain {
            addr,
            alpn: ALPN_SESSION,
            identity: Some(identity),
            verdict: &verdict,
        };
        let link = link
            .connect(addr, tls)
            .await
            .map_err(|closed| explain.closed(&closed))?;
        let (reply, connection) = greet(link, &explain, options).await?;
        Ok((connection, reply))
    };
    race(addr, options, attempt).await
}

async fn greet(
    link: Link,
    explain: &Explain<'_>,
    options: &DialOptions,
) -> Result<(HelloReply, Connection), DialError> {
    let failed = |error: StreamError| explain.stream(error);
    let (mut greeting, hello) =
        OrchestratorGreeting::start(options.speaker(), gantry_system::clock::now_ms());
    let (mut send, mut recv) = link.open_bi().await.map_err(failed)?;
    // Writing may fail because the agent has refused us already; why is found out by reading.
    let sent = send.send(&hello).await;
    let reply: HelloReply = match recv.recv_within(MAX_HELLO_LEN).await {
        Ok(Some(reply)) => reply,
        Ok(None) => return Err(failed(StreamError::Early)),
        Err(error) => return Err(failed(error)),
    };
    sent.map_err(failed)?;
    let _ = send.finish().await;
    let state = greeting
        .on_reply(&reply)
        .map_err(|error| explain.protocol(error))?;
    if let GreetingState::Refused(mismatch) = state {
        let reason = mismatch.to_string();
        link.close(CloseCode::Version, &reason);
        // Whoever is told this exits soon, and the agent would wait for a peer that is gone.
        link.drained().await;
        return Err(DialError::Version {
            addr: explain.addr,
            reason,
        });
    }
    let peer = explain
        .verdict
        .peer()
        .ok_or_else(|| explain.protocol("it showed no certificate"))?;
    Ok((reply, Connection::new(link, peer, None)))
}

/// Turns the end of a connection into what it means to people.
pub(crate) struct Explain<'a> {
    pub(crate) addr: SocketAddr,
    pub(crate) alpn: &'a [u8],
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) verdict: &'a Verdict,
}

impl Explain<'_> {
    pub(crate) fn protocol(&self, reason: impl ToString) -> DialError {
        DialError::Protocol {
            addr: self.addr,
            reason: reason.to_string(),
        }
    }

    pub(crate) fn stream(&self, error: StreamError) -> DialError {
        match error {
            StreamError::Closed(closed) => self.closed(&closed),
            other => self.protocol(other),
        }
    }

    pub(crate) fn closed(&self, closed: &Closed) -> DialError {
        let addr = self.addr;
        if let Some(problem) = self.verdict.problem() {
            return DialError::Certificate {
                addr,
                reason: problem.to_string(),
            };
        }
        match closed.alert {
            Some(AlertDescription::NoApplicationProtocol) if self.alpn == ALPN_SESSION => {
                DialError::NotEnrolled { addr }
            }
            Some(AlertDescription::NoApplicationProtocol) => DialError::AlreadyEnrolled { addr },
            Some(alert) => match self.identity {
                Some(identity) => DialError::Certificate {
                    addr,
                    reason: format!(
                        "the agent {}",
                        refused_by_peer(alert, identity, SystemTime::now())
                    ),
                },
                None => self.protocol(&closed.reason),
            },
            None => match (closed.by_peer, closed.code) {
                (true, _) => DialError::Refused {
                    addr,
                    reason: closed.reason.clone(),
                },
                (false, _) => DialError::Unreachable {
                    addr,
                    reason: closed.reason.clone(),
                },
            },
        }
    }
}
