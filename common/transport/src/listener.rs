//! This module owns [`Listener`]: the agent's port, UDP and TCP, for enrolled peers.

use std::io;
use std::net::SocketAddr;

use crate::connection::Connection;
use crate::identity::Identity;

/// What a listener says about its program.
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    /// This program's version, for messages to people.
    pub program: String,
}
impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Accepts sessions of enrolled peers. Dropping it stops accepting; connections go on.
#[derive(Debug)]
pub struct Listener {}

impl Listener {
    /// Listens on `addr` with UDP and TCP (port 0: any that is free for both).
    pub async fn bind(_addr: SocketAddr, _identity: Identity, _options: ListenerOptions) -> io::Result<Self> {
        todo!()
    }
    /// The address listened on.
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }
    /// The next session: both certificates checked, versions agreed. Refused peers are logged and never seen
    /// here. Cancel safe.
    pub async fn accept(&self) -> Connection {
        todo!()
    }
    /// Uses another identity (renewed certificate, newer revocation list) for connections from now on, and
    /// closes those whose certificate the list names.
    pub fn replace_identity(&self, _identity: Identity) {
        todo!()
    }
}
