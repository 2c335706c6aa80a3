//! Waits for etcd where it can be a moment away: a control plane's comes a minute after the host has booted, long after its
//! agent, and it serves once enough of the others are there.

use std::time::Duration;

use gantry_model::ClusterName;
use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};

use super::client::{EtcdClient, EtcdError};
use super::members::LOCAL;

/// How long it is waited for.
const LIMIT: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Ends once the etcd of `cluster` serves on this host; at once on a host that has none. It ends, too, when it does not serve for
/// three minutes: who asks it then is told why not.
pub(crate) async fn wait_for_etcd(cluster: &ClusterName) {
    let Ok(client) = EtcdClient::of_this_host() else {
        return;
    };
    let deadline = Instant::now() + LIMIT;
    let mut said = false;
    while let Err(error) = read_by_quorum(&client).await {
        if Instant::now() >= deadline {
            return;
        }
        if !said {
            tracing::info!(%cluster, "waits for etcd: {error}");
            said = true;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A read that the quorum has to agree to: a member that lost the others fails, one that was behind is up to date afterwards.
///
/// # Errors
/// When etcd has no quorum, or does not answer.
pub(super) async fn read_by_quorum(client: &EtcdClient) -> Result<(), EtcdError> {
    // Which key does not matter: this one is a single zero byte.
    let read = json!({ "key": "AA==", "count_only": true });
    client.call::<Json>(LOCAL, "kv/range", &read).await.map(drop)
}
