//! Hands out a snapshot of etcd, as it comes from the member of this host: nothing of it stays here.

use bytes::Bytes;
use gantry_model::ClusterName;
use gantry_protocol::limits::MAX_SNAPSHOT_PART_LEN;
use gantry_protocol::{Refusal, RefusalKind, Reply, SnapshotPart};
use gantry_transport::{SendStream, StreamError};

use super::Server;
use super::dispatch::refuse;
use crate::etcd::{EtcdError, Snapshot};
use crate::executor::chain;

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

    async fn begin_snapshot(&self, cluster: &ClusterName) -> Result<Snapshot, Refusal> {
        let refusal = |kind, message| Refusal { kind, message };
        // The etcd of another cluster would be another cluster's.
        if self.host.rootfs.path(cluster).is_err() {
            let message = format!("this host is no host of cluster {cluster}");
            return Err(refusal(RefusalKind::NotFound, message));
        }
        Snapshot::begin().await.map_err(|error| match error {
            EtcdError::NoEtcd(_) => refusal(RefusalKind::NotFound, chain(&error)),
            error => refusal(RefusalKind::Internal, chain(&error)),
        })
    }
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
