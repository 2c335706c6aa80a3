//! Request → the one who answers it.

use gantry_model::{ClusterName, ImageEvidence, JoinPass, Step, StepId};
use gantry_protocol::{Refusal, RefusalKind, Reply, Request, StepEvent};
use gantry_transport::{Connection, RecvStream, SendStream, StreamError};

use super::{Server, drift, follow, inventory};
use crate::executor::Answer;
use crate::image_keys::ImageKeysError;
use crate::kubeadm;

impl Server {
    /// Answers one request on its stream.
    pub(super) async fn answer(
        &self,
        request: Request,
        connection: &Connection,
        send: &mut SendStream,
        recv: &mut RecvStream,
    ) -> Result<(), StreamError> {
        match request {
            Request::Inventory => reply(inventory::gather(self).await.map(Reply::Inventory), send).await,
            Request::Run(step) => self.run(step, None, connection, send).await,
            Request::RunJoin { step, pass } => self.run(step, Some(pass), connection, send).await,
            Request::Kubeconfig { cluster } => reply(self.kubeconfig(&cluster), send).await,
            Request::SigningRequest => reply(self.signing_request(), send).await,
            Request::Certificate { der } => reply(self.take_certificate(&der, connection), send).await,
            Request::ClusterHealth { cluster } => reply(self.cluster_health(&cluster).await, send).await,
            Request::EtcdSnapshot { cluster } => self.etcd_snapshot(&cluster, send).await,
            Request::TakeSnapshot { cluster, database } => {
                self.take_snapshot(&cluster, database, send, recv).await
            }
            Request::JoinPass {
                cluster,
                control_plane,
            } => reply(self.join_pass(&cluster, control_plane).await, send).await,
            Request::Logs { step, follow } => self.logs(step, follow, send).await,
            Request::Cancel { step } => reply(self.cancel(step).await, send).await,
            Request::Revocations { crl } => reply(self.revocations(&crl, connection).await, send).await,
            Request::Trust { authorities } => {
                reply(self.trust(authorities.as_bytes(), connection), send).await
            }
            // It was decoded.
            Request::Knows { .. } => reply(Ok(Reply::Done), send).await,
            Request::VerifyImage { image } => reply(self.verify_image(image).await, send).await,
            Request::ImageKey { key } => reply(self.image_key(&key, connection), send).await,
            Request::Drift { cluster } => {
                reply(drift::look(self, cluster).await.map(Reply::Drift), send).await
            }
        }
    }

    async fn run(
        &self,
        step: Step,
        pass: Option<JoinPass>,
        connection: &Connection,
        send: &mut SendStream,
    ) -> Result<(), StreamError> {
        if pass.as_ref().is_some_and(|pass| !pass.is_plain()) {
            let message = "the pass has characters that no pass has".into();
            let kind = RefusalKind::Invalid;
            return refuse(Refusal { kind, message }, send).await;
        }
        let (id, has_output) = (step.id(), step.action.runs_a_program());
        let answer = match self.executor.run(step, pass, Some(connection.clone())).await {
            Ok(answer) => answer,
            Err(refusal) => return refuse(refusal, send).await,
        };
        send.send(&Reply::Accepted).await?;
        match answer {
            Answer::Running(watch) => {
                let output = has_output.then(|| self.host.scripts.output(id));
                follow::follow(watch, output, send).await?;
            }
            Answer::AlreadyDone(outcome) => {
                send.send(&StepEvent::AlreadyDone).await?;
                send.send(&StepEvent::Finished(outcome)).await?;
            }
            Answer::Over(outcome) => {
                send.send(&StepEvent::Started).await?;
                send.send(&StepEvent::Finished(outcome)).await?;
            }
        }
        send.finish().await
    }

    async fn logs(&self, id: StepId, follow: bool, send: &mut SendStream) -> Result<(), StreamError> {
        let (record, watch) = match self.executor.find(id).await {
            Ok(found) => found,
            Err(refusal) => return refuse(refusal, send).await,
        };
        let Some(record) = record else {
            let message = format!(
                "this host knows no step {}; look at the inventory's steps",
                id.short()
            );
            return refuse(
                Refusal {
                    kind: RefusalKind::NotFound,
                    message,
                },
                send,
            )
            .await;
        };
        send.send(&Reply::Accepted).await?;
        let mut output = self.host.scripts.output(id);
        match watch {
            Some(watch) if follow => follow::follow(watch, Some(output), send).await?,
            _ => {
                send.send(&StepEvent::Started).await?;
                follow::send_output(&mut output, send).await?;
                if let Some(outcome) = record.outcome {
                    follow::send_rest(&mut output, send).await?;
                    send.send(&StepEvent::Finished(outcome)).await?;
                }
            }
        }
        send.finish().await
    }

    /// Answered when everything the step started has ended.
    async fn cancel(&self, id: StepId) -> Result<Reply, Refusal> {
        self.executor.cancel(id).await?.ended().await;
        Ok(Reply::Done)
    }

    fn kubeconfig(&self, cluster: &ClusterName) -> Result<Reply, Refusal> {
        match kubeadm::kubeconfig(&self.host, cluster) {
            Ok(kubeconfig) => Ok(Reply::Kubeconfig(kubeconfig)),
            Err(error) => Err(Refusal {
                kind: RefusalKind::NotFound,
                message: error.to_string(),
            }),
        }
    }

    fn signing_request(&self) -> Result<Reply, Refusal> {
        let request = self.identity.signing_request();
        request.map(Reply::SigningRequest).map_err(|error| Refusal {
            kind: RefusalKind::Internal,
            message: error.to_string(),
        })
    }

    fn take_certificate(&self, der: &[u8], connection: &Connection) -> Result<Reply, Refusal> {
        self.identity.take_certificate(der).map_err(|error| Refusal {
            kind: RefusalKind::Invalid,
            message: error.to_string(),
        })?;
        tracing::info!(peer = %connection.peer(), "took a new certificate");
        Ok(Reply::Done)
    }

    async fn cluster_health(&self, cluster: &ClusterName) -> Result<Reply, Refusal> {
        let health = kubeadm::health(&self.host, cluster).await;
        health.map(Reply::ClusterHealth).map_err(|error| Refusal {
            kind: RefusalKind::NotFound,
            message: error.to_string(),
        })
    }

    async fn join_pass(&self, cluster: &ClusterName, control_plane: bool) -> Result<Reply, Refusal> {
        let pass = kubeadm::issue(&self.host, cluster, control_plane).await;
        let pass = pass.map_err(|error| Refusal {
            kind: RefusalKind::NotFound,
            message: error.to_string(),
        })?;
        tracing::info!(%cluster, control_plane, "made a pass for a host that joins");
        Ok(Reply::JoinPass(pass))
    }

    async fn verify_image(&self, image: ImageEvidence) -> Result<Reply, Refusal> {
        self.executor.verify_image(image).await.map(|()| Reply::Done)
    }

    fn trust(&self, authorities: &[u8], connection: &Connection) -> Result<Reply, Refusal> {
        let names = self.identity.trust(authorities).map_err(|error| Refusal {
            kind: RefusalKind::Invalid,
            message: error.to_string(),
        })?;
        tracing::info!(peer = %connection.peer(), "trusts {names} from now on");
        self.drop_image_keys()
    }

    async fn revocations(&self, crl: &[u8], connection: &Connection) -> Result<Reply, Refusal> {
        self.identity.revoke(crl).map_err(|error| Refusal {
            kind: RefusalKind::Invalid,
            message: error.to_string(),
        })?;
        tracing::info!(peer = %connection.peer(), "took a new revocation list");
        self.drop_image_keys()
    }

    fn image_key(&self, key: &str, connection: &Connection) -> Result<Reply, Refusal> {
        let peer = connection.peer();
        let is_new = self.host.image_keys.add(key, peer).map_err(|error| Refusal {
            kind: match error {
                ImageKeysError::NoKey(_) => RefusalKind::Invalid,
                // Of images nothing is said by it.
                _ => RefusalKind::Internal,
            },
            message: error.to_string(),
        })?;
        if is_new {
            tracing::info!(%peer, "brought a key for images");
        }
        Ok(Reply::Done)
    }

    /// Drops the image keys of those who are not trusted any more. Whom the host trusts has been changed already; asked for again, it
    /// is tried again, and so it is when the agent starts.
    fn drop_image_keys(&self) -> Result<Reply, Refusal> {
        match self.identity.keep_image_keys(&self.host.image_keys) {
            Ok(0) => {}
            Ok(count) => tracing::info!("dropped {count} keys for images of who is not trusted any more"),
            Err(error) => {
                tracing::error!("{error}");
                return Err(Refusal {
                    kind: RefusalKind::Internal,
                    message: format!(
                        "whom it trusts was changed, by whose keys it accepts images was not: {error}"
                    ),
                });
            }
        }
        Ok(Reply::Done)
    }
}

/// Says why nothing was done.
pub(super) async fn refuse(refusal: Refusal, send: &mut SendStream) -> Result<(), StreamError> {
    reply(Err(refusal), send).await
}

pub(super) async fn reply(answer: Result<Reply, Refusal>, send: &mut SendStream) -> Result<(), StreamError> {
    send.send(&answer.unwrap_or_else(Reply::Refused)).await?;
    send.finish().await
}
