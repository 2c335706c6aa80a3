//! Waits for the API server where it can be a moment away: a control plane's comes a minute after the host has booted, long
//! after its agent.

use std::path::Path;
use std::time::Duration;

use gantry_model::ClusterName;
use tokio::time::{Instant, sleep};

use super::ADMIN;
use super::node_api::NodeApi;
use crate::host::Host;

/// How long it is waited for. Of a host that boots, kubelet and etcd come first.
const LIMIT: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Ends once the API server of `cluster` says that it is ready; at once on a host that is no control plane. It ends, too, when
/// there is no API server for three minutes: who asks it then is told why not.
pub(crate) async fn wait_for_api_server(host: &Host, cluster: &ClusterName) {
    if !Path::new(ADMIN).is_file() {
        return;
    }
    let Ok(api) = NodeApi::of(host, cluster).await else {
        return;
    };
    let deadline = Instant::now() + LIMIT;
    let mut said = false;
    while let Err(error) = api.is_ready().await {
        if Instant::now() >= deadline {
            return;
        }
        if !said {
            tracing::info!(%cluster, "waits for the API server: {error}");
            said = true;
        }
        sleep(LOOK_EVERY).await;
    }
}
