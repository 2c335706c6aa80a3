//! Everything an orchestrator may ask of an agent, one request per stream.

use gantry_model::{ClusterName, Digest, ImageEvidence, JoinPass, Step, StepId};
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
    /// Take this certificate revocation list (DER, signed by a CA that the agent trusts). `Trust` says it, too. Answered by
    /// `Reply::Done`. Role: operator.
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
    /// Make what lets one more host into a cluster of which this host is a control plane. Answered by
    /// `Reply::JoinPass`. Role: operator.
    JoinPass {
        /// The cluster.
        cluster: ClusterName,
        /// For one more control plane rather than a worker.
        control_plane: bool,
    },
    /// `Run` for a step by which the host joins a cluster. Role: operator.
    RunJoin {
        /// The step.
        step: Step,
        /// What lets the host in. No part of the step: another one serves as well.
        pass: JoinPass,
    },
    /// The administrator's access to a cluster of which this host is a control plane. Answered by
    /// `Reply::Kubeconfig`. Role: operator.
    Kubeconfig {
        /// The cluster.
        cluster: ClusterName,
    },
    /// What a cluster of which this host is a control plane is like: nodes, etcd. Answered by
    /// `Reply::ClusterHealth`. Role: reader.
    ClusterHealth {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Make a request for a new certificate for the agent's key. Answered by `Reply::SigningRequest`. Role: operator.
    SigningRequest,
    /// Take this certificate (DER, signed by the CA) from now on. Answered by `Reply::Done`. Role: operator.
    Certificate {
        /// The certificate.
        der: Vec<u8>,
    },
    /// A snapshot of the etcd that this control plane of a cluster has a member of. Answered by `Reply::EtcdSnapshot`, then
    /// [`SnapshotPart`](crate::SnapshotPart)s until `End` or `Failed`. It holds the cluster's secrets. Role: operator.
    EtcdSnapshot {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Take a snapshot of etcd, to be restored on this control plane of a cluster. Answered by `Reply::Done` when it is here
    /// already; else by `Reply::Accepted`, then the peer sends [`SnapshotPart`](crate::SnapshotPart)s on the same stream, and
    /// `Reply::Done` when all of it is on disk. Role: operator.
    TakeSnapshot {
        /// The cluster.
        cluster: ClusterName,
        /// The digest of its database.
        database: Digest,
    },
    /// Trust these CAs, with their revocation lists, and no others from now on. The agent refuses where its own
    /// certificate is of none of them. Answered by `Reply::Done`. Role: operator.
    Trust {
        /// PEM: `CERTIFICATE` for each CA and cross-certificate (RFC 4210 §4.4), `X509 CRL` for each list.
        authorities: String,
    },
    /// Decide about an image by the host's own signature policy, and remember what speaks for it: steps that bring the image are
    /// done only then, where the policy asks for signatures. Changes nothing on the host. Answered by `Reply::Done`, or
    /// refused as `Untrusted`. Role: operator.
    VerifyImage {
        /// The image.
        image: ImageEvidence,
    },
    /// Whether the agent knows this step, whether or not it would do it. Changes nothing. Answered by `Reply::Done`; an agent that
    /// does not know it cannot decode the request. Role: reader.
    Knows {
        /// The step.
        step: Step,
    },
    /// Add this key to those that orchestrators bring, by which images are accepted where the host's signature policy says so. It goes
    /// when the certificate of whoever brought it is believed no more. Answered by `Reply::Done`. Role: operator.
    ImageKey {
        /// PEM: one `PUBLIC KEY`.
        key: String,
    },
}
