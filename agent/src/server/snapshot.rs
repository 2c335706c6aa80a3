//! Hands out a snapshot of etcd, as it comes from the member of this host: nothing of it stays here. And takes one that is to
//! be restored.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use gantry_model::{ClusterName, Digest, SnapshotName};
use gantry_protocol::limits::{MAX_SNAPSHOT_LEN, MAX_SNAPSHOT_PART_LEN};
use gantry_protocol::{Refusal, RefusalKind, Reply, SnapshotPart};
use gantry_transport::{RecvStream, SendStream, StreamError};
use tokio::time::timeout;

use super::Server;
use super::dispatch::{refuse, reply};
use crate::etcd::{ArrivingSnapshot, EtcdError, KeepError, Snapshot, wait_for_etcd};
use crate::executor::chain;

/// How long the next part of a snapshot may take.
const PART_LIMIT: Duration = Duration::from_secs(60);

impl Server {
    /// Sends a snapshot of the etcd of `cluster`.
    pub(super) async fn etcd_snapshot(
        &self,
        cluster: &ClusterName,
        send: &mut SendStream,
    ) -> Result<(), StreamError> {
        let mut snapshot = match self.begin_snapshot(cluster).await {
            Ok(snapshot) => snapshot,
            Err(refusal) => return refuse(refusal, send).await,
        };
        tracing::info!(%cluster, "hands out a snapshot of etcd");
        send.send(&Reply::EtcdSnapshot).await?;
        let end = loop {
            match snapshot.next().await {
                Ok(Some(bytes)) => send_part(bytes, send).await?,
                Ok(None) => break snapshot.finish().map(drop),
                Err(error) => break Err(error),
            }
        };
        let last = end.map_or_else(
            |error| SnapshotPart::Failed(chain(&error)),
            |()| SnapshotPart::End,
        );
        send.send(&last).await?;
        send.finish().await
    }

    /// Takes the snapshot with this digest, to be restored in `cluster`.
    pub(super) async fn take_snapshot(
        &self,
        cluster: &ClusterName,
        database: Digest,
        send: &mut SendStream,
        recv: &mut RecvStream,
    ) -> Result<(), StreamError> {
        let name = SnapshotName::Given(database);
        if let Err(refusal) = self.is_of(cluster) {
            return refuse(refusal, send).await;
        }
        if self.host.etcd_snapshots.has(cluster, &name) {
            return reply(Ok(Reply::Done), send).await;
        }
        let arriving = match self.host.etcd_snapshots.arriving(cluster, &name) {
            Ok(arriving) => arriving,
            Err(error) => return refuse(not_kept(&error), send).await,
        };
        send.send(&Reply::Accepted).await?;
        let taken = match receive(arriving, recv).await? {
            Ok(arriving) => arriving.keep_as(database).map_err(|error| not_kept(&error)),
            Err(refusal) => Err(refusal),
        };
        let taken = match taken {
            Ok(()) => {
                wait_for_etcd(cluster).await;
                let origin = self.host.etcd_snapshots.refuse_foreign(cluster, &name).await;
                origin.map_err(|error| Refusal {
                    kind: RefusalKind::Invalid,
                    message: chain(&error),
                })
            }
            refused => refused,
        };
        reply(taken.map(|()| Reply::Done), send).await
    }

    /// The etcd of another cluster would be another cluster's.
    fn is_of(&self, cluster: &ClusterName) -> Result<(), Refusal> {
        if self.host.rootfs.path(cluster).is_ok() {
            return Ok(());
        }
        let message = format!("this host is no host of cluster {cluster}");
        let kind = RefusalKind::NotFound;
        Err(Refusal { kind, message })
    }

    async fn begin_snapshot(&self, cluster: &ClusterName) -> Result<Snapshot, Refusal> {
        self.is_of(cluster)?;
        let refusal = |kind, message| Refusal { kind, message };
        Snapshot::begin().await.map_err(|error| match error {
            EtcdError::NoEtcd(_) => refusal(RefusalKind::NotFound, chain(&error)),
            error => refusal(RefusalKind::Internal, chain(&error)),
        })
    }
}

/// Takes the parts of a snapshot; the outer error is the stream's.
async fn receive(
    mut arriving: ArrivingSnapshot,
    recv: &mut RecvStream,
) -> Result<Result<ArrivingSnapshot, Refusal>, StreamError> {
    let invalid = |message: String| {
        let kind = RefusalKind::Invalid;
        Ok(Err(Refusal { kind, message }))
    };
    loop {
        let Ok(part) = timeout(PART_LIMIT, recv.recv::<SnapshotPart>()).await else {
            return invalid(format!(
                "no part of the snapshot came for {} s",
                PART_LIMIT.as_secs()
            ));
        };
        let len = match part? {
            SnapshotPart::Bytes(len) => len,
            SnapshotPart::End => return Ok(Ok(arriving)),
            SnapshotPart::Failed(reason) => return invalid(reason),
        };
        if len > MAX_SNAPSHOT_PART_LEN || arriving.len() + u64::from(len) > MAX_SNAPSHOT_LEN {
            return invalid(format!(
                "a snapshot has more than {MAX_SNAPSHOT_LEN} bytes, or a part too many"
            ));
        }
        let bytes = recv.read_exact(len as usize).await?;
        if let Err(error) = arriving.write(&bytes) {
            return Ok(Err(not_kept(&error)));
        }
    }
}

fn not_kept(error: &KeepError) -> Refusal {
    let kind = match error {
        KeepError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => RefusalKind::NoSpace,
        KeepError::Etcd(_) | KeepError::Other { .. } => RefusalKind::Invalid,
        KeepError::Io { .. } => RefusalKind::Internal,
    };
    let message = chain(error);
    Refusal { kind, message }
}

async fn send_part(mut bytes: Bytes, send: &mut SendStream) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let len =
            u32::try_from(bytes.len()).map_or(MAX_SNAPSHOT_PART_LEN, |len| len.min(MAX_SNAPSHOT_PART_LEN));
        send.send(&SnapshotPart::Bytes(len)).await?;
        send.write_bytes(bytes.split_to(len as usize)).await?;
    }
    Ok(())
}
