//! The answer to `Drift`: what finished steps say, beside what is there.

use gantry_model::ClusterName;
use gantry_protocol::{Refusal, RefusalKind};

use super::Server;
use crate::host::Host;
use crate::journal::Expected;

pub(super) async fn look(server: &Server, cluster: ClusterName) -> Result<Vec<String>, Refusal> {
    let expected = server.executor.expected(cluster.clone()).await?;
    let host = server.host.clone();
    let failed = |reason| Refusal {
        kind: RefusalKind::Internal,
        message: reason,
    };
    let looked = tokio::task::spawn_blocking(move || compare(&host, &cluster, &expected)).await;
    looked
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))
}

/// Each line starts with the title of the step that does not hold any more.
fn compare(host: &Host, cluster: &ClusterName, expected: &Expected) -> anyhow::Result<Vec<String>> {
    let mut drift = Vec::new();
    if let Some(expected) = expected.generation {
        let found = host.rootfs.current(cluster)?;
        match found {
            Some(found) if found != expected => {
                drift.push(format!(
                    "rootfs: generation {found} is current, {expected} was made current last"
                ));
            }
            _ => drift.extend(
                host.rootfs
                    .drift(cluster)?
                    .into_iter()
                    .map(|what| format!("rootfs: {what}")),
            ),
        }
    }
    if drift.is_empty() {
        let changed = host.rootfs.drift_of_templates(cluster)?;
        drift.extend(changed.into_iter().map(|what| format!("templates: {what}")));
        let changed = host.rootfs.drift_of_configs(cluster)?;
        drift.extend(changed.into_iter().map(|what| format!("configs: {what}")));
    }
    if let Some(what) = host.hostnames.drift(cluster)? {
        drift.push(format!("hostname: {what}"));
    }
    if let Some(expected) = expected.block {
        match host.hosts_file.digest(cluster)? {
            Some(found) if found == expected => {}
            Some(_) => drift.push("hosts entries: the block was changed by hand".to_owned()),
            None => drift.push("hosts entries: the block is gone".to_owned()),
        }
    }
    if host.etcd_snapshots.has_stopped_api_server(cluster) {
        drift.push(
            "start API server: it is stopped for a restore of etcd, which `gantry restore` ends".to_owned(),
        );
    }
    if expected.balancer {
        let wrong = host.balancers.drift(cluster);
        drift.extend(wrong.map(|what| format!("balancer: {what}")));
    }
    if expected.registry {
        let wrong = host.registries.drift(cluster);
        drift.extend(wrong.map(|what| format!("registry: {what}")));
    }
    Ok(drift)
}
