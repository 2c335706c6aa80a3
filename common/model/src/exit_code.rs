//! This module owns the exit codes of both programs. A number is never reused.

/// What a program tells the shell when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done, or nothing to do.
    Done = 0,
    /// A defect in Gantry itself.
    Internal = 1,
    /// Wrong usage or wrong input.
    Input = 2,
    /// A preflight check refused before anything changed.
    Preflight = 3,
    /// Some hosts failed, others are done.
    SomeHostsFailed = 4,
    /// Nothing succeeded.
    Failed = 5,
    /// A digest, signature or certificate did not hold.
    Verification = 6,
    /// Hosts could not be reached, or there is no quorum.
    Unreachable = 7,
    /// Another operator or command holds the lock.
    Locked = 8,
    /// Interrupted by the operator.
    Interrupted = 130,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
