//! The single list of codes a connection or a stream is closed with. A number is never reused.

use std::fmt;

/// Why a connection or a stream was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// All is said.
    Done = 0,
    /// A message could not be decoded or came out of order.
    Protocol = 1,
    /// No common protocol version.
    Version = 2,
    /// The certificate does not allow this.
    Forbidden = 3,
    /// Too many connections or streams.
    TooMany = 4,
    /// The peer took too long.
    TimedOut = 5,
    /// The program is shutting down.
    ShuttingDown = 6,
    /// The receiver needs no more of this stream.
    NotNeeded = 7,
    /// A defect or a failure of the host.
    Internal = 8,
}

impl CloseCode {
    /// Every code, for tests and for reading one from the wire.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::Protocol,
        Self::Version,
        Self::Forbidden,
        Self::TooMany,
        Self::TimedOut,
        Self::ShuttingDown,
        Self::NotNeeded,
        Self::Internal,
    ];

    /// The code with this number, if it is one of ours.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|code| u64::from(*code as u32) == number)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Protocol => "a message could not be understood",
            Self::Version => "no common protocol version",
            Self::Forbidden => "not allowed",
            Self::TooMany => "too many connections or streams",
            Self::TimedOut => "the peer took too long",
            Self::ShuttingDown => "shutting down",
            Self::NotNeeded => "no more is needed",
            Self::Internal => "internal failure",
        })
    }
}
