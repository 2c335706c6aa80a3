//! The answer to `Inventory`: everything about this host, read anew.

use gantry_model::{Digest, Inventory};
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
    let (layers, touched): (Vec<Digest>, Vec<Digest>) = host
        .store
        .layers()?
        .into_iter()
        .partition(|layer| host.store.is_layer_unchanged(layer));
    Ok(Inventory {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        clock_ms: clock::now_ms(),
        facts: facts::gather(host.store.root(), host.allow_exec)?,
        partial_layers: partial_layers(host, &touched)?,
        layers,
        generations,
        current,
        steps: Vec::new(),
        certificates: certificates::certificates(&host.own_certificate),
        etcd_snapshots: host.etcd_snapshots.kept()?,
        cluster_cas: kubeadm::cluster_cas(),
    })
}

/// Layers that a stage has to look at, with the bytes of content that are here: half here, or touched since they were verified.
fn partial_layers(host: &Host, touched: &[Digest]) -> anyhow::Result<Vec<(Digest, u64)>> {
    let mut partial = host.store.partial_layers()?;
    partial.retain(|(layer, _)| !touched.contains(layer));
    // Their room on the disk is taken.
    let content = |layer: &Digest| host.store.layer_toc(layer).map_or(0, |toc| toc.content_len());
    partial.extend(touched.iter().map(|layer| (*layer, content(layer))));
    Ok(partial)
}
