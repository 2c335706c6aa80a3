//! This module owns [`Listener`]: the agent's port, UDP and TCP, for enrolled peers.
//!
//! ```text
//!  UDP ─┐   one task each              one task per peer                    accept()
//!       ├─▶ admit (bounded, ─▶ TLS handshake, certificate, hello ─▶ queue ─▶ Connection
//!  TCP ─┘   fair per address)       (time limits, small messages)
//! ```
//!
//! Whoever fails on the way is turned away with one line in the log; nobody else notices.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use gantry_protocol::greeting::{AgentGreeting, GreetingState, Speaker};
use gantry_protocol::{CloseCode, Hello, ProtocolVersion};
use quinn::AsyncUdpSocket;
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use crate::closed::Closed;
use crate::connection::{Connection, WeakConnection};
use crate::door::{Door, Doorkeeper, Knock, derived_secret};
use crate::identity::Identity;
use crate::limits::{HANDSHAKE_TIMEOUT, MAX_HELLO_LEN, MAX_SESSIONS};
use crate::link::Link;
use crate::tls;
use crate::verify::{Verdict, refused_by_peer};

/// What a listener says about its program.
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    /// This program's version, for messages to people.
    pub program: String,
    /// Protocol versions spoken, oldest and newest.
    pub versions: (ProtocolVersion, ProtocolVersion),
    /// Whether TCP is offered beside QUIC.
    pub tcp: bool,
    /// A socket to use for QUIC instead of a new one: simulated networks. TCP is then not offered.
    pub socket: Option<Arc<dyn AsyncUdpSocket>>,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            versions: (ProtocolVersion::OLDEST, ProtocolVersion::CURRENT),
            tcp: true,
            socket: None,
        }
    }
}

/// Accepts sessions of enrolled peers. Dropping it stops accepting; connections go on.
#[derive(Debug)]
pub struct Listener {
    door: Door,
    keeper: Arc<SessionKeeper>,
    accepted: AsyncMutex<mpsc::Receiver<Connection>>,
}

/// Lets in whoever has an operator's or a reader's certificate and a common protocol version.
#[derive(Debug)]
struct SessionKeeper {
    identity: RwLock<Identity>,
    speaker: Speaker,
    sessions: Arc<Semaphore>,
    live: Mutex<Vec<WeakConnection>>,
    accepted: mpsc::Sender<Connection>,
}

impl Listener {
    /// Listens on `addr` with UDP and TCP (port 0: any that is free for both).
    ///
    /// # Errors
    /// When the port is taken or may not be used.
    pub async fn bind(addr: SocketAddr, identity: Identity, options: ListenerOptions) -> io::Result<Self> {
        let (tx, accepted) = mpsc::channel(MAX_SESSIONS);
        let keeper = Arc::new(SessionKeeper {
            identity: RwLock::new(identity),
            speaker: Speaker {
                oldest: options.versions.0,
                newest: options.versions.1,
                program: options.program,
            },
            sessions: Arc::new(Semaphore::new(MAX_SESSIONS)),
            live: Mutex::default(),
            accepted: tx,
        });
        let door = Door::open(addr, Arc::clone(&keeper), options.tcp, options.socket).await?;
        Ok(Self {
            door,
            keeper,
            accepted: AsyncMutex::new(accepted),
        })
    }

    /// The address listened on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.door.local_addr()
    }

    /// The next session: both certificates checked, versions agreed. Refused peers are logged and never seen
    /// here. Cancel safe.
    pub async fn accept(&self) -> Connection {
        match self.accepted.lock().await.recv().await {
            Some(connection) => connection,
            // The keeper holds a sender for as long as this listener lives.
            None => std::future::pending().await,
        }
    }

    /// Uses another identity (renewed certificate, newer revocation list, other CAs) for connections from now on, and
    /// closes those whose certificate is revoked, or of a CA that is no longer trusted.
    pub fn replace_identity(&self, identity: Identity) {
        // Held until the new one is in place: whoever is admitted next is judged by it.
        let live = self.keeper.live.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.keeper.identity();
        let unwanted: Vec<(Connection, String)> = live
            .iter()
            .filter_map(WeakConnection::upgrade)
            .filter_map(|connection| {
                let why = identity.refuses(connection.peer(), &before)?;
                Some((connection, why))
            })
            .collect();
        *self
            .keeper
            .identity
            .write()
            .unwrap_or_else(PoisonError::into_inner) = identity;
        drop(live);
        for (connection, why) in unwanted {
            connection.close(CloseCode::Forbidden, &why);
        }
    }

    /// The identity in use.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.keeper.identity()
    }

    /// Stops accepting, closes the port and waits a moment for connections that were closed to tell their peers.
    pub async fn shut(self) {
        self.door.shut().await;
    }

    /// How many peers were turned away since the start.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.door.strangers().total()
    }
}

impl SessionKeeper {
    fn identity(&self) -> Identity {
        self.identity
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Hands over a session of a peer whom `believed` believed; it keeps its place until its last handle is gone.
    ///
    /// # Errors
    /// When the identity was replaced since, and the one in use believes the peer no longer.
    fn admit(&self, connection: Connection, believed: &Identity) -> Result<(), Knock> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = self.identity().refuses(connection.peer(), believed) {
            drop(live);
            connection.close(CloseCode::Forbidden, &why);
            return Err(Knock::refused(why));
        }
        live.retain(|connection| connection.upgrade().is_some());
        live.push(connection.downgrade());
        drop(live);
        // There is room in the queue for every place.
        let _ = self.accepted.try_send(connection);
        Ok(())
    }
}

/// A TLS handshake: who is judged, and the identity that judges.
#[derive(Debug)]
struct Handshake {
    verdict: Verdict,
    identity: Identity,
}

impl Doorkeeper for SessionKeeper {
    type Session = Handshake;

    fn tls(&self) -> Result<(rustls::ServerConfig, Handshake), rustls::Error> {
        let (verdict, identity) = (Verdict::default(), self.identity());
        let config = tls::session_server(&identity, &verdict)?;
        Ok((config, Handshake { verdict, identity }))
    }

    fn secret(&self) -> [u8; 32] {
        derived_secret(self.identity().key().secret_der())
    }

    fn explain(&self, handshake: &Handshake, closed: &Closed) -> String {
        if let Some(problem) = handshake.verdict.problem() {
            return problem.to_string();
        }
        if closed.other_protocol {
            return "it asked for an enrolment, but this host is enrolled already".into();
        }
        match closed.alert {
            Some(alert) => {
                format!(
                    "it {}",
                    refused_by_peer(alert, &self.identity(), std::time::SystemTime::now())
                )
            }
            None => closed.reason.clone(),
        }
    }

    async fn welcome(self: Arc<Self>, link: Link, handshake: Arc<Handshake>) -> Result<(), Knock> {
        let Some(peer) = handshake.verdict.peer() else {
            link.close(CloseCode::Forbidden, "no certificate was shown");
            return Err(Knock::refused("it showed no certificate"));
        };
        let Ok(place) = Arc::clone(&self.sessions).try_acquire_owned() else {
            link.close(CloseCode::TooMany, "this agent serves as many sessions as it may");
            return Err(Knock::refused(format!(
                "{peer} would be session number {}",
                MAX_SESSIONS + 1
            )));
        };
        let greeted = timeout(HANDSHAKE_TIMEOUT, self.greet(&link)).await;
        match greeted {
            Ok(Ok(GreetingState::Refused(mismatch))) => {
                let reason = mismatch.to_string();
                tokio::spawn(end_after_peer(link, CloseCode::Version, reason.clone(), place));
                return Err(Knock::refused(reason));
            }
            Ok(Ok(_)) => {}
            Ok(Err(knock)) => return Err(knock),
            Err(_) => {
                link.close(CloseCode::TimedOut, "no hello came");
                return Err(Knock::refused(format!(
                    "{peer} sent no hello within {} s",
                    HANDSHAKE_TIMEOUT.as_secs()
                )));
            }
        }
        self.admit(Connection::new(link, peer, Some(place)), &handshake.identity)
    }
}

impl SessionKeeper {
    async fn greet(&self, link: &Link) -> Result<GreetingState, Knock> {
        let protocol = |error: crate::streams::StreamError| {
            link.close(CloseCode::Protocol, "a hello was due");
            Knock::failed(error)
        };
        let (mut send, mut recv) = link.accept_bi().await.map_err(protocol)?;
        let hello: Hello = match recv.recv_within(MAX_HELLO_LEN).await {
            Ok(Some(hello)) => hello,
            Ok(None) => return Err(protocol(crate::streams::StreamError::Early)),
            Err(error) => return Err(protocol(error)),
        };
        let mut greeting = AgentGreeting::start(self.speaker.clone());
        let reply = greeting
            .on_hello(&hello, gantry_system::clock::now_ms())
            .map_err(|error| Knock::refused(error.to_string()))?;
        send.send(&reply).await.map_err(protocol)?;
        let _ = send.finish().await;
        Ok(greeting.state().clone())
    }
}

/// Closes `link` once its peer has: closing first could overtake the reply that says why. A peer that went without a
/// word keeps its place among the sessions no longer than a handshake takes.
async fn end_after_peer(link: Link, code: CloseCode, reason: String, place: OwnedSemaphorePermit) {
    let _ = timeout(HANDSHAKE_TIMEOUT, link.closed()).await;
    link.close(code, &reason);
    drop(place);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use gantry_protocol::greeting::OrchestratorGreeting;
    use gantry_protocol::{Hello, HelloReply};
    use gantry_system::clock::now_ms;

    use super::*;
    use crate::agent_key::AgentKey;
    use crate::authority::Authority;
    use crate::identity::Role;
    use crate::race::LinkAttempt;

    #[tokio::test]
    async fn who_is_revoked_between_the_handshake_and_the_hello_is_not_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(&folder.path().join("pki")).unwrap();
        let operator = authority.issue_operator("alice", Role::Operator).unwrap();
        let key = AgentKey::generate().unwrap();
        let request = rcgen::CertificateParams::default()
            .serialize_request(key.pair())
            .unwrap();
        let issued = authority.sign_agent(request.der(), "h").unwrap();
        let agent = Identity::new(key.der(), issued.der.into(), authority.trust().unwrap()).unwrap();
        let options = ListenerOptions::default();
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), agent.clone(), options)
            .await
            .unwrap();

        let tls = tls::session_client(&operator, None, &Verdict::default()).unwrap();
        let link = LinkAttempt::Quic(None)
            .connect(listener.local_addr(), tls)
            .await
            .unwrap();
        while listener.keeper.sessions.available_permits() == MAX_SESSIONS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let list = authority.revoke(operator.serial()).unwrap();
        listener.replace_identity(agent.with_crl(&list).unwrap());

        let (_, hello): (_, Hello) = OrchestratorGreeting::start(listener.keeper.speaker.clone(), now_ms());
        let (mut send, mut recv) = link.open_bi().await.unwrap();
        send.send(&hello).await.unwrap();
        // The reply may be overtaken.
        let _: Result<Option<HelloReply>, _> = recv.recv_within(MAX_HELLO_LEN).await;
        let closed = link.closed().await;
        assert_eq!(closed.code, Some(CloseCode::Forbidden));
        assert_eq!(closed.reason, "the certificate of operator alice is revoked");
        while listener.turned_away() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
