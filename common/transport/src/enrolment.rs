//! How a host without a certificate gets one: a one-time token proves both sides to each other.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::authority::Authority;
use crate::dial::DialOptions;
use crate::identity::{AgentKey, Identity};

/// A one-time token: `gantry1.<expiry>.<id>.<secret>`. `Display` shows the secret; `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {}

impl Token {
    /// A new token that ends `ttl` from now.
    pub fn create(_ttl: Duration) -> Self {
        todo!()
    }
    /// The public part, for lists and logs.
    pub fn id(&self) -> &str {
        todo!()
    }
    /// When it ends.
    pub fn expires(&self) -> SystemTime {
        todo!()
    }
    /// What the orchestrator keeps of it.
    pub fn record(&self, _uses: u32) -> TokenRecord {
        todo!()
    }
}
impl fmt::Display for Token {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
impl fmt::Debug for Token {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
impl FromStr for Token {
    type Err = EnrolmentError;
    fn from_str(_text: &str) -> Result<Self, EnrolmentError> {
        todo!()
    }
}

/// What the orchestrator keeps of a token: enough to check it, not its text. A secret: mode 0600.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The public part.
    pub id: String,
    /// When it ends, seconds since the epoch.
    pub expires: u64,
    /// How many more hosts it may enrol.
    pub uses_left: u32,
    /// Hosts it enrolled: name and key fingerprint. The same key may try again until the token ends.
    pub used_by: Vec<(String, String)>,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenRefusal(pub String);

impl TokenRecord {
    /// Takes one use for the host `host` with key `fingerprint`. The caller stores the record durably before
    /// anything is signed.
    pub fn redeem(&mut self, _host: &str, _fingerprint: &str, _now: SystemTime) -> Result<(), TokenRefusal> {
        todo!()
    }
}

/// Where the orchestrator keeps its token records.
pub trait TokenBook: Send + Sync {
    /// The record with this id.
    fn find(&self, id: &str) -> Option<TokenRecord>;
    /// Calls [`TokenRecord::redeem`] on the stored record under the book's lock and stores the result durably
    /// before returning.
    fn redeem(&self, id: &str, host: &str, fingerprint: &str) -> Result<(), TokenRefusal>;
}

/// Why an enrolment did not happen. One line: what, why, what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct EnrolmentError(pub String);

/// A host that was just enrolled.
#[derive(Debug, Clone)]
pub struct EnrolledAgent {
    /// The name in its certificate.
    pub name: String,
    /// The certificate's serial number, lower-case hex.
    pub serial: String,
    /// When the certificate ends.
    pub not_after: SystemTime,
    /// SHA-256 of its public key, lower-case hex.
    pub fingerprint: String,
    /// The agent's program version.
    pub program: String,
    /// Its clock minus ours, milliseconds.
    pub clock_skew_ms: i64,
}

/// The orchestrator's side: enrols the agent at `addr` under the name `host`.
pub async fn enrol(
    _addr: SocketAddr,
    _host: &str,
    _book: &dyn TokenBook,
    _authority: &Authority,
    _options: &DialOptions,
) -> Result<EnrolledAgent, EnrolmentError> {
    todo!()
}

/// The agent's side: listens, on the port it will have later, until an orchestrator that holds the token came.
#[derive(Debug)]
pub struct EnrolmentListener {}

impl EnrolmentListener {
    /// Listens on `addr` with UDP and TCP.
    pub async fn bind(_addr: SocketAddr, _key: AgentKey, _token: Token, _program: &str) -> io::Result<Self> {
        todo!()
    }
    /// The address listened on.
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }
    /// Waits for the orchestrator. `store` must save the identity durably; only then is the orchestrator told.
    /// The caller removes the token's file afterwards and goes on with [`crate::Listener`] on the same port.
    pub async fn wait(
        self,
        _store: impl Fn(&Identity) -> io::Result<()> + Send,
    ) -> Result<Identity, EnrolmentError> {
        todo!()
    }
}
