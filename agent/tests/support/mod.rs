//! Both sides in one process, over real QUIC or TLS/TCP on the loopback: an authority, an operator, an enrolled agent.

#![allow(dead_code, reason = "each user of this module needs a part of it")]
#![allow(
    clippy::unwrap_used,
    reason = "the example that measures uses it too, and is no test to clippy"
)]

mod book;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use gantry_model::LayerDescriptor;
use gantry_store::{LayerOptions, Store, layer_from_tree};
use gantry_transport::{
    AgentKey, Authority, Connection, DialOptions, EnrolmentListener, Identity, Listener, ListenerOptions,
    Role, Token, UdpMode, dial, enrol,
};

pub(crate) use book::Book;

/// The name the agent is enrolled by.
pub(crate) const HOST: &str = "127.0.0.1";

/// Who is who.
pub(crate) struct Site {
    pub(crate) operator: Identity,
    pub(crate) agent: Identity,
}

/// One session between them.
pub(crate) struct Session {
    /// The orchestrator's end.
    pub(crate) operator: Connection,
    /// The agent's end.
    pub(crate) agent: Connection,
    _listener: Listener,
}

impl Site {
    /// An authority that issued an operator's certificate and enrolled an agent.
    pub(crate) async fn new() -> Self {
        let pki = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(pki.path()).unwrap();
        let operator = authority.issue_operator("tester", Role::Operator).unwrap();
        let token = Token::create(Duration::from_secs(60));
        let book = Book::with(token.record(1));
        let key = AgentKey::generate().unwrap();
        let listener = EnrolmentListener::bind(any_port(), key, token, "test")
            .await
            .unwrap();
        let (addr, options) = (listener.local_addr(), DialOptions::default());
        let (enrolled, agent) = tokio::join!(
            enrol(addr, HOST, &book, &authority, &options),
            listener.wait(|_| Ok(()))
        );
        enrolled.unwrap();
        Self {
            operator,
            agent: agent.unwrap(),
        }
    }

    /// A session by the given way.
    pub(crate) async fn connect(&self, udp: UdpMode) -> Session {
        let options = ListenerOptions::default();
        let listener = Listener::bind(any_port(), self.agent.clone(), options)
            .await
            .unwrap();
        let options = DialOptions {
            expected: Some(HOST.into()),
            udp,
            ..DialOptions::default()
        };
        let addr = listener.local_addr();
        let (dialled, agent) = tokio::join!(dial(addr, &self.operator, &options), listener.accept());
        let (operator, _) = dialled.unwrap();
        Session {
            operator,
            agent,
            _listener: listener,
        }
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A store in a folder of its own.
pub(crate) struct TestStore {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
}

pub(crate) fn store() -> TestStore {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    TestStore { dir, store }
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A layer of these files in `store`.
pub(crate) fn layer(store: &Store, files: &[(&str, Vec<u8>)]) -> LayerDescriptor {
    let tree = tempfile::tempdir().unwrap();
    for (path, content) in files {
        write(tree.path(), path, content);
    }
    layer_from_tree(store, tree.path(), &LayerOptions::default()).unwrap()
}

/// Writes a file below `dir`.
pub(crate) fn write(dir: &Path, path: &str, content: &[u8]) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
