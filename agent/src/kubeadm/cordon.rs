//! Keeps pods away from a node while it is upgraded, and lets them come again. Who did it stands on the node, so that a node
//! which people keep pods away from is left to them.

use std::time::Duration;

use gantry_model::ClusterName;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::node_api::{NodeApi, NodeError};
use super::pods::is_up;
use crate::host::Host;

/// The annotation of a node that pods are kept away from by Gantry.
const ANNOTATION: &str = "gantry.io/cordoned";
/// Between two looks at a node.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a change is tried: API servers are away for moments while control planes are upgraded.
const TRY_LIMIT: Duration = Duration::from_secs(120);

/// Keeps new pods away from `node`, unless somebody does already.
///
/// # Errors
/// When this host is no control plane of the cluster, or the API server does not answer.
pub(crate) async fn cordon(host: &Host, cluster: &ClusterName, node: &str) -> Result<(), NodeError> {
    let api = NodeApi::of(host, cluster).await?;
    let deadline = Instant::now() + TRY_LIMIT;
    loop {
        let tried = async {
            let found = api.node(node).await?;
            match to_cordon(&found) {
                Some(patch) => api.patch(node, &patch).await,
                None => Ok(()),
            }
        };
        match tried.await {
            Err(error) if Instant::now() < deadline => tracing::info!(%cluster, "{error}; tried again"),
            ended => return ended,
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until `node` is ready with a kubelet of `version`, and lets pods come to it again if [`cordon`] kept them away.
///
/// # Errors
/// When it is not ready within `limit`, or this host is no control plane of the cluster.
pub(crate) async fn uncordon(
    host: &Host,
    cluster: &ClusterName,
    node: &str,
    version: &str,
    limit: Duration,
) -> Result<(), NodeError> {
    let api = NodeApi::of(host, cluster).await?;
    let deadline = Instant::now() + limit;
    loop {
        let tried = async {
            let found = api.node(node).await?;
            let lacks = lacks(&found, &api.control_plane_pods(node).await?, version);
            if let Some(reason) = lacks {
                return Err(NodeError::NotReady {
                    node: node.to_owned(),
                    version: version.to_owned(),
                    reason,
                });
            }
            match to_uncordon(&found) {
                Some(patch) => api.patch(node, &patch).await,
                None => Ok(()),
            }
        };
        match tried.await {
            Err(error) if Instant::now() < deadline => tracing::debug!(%cluster, "{error}; looked at again"),
            ended => return ended,
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The patch that keeps pods away from `node`; none where somebody does.
fn to_cordon(node: &Value) -> Option<Value> {
    let cordoned = node["spec"]["unschedulable"] == true;
    (!cordoned).then(|| {
        json!({
            "metadata": {
                "resourceVersion": node["metadata"]["resourceVersion"],
                "annotations": { ANNOTATION: "upgrade" },
            },
            "spec": { "unschedulable": true },
        })
    })
}

/// The patch that lets pods come to `node` again; none where it was not Gantry that kept them away.
fn to_uncordon(node: &Value) -> Option<Value> {
    let ours = !node["metadata"]["annotations"][ANNOTATION].is_null();
    ours.then(|| {
        json!({
            "metadata": {
                "resourceVersion": node["metadata"]["resourceVersion"],
                "annotations": { ANNOTATION: null },
            },
            "spec": { "unschedulable": null },
        })
    })
}

/// What `node` lacks to be ready in `version`, with these pods of a control plane on it; none when it lacks nothing.
fn lacks(node: &Value, pods: &[Value], version: &str) -> Option<String> {
    let found = node["status"]["nodeInfo"]["kubeletVersion"]
        .as_str()
        .unwrap_or_default();
    if found != version {
        return Some(format!("its kubelet has version {found}"));
    }
    if condition(node, "Ready")["status"] != "True" {
        let said = condition(node, "Ready")["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        return Some(if said.is_empty() {
            "its kubelet says nothing".into()
        } else {
            said
        });
    }
    let waiting = pods.iter().find(|pod| !is_up(pod))?;
    let name = waiting["metadata"]["name"].as_str().unwrap_or("a pod");
    Some(format!("{name} is not ready"))
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .and_then(|conditions| conditions.iter().find(|condition| condition["type"] == kind))
        .unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(unschedulable: bool, ours: bool) -> Value {
        let annotations = if ours {
            json!({ ANNOTATION: "upgrade" })
        } else {
            json!({})
        };
        json!({
            "metadata": { "name": "host2", "resourceVersion": "7", "annotations": annotations },
            "spec": { "unschedulable": unschedulable },
            "status": {
                "nodeInfo": { "kubeletVersion": "v1.20.3" },
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        })
    }

    #[test]
    fn a_node_that_people_cordoned_is_left_to_them() {
        assert!(to_cordon(&node(false, false)).is_some());
        assert_eq!(to_cordon(&node(true, false)), None);
        assert_eq!(to_cordon(&node(true, true)), None);
        assert_eq!(to_uncordon(&node(true, false)), None);
        let patch = to_uncordon(&node(true, true)).unwrap();
        assert_eq!(patch["spec"]["unschedulable"], Value::Null);
        assert_eq!(patch["metadata"]["annotations"][ANNOTATION], Value::Null);
    }

    #[test]
    fn a_node_is_ready_with_its_version_and_its_control_plane() {
        let pod = |state: &str, started: bool, ready: bool, probe: Value| {
            json!({
                "metadata": { "name": "etcd-host2" },
                "spec": { "containers": [{ "name": "etcd", "readinessProbe": probe }] },
                "status": { "containerStatuses": [
                    { "name": "etcd", "state": { state: {} }, "started": started, "ready": ready },
                ] },
            })
        };
        let probe = || json!({ "httpGet": {} });
        let up = [
            pod("running", true, true, probe()),
            // As kubelets say it for a while after they started anew.
            pod("running", true, false, Value::Null),
        ];
        assert_eq!(lacks(&node(true, true), &up, "v1.20.3"), None);
        let down = [
            pod("waiting", false, false, Value::Null),
            pod("running", false, false, Value::Null),
            pod("running", true, false, probe()),
            json!({ "metadata": { "name": "etcd-host2" }, "spec": { "containers": [{ "name": "etcd" }] } }),
        ];
        for pod in down {
            let lacks = lacks(&node(true, true), &[up[0].clone(), pod], "v1.20.3");
            assert_eq!(lacks.as_deref(), Some("etcd-host2 is not ready"));
        }
        let other = lacks(&node(true, true), &[], "v1.20.4").unwrap();
        assert_eq!(other, "its kubelet has version v1.20.3");
        let mut silent = node(true, true);
        silent["status"]["conditions"][0]["status"] = "Unknown".into();
        assert_eq!(
            lacks(&silent, &[], "v1.20.3").as_deref(),
            Some("its kubelet says nothing")
        );
    }
}
