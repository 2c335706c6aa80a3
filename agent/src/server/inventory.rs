//! The answer to `Inventory`: everything about this host, read anew.

use gantry_model::Inventory;
use gantry_protocol::{Refusal, RefusalKind};
use gantry_system::clock;

use super::Server;
use crate::host::Host;
use crate::{certificates, facts, kubeadm};

pub(super) async fn gather(server: &Server) -> Result<Box<Inventory>, Refusal> {
    let steps = server.executor.records().await?;
    let host = server.host.clone();
    let looked = tokio::task::spawn_blocking(move || look(&host)).await;
    let failed = |reason: String| Refusal {
        kind: RefusalKind::Internal,
        message: reason,
    };
    let inventory = looked
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(format!("the inventory cannot be gathered: {error:#}")))?;
    Ok(Box::new(Inventory { steps, ..inventory }))
}

fn look(host: &Host) -> anyhow::Result<Inventory> {
    let (mut generations, mut current) = (Vec::new(), Vec::new());
    for cluster in host.rootfs.clusters() {
        generations.extend(host.rootfs.generations(&cluster)?);
        current.extend(host.rootfs.current(&cluster)?.map(|id| (cluster, id)));
    }
    Ok(Inventory {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        clock_ms: clock::now_ms(),
        facts: facts::gather(host.store.root(), host.allow_exec)?,
        layers: host.store.layers()?,
        partial_layers: host.store.partial_layers()?,
        generations,
        current,
        steps: Vec::new(),
        certificates: certificates::certificates(&host.own_certificate),
        etcd_snapshots: host.etcd_snapshots.kept()?,
        cluster_cas: kubeadm::cluster_cas(),
    })
}
