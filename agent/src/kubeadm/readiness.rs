//! Waits for the API server where it can be a moment away.

use std::path::Path;

use gantry_model::ClusterName;

use super::ADMIN;
use super::node_api::NodeApi;
use crate::host::Host;
use crate::readiness::wait_for;

/// Ends once the API server of `cluster` says that it is ready; at once on a host that is no control plane. It ends, too, when
/// there is no API server for three minutes: who asks it then is told why not.
pub(crate) async fn wait_for_api_server(host: &Host, cluster: &ClusterName) {
    if !Path::new(ADMIN).is_file() {
        return;
    }
    if let Ok(api) = NodeApi::of(host, cluster).await {
        wait_for("the API server", cluster, || api.is_ready()).await;
    }
}
