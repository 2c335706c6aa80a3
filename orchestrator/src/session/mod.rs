//! Sessions with agents: one method per request. Everything that happens to a host goes through here.
//!
//! - [`Sessions`] gives a session with a host, dialling where there is none: [`dialer`] over the network
//! - [`AgentSession`] is such a session: [`remote`] over a connection
//! - [`fetches`] answers what agents ask for while they stage

pub mod dialer;
mod error;
pub mod fetches;
pub mod remote;

use std::net::IpAddr;

use bytes::Bytes;
use gantry_model::{
    ClusterHealth, ClusterName, Digest, ImageEvidence, Inventory, JoinPass, Step, StepId, StepOutcome,
};
use gantry_protocol::StepEvent;
use tokio::sync::mpsc;

pub use dialer::{DialSettings, Dialer};
pub use error::SessionError;
pub use remote::RemoteSession;

/// Gives sessions with hosts.
pub trait Sessions: Send + Sync {
    /// The kind of session.
    type Session: AgentSession;

    /// A live session with the agent at `host`.
    ///
    /// # Errors
    /// When the agent cannot be reached or refuses.
    fn session(&self, host: IpAddr) -> impl Future<Output = Result<Self::Session, SessionError>> + Send;
}

/// A session with one agent. Every method may run beside the others.
pub trait AgentSession: Send + Sync {
    /// Everything about the host.
    ///
    /// # Errors
    /// When the session is lost or the agent refuses; the same holds for the other methods.
    fn inventory(&self) -> impl Future<Output = Result<Inventory, SessionError>> + Send;

    /// What does not hold any more of what the journal says about `cluster`.
    fn drift(&self, cluster: &ClusterName) -> impl Future<Output = Result<Vec<String>, SessionError>> + Send;

    /// What lets one more host into `cluster`, of which this host is a control plane.
    fn join_pass(
        &self,
        cluster: &ClusterName,
        control_plane: bool,
    ) -> impl Future<Output = Result<JoinPass, SessionError>> + Send;

    /// The kubeconfig of the administrator of `cluster`, of which this host is a control plane.
    fn kubeconfig(&self, cluster: &ClusterName) -> impl Future<Output = Result<String, SessionError>> + Send;

    /// What `cluster` is like, of which this host is a control plane.
    fn cluster_health(
        &self,
        cluster: &ClusterName,
    ) -> impl Future<Output = Result<ClusterHealth, SessionError>> + Send;

    /// A snapshot of the etcd of `cluster`, of which this host is a control plane, part by part into `parts`. What came
    /// is whole only when this ends well.
    fn etcd_snapshot(
        &self,
        cluster: &ClusterName,
        parts: mpsc::Sender<Bytes>,
    ) -> impl Future<Output = Result<(), SessionError>> + Send;

    /// Gives a control plane of `cluster` a snapshot of etcd whose database has this digest, part by part out of `parts`. Those
    /// are not asked for when it has that snapshot already.
    fn give_snapshot(
        &self,
        cluster: &ClusterName,
        database: Digest,
        parts: mpsc::Receiver<Bytes>,
    ) -> impl Future<Output = Result<(), SessionError>> + Send;

    /// Gives the host a key (PEM) for its policy to accept images by, if that says so.
    fn bring_image_key(&self, key: String) -> impl Future<Output = Result<(), SessionError>> + Send;

    /// Whether the host accepts an image by its own signature policy. Steps that bring the image need that first.
    fn verify_image(&self, image: &ImageEvidence) -> impl Future<Output = Result<(), SessionError>> + Send;

    /// Whether the agent knows `step`, whether or not it would do it: otherwise it is [`SessionError::NotUnderstood`].
    fn knows(&self, step: &Step) -> impl Future<Output = Result<(), SessionError>> + Send;

    /// Runs `step`, or attaches to it; `events` gets each event but the last, whose outcome is the answer. A step by
    /// which the host joins a cluster needs a `pass`.
    fn run(
        &self,
        step: &Step,
        pass: Option<JoinPass>,
        events: mpsc::Sender<StepEvent>,
    ) -> impl Future<Output = Result<StepOutcome, SessionError>> + Send;

    /// What a step wrote, from its beginning; with `follow` until it ends. The answer is none when it goes on.
    fn logs(
        &self,
        step: StepId,
        follow: bool,
        events: mpsc::Sender<StepEvent>,
    ) -> impl Future<Output = Result<Option<StepOutcome>, SessionError>> + Send;

    /// Tells the agent to trust these CAs, with their revocation lists, and no others (PEM).
    fn trust(&self, authorities: String) -> impl Future<Output = Result<(), SessionError>> + Send;

    /// A request (DER) for a new certificate for the agent's key.
    fn signing_request(&self) -> impl Future<Output = Result<Vec<u8>, SessionError>> + Send;

    /// Hands the agent its new certificate (DER).
    fn take_certificate(&self, der: Vec<u8>) -> impl Future<Output = Result<(), SessionError>> + Send;

    /// The way the session goes: `quic` or `tcp`.
    fn path(&self) -> String;
}
