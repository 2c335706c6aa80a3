//! An orchestrator that dies at a chosen moment: before or after any time that it dials, or asks an agent for something.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use gantry::session::{AgentSession, Dialer, RemoteSession, SessionError, Sessions};
use gantry_model::{
    ClusterHealth, ClusterName, Digest, ImageEvidence, Inventory, JoinPass, Step, StepId, StepOutcome,
};
use gantry_protocol::StepEvent;
use tokio::sync::{Notify, mpsc};

/// Dials until its time has come. Clones die together.
#[derive(Clone)]
pub(crate) struct Mortal {
    pub(crate) dialer: Arc<Dialer>,
    life: Arc<Life>,
}

struct Life {
    moments_left: AtomicUsize,
    end: Notify,
}

/// A session that ends for good with whoever has it.
pub(crate) struct MortalSession {
    life: Arc<Life>,
    session: RemoteSession,
}

impl Mortal {
    pub(crate) fn new(dialer: Dialer, moments: usize) -> Self {
        let life = Life {
            moments_left: AtomicUsize::new(moments),
            end: Notify::new(),
        };
        Self {
            dialer: Arc::new(dialer),
            life: Arc::new(life),
        }
    }

    /// Comes back when it is dead.
    pub(crate) async fn died(&self) {
        self.life.end.notified().await;
    }
}

impl Life {
    /// Does not come back to the dead.
    async fn moment(&self) {
        let lives = self
            .moments_left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if lives.is_err() {
            self.end.notify_one();
            std::future::pending::<()>().await;
        }
    }

    async fn around<T>(&self, deed: impl Future<Output = T>) -> T {
        self.moment().await;
        let done = deed.await;
        self.moment().await;
        done
    }
}

impl Sessions for Mortal {
    type Session = MortalSession;

    async fn session(&self, host: IpAddr) -> Result<MortalSession, SessionError> {
        let session = self.life.around(self.dialer.session(host)).await?;
        let life = Arc::clone(&self.life);
        Ok(MortalSession { life, session })
    }
}

impl AgentSession for MortalSession {
    async fn bring_image_key(&self, key: String) -> Result<(), SessionError> {
        self.life.around(self.session.bring_image_key(key)).await
    }

    async fn verify_image(&self, image: &ImageEvidence) -> Result<(), SessionError> {
        self.life.around(self.session.verify_image(image)).await
    }

    async fn knows(&self, step: &Step) -> Result<(), SessionError> {
        self.life.around(self.session.knows(step)).await
    }

    async fn trust(&self, authorities: String) -> Result<(), SessionError> {
        self.life.around(self.session.trust(authorities)).await
    }

    async fn signing_request(&self) -> Result<Vec<u8>, SessionError> {
        self.life.around(self.session.signing_request()).await
    }

    async fn take_certificate(&self, der: Vec<u8>) -> Result<(), SessionError> {
        self.life.around(self.session.take_certificate(der)).await
    }

    async fn inventory(&self) -> Result<Inventory, SessionError> {
        self.life.around(self.session.inventory()).await
    }

    async fn drift(&self, cluster: &ClusterName) -> Result<Vec<String>, SessionError> {
        self.life.around(self.session.drift(cluster)).await
    }

    async fn join_pass(&self, cluster: &ClusterName, control_plane: bool) -> Result<JoinPass, SessionError> {
        self.life
            .around(self.session.join_pass(cluster, control_plane))
            .await
    }

    async fn kubeconfig(&self, cluster: &ClusterName) -> Result<String, SessionError> {
        self.life.around(self.session.kubeconfig(cluster)).await
    }

    async fn cluster_health(&self, cluster: &ClusterName) -> Result<ClusterHealth, SessionError> {
        self.life.around(self.session.cluster_health(cluster)).await
    }

    async fn etcd_snapshot(
        &self,
        cluster: &ClusterName,
        parts: mpsc::Sender<Bytes>,
    ) -> Result<(), SessionError> {
        self.life.around(self.session.etcd_snapshot(cluster, parts)).await
    }

    async fn give_snapshot(
        &self,
        cluster: &ClusterName,
        database: Digest,
        parts: mpsc::Receiver<Bytes>,
    ) -> Result<(), SessionError> {
        self.life
            .around(self.session.give_snapshot(cluster, database, parts))
            .await
    }

    async fn run(
        &self,
        step: &Step,
        pass: Option<JoinPass>,
        events: mpsc::Sender<StepEvent>,
    ) -> Result<StepOutcome, SessionError> {
        self.life.around(self.session.run(step, pass, events)).await
    }

    async fn logs(
        &self,
        step: StepId,
        follow: bool,
        events: mpsc::Sender<StepEvent>,
    ) -> Result<Option<StepOutcome>, SessionError> {
        self.life.around(self.session.logs(step, follow, events)).await
    }

    fn path(&self) -> String {
        self.session.path()
    }
}
