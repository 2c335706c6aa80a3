//! A session over a connection.

use std::sync::Arc;

use bytes::Bytes;
use gantry_model::{
    ClusterHealth, ClusterName, Digest, ImageEvidence, Inventory, JoinPass, Step, StepId, StepOutcome,
};
use gantry_protocol::limits::{MAX_SNAPSHOT_LEN, MAX_SNAPSHOT_PART_LEN};
use gantry_protocol::{CloseCode, Reply, Request, SnapshotPart, StepEvent};
use gantry_transport::{Connection, Path, RecvStream, StreamError};
use tokio::sync::mpsc;

use super::fetches::SentCounters;
use super::{AgentSession, SessionError};

/// A session with one agent over the network. Clones share the connection.
#[derive(Debug, Clone)]
pub struct RemoteSession {
    connection: Connection,
    sent: SentCounters,
    /// The agent's program version.
    version: Arc<str>,
}

impl RemoteSession {
    pub(super) fn new(connection: Connection, sent: SentCounters, version: &str) -> Self {
        Self {
            connection,
            sent,
            version: version.into(),
        }
    }

    /// Whether the connection is still there.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// What was sent to the agent while it staged.
    #[must_use]
    pub const fn sent(&self) -> &SentCounters {
        &self.sent
    }

    /// The agent's program version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Ends the session in good order. What runs on the host goes on.
    pub async fn close(&self) {
        self.connection.shut_down(CloseCode::Done, "done").await;
    }

    /// Sends `request` and waits for the first message of the answer.
    async fn ask(&self, request: &Request) -> Result<(Reply, RecvStream), SessionError> {
        let (mut send, mut receive) = self.connection.open_bi().await.map_err(lost)?;
        send.send(request).await.map_err(lost)?;
        send.finish().await.map_err(lost)?;
        let reply = receive.recv::<Reply>().await.map_err(lost)?;
        match reply {
            Reply::Refused(refusal) => Err(SessionError::Refused(refusal)),
            reply => Ok((reply, receive)),
        }
    }
}

impl RemoteSession {
    /// Asks what agents of before cannot decode, and what is answered by "done"; `asked` says in words what.
    async fn ask_newer(
        &self,
        request: &Request,
        asked: impl FnOnce() -> String + Send,
    ) -> Result<(), SessionError> {
        let (mut send, mut receive) = self.connection.open_bi().await.map_err(lost)?;
        send.send(request).await.map_err(lost)?;
        send.finish().await.map_err(lost)?;
        match receive.recv::<Reply>().await {
            Ok(Reply::Done) => Ok(()),
            Ok(Reply::Refused(refusal)) => Err(SessionError::Refused(refusal)),
            Ok(other) => Err(unexpected(&other)),
            // Over TCP a stream that is reset looks like one that ends.
            Err(StreamError::Ended(CloseCode::Protocol) | StreamError::Early) if self.is_live() => {
                Err(SessionError::NotUnderstood {
                    version: self.version.to_string(),
                    asked: asked(),
                })
            }
            Err(error) => Err(lost(error)),
        }
    }
}

impl AgentSession for RemoteSession {
    async fn inventory(&self) -> Result<Inventory, SessionError> {
        match self.ask(&Request::Inventory).await? {
            (Reply::Inventory(inventory), _) => Ok(*inventory),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn drift(&self, cluster: &ClusterName) -> Result<Vec<String>, SessionError> {
        match self
            .ask(&Request::Drift {
                cluster: cluster.clone(),
            })
            .await?
        {
            (Reply::Drift(lines), _) => Ok(lines),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn join_pass(&self, cluster: &ClusterName, control_plane: bool) -> Result<JoinPass, SessionError> {
        let request = Request::JoinPass {
            cluster: cluster.clone(),
            control_plane,
        };
        match self.ask(&request).await? {
            (Reply::JoinPass(pass), _) => Ok(pass),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn kubeconfig(&self, cluster: &ClusterName) -> Result<String, SessionError> {
        let cluster = cluster.clone();
        match self.ask(&Request::Kubeconfig { cluster }).await? {
            (Reply::Kubeconfig(kubeconfig), _) => Ok(kubeconfig),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn cluster_health(&self, cluster: &ClusterName) -> Result<ClusterHealth, SessionError> {
        let cluster = cluster.clone();
        match self.ask(&Request::ClusterHealth { cluster }).await? {
            (Reply::ClusterHealth(health), _) => Ok(health),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn etcd_snapshot(
        &self,
        cluster: &ClusterName,
        parts: mpsc::Sender<Bytes>,
    ) -> Result<(), SessionError> {
        let cluster = cluster.clone();
        let mut receive = match self.ask(&Request::EtcdSnapshot { cluster }).await? {
            (Reply::EtcdSnapshot, receive) => receive,
            (other, _) => return Err(unexpected(&other)),
        };
        let mut room = MAX_SNAPSHOT_LEN;
        loop {
            let len = match receive.recv::<SnapshotPart>().await.map_err(lost)? {
                SnapshotPart::Bytes(len) => len,
                SnapshotPart::End => return Ok(()),
                SnapshotPart::Failed(reason) => return Err(SessionError::Failed(reason)),
            };
            room = room.saturating_sub(len.into());
            if len > MAX_SNAPSHOT_PART_LEN || room == 0 {
                let reason = format!("a snapshot has more than {MAX_SNAPSHOT_LEN} bytes, or a part too many");
                return Err(SessionError::Protocol(reason));
            }
            let part = receive.read_exact(len as usize).await.map_err(lost)?;
            if parts.send(part).await.is_err() {
                return Err(SessionError::Failed("nobody takes the snapshot any more".into()));
            }
        }
    }

    async fn give_snapshot(
        &self,
        cluster: &ClusterName,
        database: Digest,
        mut parts: mpsc::Receiver<Bytes>,
    ) -> Result<(), SessionError> {
        let (mut send, mut receive) = self.connection.open_bi().await.map_err(lost)?;
        let cluster = cluster.clone();
        let request = Request::TakeSnapshot { cluster, database };
        send.send(&request).await.map_err(lost)?;
        match receive.recv::<Reply>().await.map_err(lost)? {
            Reply::Accepted => {}
            Reply::Done => return Ok(()),
            Reply::Refused(refusal) => return Err(SessionError::Refused(refusal)),
            other => return Err(unexpected(&other)),
        }
        while let Some(mut part) = parts.recv().await {
            while !part.is_empty() {
                let len = MAX_SNAPSHOT_PART_LEN.min(u32::try_from(part.len()).unwrap_or(u32::MAX));
                send.send(&SnapshotPart::Bytes(len)).await.map_err(lost)?;
                send.write_bytes(part.split_to(len as usize))
                    .await
                    .map_err(lost)?;
            }
        }
        send.send(&SnapshotPart::End).await.map_err(lost)?;
        send.finish().await.map_err(lost)?;
        match receive.recv::<Reply>().await.map_err(lost)? {
            Reply::Done => Ok(()),
            Reply::Refused(refusal) => Err(SessionError::Refused(refusal)),
            other => Err(unexpected(&other)),
        }
    }

    async fn bring_image_key(&self, key: String) -> Result<(), SessionError> {
        self.ask_newer(&Request::ImageKey { key }, || "a key for images".into())
            .await
    }

    async fn verify_image(&self, image: &ImageEvidence) -> Result<(), SessionError> {
        let image = image.clone();
        self.ask_newer(&Request::VerifyImage { image }, || {
            "whether it accepts an image".into()
        })
        .await
    }

    async fn knows(&self, step: &Step) -> Result<(), SessionError> {
        let title = || format!("the step \"{}\"", step.action.title());
        let step = step.clone();
        self.ask_newer(&Request::Knows { step }, title).await
    }

    async fn run(
        &self,
        step: &Step,
        pass: Option<JoinPass>,
        events: mpsc::Sender<StepEvent>,
    ) -> Result<StepOutcome, SessionError> {
        let step = step.clone();
        let request = match pass {
            Some(pass) => Request::RunJoin { step, pass },
            None => Request::Run(step),
        };
        let (reply, receive) = self.ask(&request).await?;
        let outcome = pass_on(reply, receive, events).await?;
        outcome.ok_or_else(|| SessionError::Lost("the step's events ended before the step did".into()))
    }

    async fn logs(
        &self,
        step: StepId,
        follow: bool,
        events: mpsc::Sender<StepEvent>,
    ) -> Result<Option<StepOutcome>, SessionError> {
        let (reply, receive) = self.ask(&Request::Logs { step, follow }).await?;
        pass_on(reply, receive, events).await
    }

    async fn trust(&self, authorities: String) -> Result<(), SessionError> {
        match self.ask(&Request::Trust { authorities }).await? {
            (Reply::Done, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn signing_request(&self) -> Result<Vec<u8>, SessionError> {
        match self.ask(&Request::SigningRequest).await? {
            (Reply::SigningRequest(request), _) => Ok(request),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn take_certificate(&self, der: Vec<u8>) -> Result<(), SessionError> {
        match self.ask(&Request::Certificate { der }).await? {
            (Reply::Done, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    fn path(&self) -> String {
        match self.connection.path() {
            Path::Quic => "quic".into(),
            Path::Tcp => "tcp".into(),
        }
    }
}

async fn pass_on(
    reply: Reply,
    mut receive: RecvStream,
    events: mpsc::Sender<StepEvent>,
) -> Result<Option<StepOutcome>, SessionError> {
    if reply != Reply::Accepted {
        return Err(unexpected(&reply));
    }
    while let Some(event) = receive.recv_or_end::<StepEvent>().await.map_err(lost)? {
        match event {
            StepEvent::Finished(outcome) => return Ok(Some(outcome)),
            // Whoever listened no longer does: the answer is still wanted.
            event => drop(events.send(event).await),
        }
    }
    Ok(None)
}

fn lost(error: StreamError) -> SessionError {
    match error {
        StreamError::Codec(error) => SessionError::Protocol(error.to_string()),
        StreamError::Closed(closed) => SessionError::Lost(closed.to_string()),
        error => SessionError::Lost(error.to_string()),
    }
}

fn unexpected(reply: &Reply) -> SessionError {
    let kind = match reply {
        Reply::Inventory(_) => "an inventory",
        Reply::Accepted => "\"accepted\"",
        Reply::Done => "\"done\"",
        Reply::Drift(_) => "a list of drift",
        Reply::Refused(_) => "a refusal",
        Reply::JoinPass(_) => "a pass into a cluster",
        Reply::Kubeconfig(_) => "a kubeconfig",
        Reply::EtcdSnapshot => "a snapshot of etcd",
        Reply::ClusterHealth(_) => "a cluster's health",
        Reply::SigningRequest(_) => "a signing request",
    };
    SessionError::Protocol(format!("{kind} came where another answer was due"))
}
