//! First messages of a session: who speaks which versions. Their encoding never changes.

use serde::{Deserialize, Serialize};

use crate::version::ProtocolVersion;

/// What the orchestrator says first, on the first stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol version it speaks.
    pub oldest: ProtocolVersion,
    /// Newest protocol version it speaks.
    pub newest: ProtocolVersion,
    /// Its program version, for messages to people.
    pub program: String,
    /// Its clock, milliseconds since the epoch.
    pub clock_ms: i64,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloReply {
    /// The session goes on in this version.
    Agreed {
        /// The version both speak.
        version: ProtocolVersion,
        /// The agent's program version.
        program: String,
        /// The agent's clock, milliseconds since the epoch.
        clock_ms: i64,
    },
    /// No common version. The connection closes after this.
    NoCommonVersion {
        /// Oldest version the agent speaks.
        oldest: ProtocolVersion,
        /// Newest version the agent speaks.
        newest: ProtocolVersion,
        /// The agent's program version.
        program: String,
    },
}
