//! Everything an agent may answer, and the events that follow.

use std::fmt;

use gantry_model::{ClusterHealth, Inventory, JoinPass, StepOutcome};
use serde::{Deserialize, Serialize};

/// The first message an agent sends on a request's stream. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The answer to `Inventory`.
    Inventory(Box<Inventory>),
    /// The step is accepted; events follow.
    Accepted,
    /// Done, nothing more to say.
    Done,
    /// What differs from what the journal says; empty when nothing does. Each line starts with the title of the
    /// step that does not hold any more and a colon: `rootfs: not mounted`, `hosts entries: block changed by hand`.
    Drift(Vec<String>),
    /// Refused; nothing was changed.
    Refused(Refusal),
    /// The answer to `JoinPass`.
    JoinPass(JoinPass),
    /// The answer to `Kubeconfig`: a file of that kind. Secret.
    Kubeconfig(String),
    /// The answer to `ClusterHealth`.
    ClusterHealth(ClusterHealth),
    /// The answer to `SigningRequest`: a certification request (DER).
    SigningRequest(Vec<u8>),
    /// The answer to `EtcdSnapshot`: parts follow.
    EtcdSnapshot,
}

/// What follows `Reply::EtcdSnapshot`, and the acceptance of `Request::TakeSnapshot`. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotPart {
    /// This many raw bytes of the snapshot follow, at most [`crate::limits::MAX_SNAPSHOT_PART_LEN`].
    Bytes(u32),
    /// That was all of it.
    End,
    /// It cannot be had to its end, for this reason.
    Failed(String),
}

/// Why an agent does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The kind, for programs.
    pub kind: RefusalKind,
    /// What and why, for people; one line.
    pub message: String,
}

/// Kinds of refusal. Append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalKind {
    /// The peer's role does not allow it.
    Forbidden,
    /// Something is wrong with the request itself.
    Invalid,
    /// Another step changes this host now.
    Busy,
    /// The thing asked about is not here.
    NotFound,
    /// Not enough free space.
    NoSpace,
    /// The agent is shutting down.
    Draining,
    /// A defect or a failure of the host.
    Internal,
    /// The host's signature policy does not accept the image.
    Untrusted,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What happens to a step, in order. Append-only; `Finished` is always the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepEvent {
    /// The journal has it already: nothing was done now.
    AlreadyDone,
    /// It starts now, or this stream attached to it while it runs.
    Started,
    /// Layer bytes arrived.
    Progress(TransferProgress),
    /// A line of script output, without its newline; bytes as they came.
    Output {
        /// From standard error rather than standard output.
        stderr: bool,
        /// At most [`crate::limits::MAX_OUTPUT_LINE`] bytes.
        line: Vec<u8>,
    },
    /// It ended. The journal was written before this was sent.
    Finished(StepOutcome),
}

/// How far a stage has come. All numbers only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferProgress {
    /// Compressed bytes that will have travelled when the stage is done.
    pub wanted: u64,
    /// Compressed bytes that travelled in this session.
    pub received: u64,
    /// Bytes of file content taken from layers the host had already.
    pub reused: u64,
    /// Bytes of file content verified and on disk, in all.
    pub written: u64,
    /// Bytes of file content of the whole image.
    pub total: u64,
}
