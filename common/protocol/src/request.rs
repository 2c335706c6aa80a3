//! Everything an orchestrator may ask of an agent, one request per stream.

use gantry_model::{ClusterName, Step, StepId};
use serde::{Deserialize, Serialize};

/// A request. Variants are append-only: the codec writes their position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Report everything about the host. Answered by `Reply::Inventory`. Role: reader.
    Inventory,
    /// Run a step, or attach to it if it runs already, or report its outcome if the journal has it as done.
    /// Answered by `Reply::Accepted`, then [`StepEvent`](crate::StepEvent)s until `Finished`. Role: operator.
    Run(Step),
    /// What a step wrote, from its beginning. Answered like `Run`; with `follow` until the step ends. Role: reader.
    Logs {
        /// The step.
        step: StepId,
        /// Go on until the step ends.
        follow: bool,
    },
    /// End a running step and everything it started. Answered by `Reply::Done`. Role: operator.
    Cancel {
        /// The step.
        step: StepId,
    },
    /// Take this certificate revocation list (DER, signed by the CA). Answered by `Reply::Done`. Role: operator.
    Revocations {
        /// The list.
        crl: Vec<u8>,
    },
    /// Whether a cluster's recorded steps still hold on this host: the rootfs is mounted, the marked block is
    /// whole. Answered by `Reply::Drift`. Role: reader.
    Drift {
        /// The cluster.
        cluster: ClusterName,
    },
}
