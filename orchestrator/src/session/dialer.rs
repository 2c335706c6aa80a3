//! Dials agents and keeps one live session per host.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gantry_protocol::HelloReply;
use gantry_store::Store;
use gantry_transport::{DialOptions, Identity, UdpMode, dial};
use tokio::sync::Mutex;

use super::fetches::{FetchServer, SentCounters};
use super::{RemoteSession, SessionError, Sessions};

/// How agents are dialled.
#[derive(Debug, Clone)]
pub struct DialSettings {
    /// The port agents listen on.
    pub port: u16,
    /// Which ways may be tried.
    pub udp: UdpMode,
    /// How long one attempt may take.
    pub timeout: Duration,
}

type Slot = Arc<Mutex<Option<RemoteSession>>>;

/// Dials agents as one identity. Keeps a session per host until it ends.
pub struct Dialer {
    identity: Identity,
    settings: DialSettings,
    /// Names that agents were enrolled by, where that is not their address.
    names: BTreeMap<IpAddr, String>,
    fetches: FetchServer,
    slots: std::sync::Mutex<HashMap<IpAddr, Slot>>,
}

impl Dialer {
    /// A dialer that shows `identity` and serves layers from `store`.
    #[must_use]
    pub fn new(
        identity: Identity,
        settings: DialSettings,
        names: BTreeMap<IpAddr, String>,
        store: Store,
    ) -> Self {
        Self {
            identity,
            settings,
            names,
            fetches: FetchServer::new(store),
            slots: std::sync::Mutex::default(),
        }
    }

    /// The store whose layers hosts fetch.
    #[must_use]
    pub const fn store(&self) -> &Store {
        self.fetches.store()
    }

    /// Ends every session in good order. What runs on the hosts goes on.
    pub async fn close(&self) {
        let slots: Vec<Slot> = match self.slots.lock() {
            Ok(slots) => slots.values().cloned().collect(),
            Err(poisoned) => poisoned.into_inner().values().cloned().collect(),
        };
        let close = |slot: Slot| async move {
            // A slot that is locked is being dialled: there is nothing to end yet.
            let session = slot.try_lock().ok().and_then(|mut slot| slot.take());
            if let Some(session) = session {
                session.close().await;
            }
        };
        futures_util::future::join_all(slots.into_iter().map(close)).await;
    }

    fn slot(&self, host: IpAddr) -> Slot {
        let mut slots = self
            .slots
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        slots.entry(host).or_default().clone()
    }

    async fn dial(&self, host: IpAddr) -> Result<RemoteSession, SessionError> {
        let name = self.names.get(&host).cloned().unwrap_or_else(|| host.to_string());
        let options = DialOptions {
            expected: Some(name),
            udp: self.settings.udp,
            timeout: self.settings.timeout,
            ..DialOptions::default()
        };
        let address = SocketAddr::new(host, self.settings.port);
        let (connection, reply) = dial(address, &self.identity, &options).await?;
        let version = match reply {
            HelloReply::Agreed { program, .. } | HelloReply::NoCommonVersion { program, .. } => program,
        };
        let sent = SentCounters::default();
        // Ends when the connection does.
        let fetches = self.fetches.clone();
        let (served, counted) = (connection.clone(), sent.clone());
        tokio::spawn(async move { fetches.serve(served, counted).await });
        Ok(RemoteSession::new(connection, sent, &version))
    }
}

impl Sessions for Dialer {
    type Session = RemoteSession;

    async fn session(&self, host: IpAddr) -> Result<RemoteSession, SessionError> {
        let slot = self.slot(host);
        let mut slot = slot.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| session.is_live()) {
            return Ok(session.clone());
        }
        let session = self.dial(host).await?;
        *slot = Some(session.clone());
        Ok(session)
    }
}
