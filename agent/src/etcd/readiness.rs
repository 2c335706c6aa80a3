//! Waits for etcd where it can be a moment away: it serves once enough of the other members are there, too.

use gantry_model::ClusterName;
use serde_json::{Value as Json, json};

use super::client::{EtcdClient, EtcdError};
use super::members::LOCAL;
use crate::readiness::wait_for;

/// Ends once the etcd of `cluster` serves on this host; at once on a host that has none. It ends, too, when it does not serve for
/// three minutes: who asks it then is told why not.
pub(crate) async fn wait_for_etcd(cluster: &ClusterName) {
    if let Ok(client) = EtcdClient::of_this_host() {
        wait_for("etcd", cluster, || read_by_quorum(&client)).await;
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
