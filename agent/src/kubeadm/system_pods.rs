//! Waits until the cluster's own pods, those of `kube-system`, are ready.

use std::time::Duration;

use gantry_model::ClusterName;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::node_api::{NodeApi, NodeError};
use super::pods::is_up;
use crate::host::Host;

/// Between two looks at the pods.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Pods that an error names.
const MAX_NAMED: usize = 10;

/// Waits until every pod of `kube-system` is ready, or has ended well.
///
/// # Errors
/// When one is not after `limit`, or there is none at all; when this host is no control plane of the cluster, or the API server
/// does not answer then.
pub(crate) async fn wait(host: &Host, cluster: &ClusterName, limit: Duration) -> Result<(), NodeError> {
    let api = NodeApi::of(host, cluster).await?;
    let deadline = Instant::now() + limit;
    loop {
        let tried = async {
            let mut seen = Seen::default();
            api.system_pods(|pod| seen.take(&pod)).await?;
            seen.ended(limit)
        };
        match tried.await {
            Err(error) if Instant::now() < deadline => tracing::debug!(%cluster, "{error}; looked at again"),
            ended => return ended,
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What one look at the pods has seen.
#[derive(Debug, Default)]
struct Seen {
    pods: usize,
    waiting: usize,
    /// The first of those that wait.
    named: Vec<String>,
}

impl Seen {
    fn take(&mut self, pod: &Value) {
        self.pods += 1;
        let Some(lacks) = lacks(pod) else { return };
        self.waiting += 1;
        if self.named.len() < MAX_NAMED {
            let name = pod["metadata"]["name"].as_str().unwrap_or("a pod without a name");
            self.named.push(format!("{name} ({lacks})"));
        }
    }

    fn ended(self, limit: Duration) -> Result<(), NodeError> {
        let not_ready = |pods| NodeError::PodsNotReady {
            limit_s: limit.as_secs(),
            pods,
        };
        match (self.pods, self.waiting) {
            // kubeadm's own are there before anything is asked for; they are seen a moment later.
            (0, _) => Err(not_ready("there are none".to_owned())),
            (_, 0) => Ok(()),
            (_, waiting) => {
                let more = waiting - self.named.len();
                let more = match more {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                Err(not_ready(format!("{}{more}", self.named.join(", "))))
            }
        }
    }
}

/// What `pod` lacks; none where it is ready, has ended well, or is about to go.
fn lacks(pod: &Value) -> Option<String> {
    let status = &pod["status"];
    let phase = status["phase"].as_str().unwrap_or("Unknown");
    if phase == "Succeeded" || !pod["metadata"]["deletionTimestamp"].is_null() {
        return None;
    }
    if phase == "Running" && is_up(pod) {
        return None;
    }
    let containers = ["initContainerStatuses", "containerStatuses"];
    let containers = containers
        .iter()
        .filter_map(|list| status[*list].as_array())
        .flatten();
    let mut reasons = containers.filter_map(|container| container["state"]["waiting"]["reason"].as_str());
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut unscheduled = conditions.filter_map(|condition| {
        let is_it = condition["type"] == "PodScheduled" && condition["status"] == "False";
        condition["reason"].as_str().filter(|_| is_it)
    });
    let reason = reasons
        .next()
        .or_else(|| unscheduled.next())
        .or(status["reason"].as_str());
    Some(match (reason, phase) {
        (Some(reason), _) => reason.to_owned(),
        (None, "Running") => "runs, not ready".to_owned(),
        (None, phase) => phase.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, status: Value) -> Value {
        json!({
            "metadata": { "name": name },
            "spec": { "containers": [{ "name": "c", "readinessProbe": {} }] },
            "status": status,
        })
    }

    fn running(name: &str, ready: bool) -> Value {
        let container = json!({ "name": "c", "state": { "running": {} }, "started": true, "ready": ready });
        pod(
            name,
            json!({ "phase": "Running", "containerStatuses": [container] }),
        )
    }

    fn seen(pods: &[Value]) -> Result<(), String> {
        let mut seen = Seen::default();
        pods.iter().for_each(|pod| seen.take(pod));
        seen.ended(Duration::from_secs(900))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn pods_that_run_ready_or_have_ended_well_are_not_waited_for() {
        let mut going = running("old", false);
        going["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z".into();
        let ended = pod("job", json!({ "phase": "Succeeded" }));
        assert_eq!(seen(&[running("etcd", true), ended, going]), Ok(()));
    }

    #[test]
    fn the_error_names_those_that_are_not_ready_and_what_they_lack() {
        let unschedulable = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" });
        let pulling = json!({ "name": "c", "state": { "waiting": { "reason": "ImagePullBackOff" } } });
        let said = seen(&[
            running("etcd", true),
            running("kube-proxy-1", false),
            pod(
                "coredns-1",
                json!({ "phase": "Pending", "conditions": [unschedulable] }),
            ),
            pod(
                "calico-1",
                json!({ "phase": "Pending", "containerStatuses": [pulling] }),
            ),
            pod("calico-2", json!({ "phase": "Failed", "reason": "Evicted" })),
            pod("new", json!({ "phase": "Pending" })),
        ]);
        let said = said.unwrap_err();
        assert!(
            said.starts_with(
                "pods of kube-system are not ready after 900 s: kube-proxy-1 (runs, not ready), coredns-1 (Unschedulable), \
                 calico-1 (ImagePullBackOff), calico-2 (Evicted), new (Pending); "
            ),
            "{said}"
        );
        let many: Vec<Value> = (0..12).map(|n| running(&format!("p{n}"), false)).collect();
        assert!(
            seen(&many)
                .unwrap_err()
                .contains("p9 (runs, not ready) and 2 more;")
        );
        assert!(seen(&[]).unwrap_err().contains("there are none"));
    }
}
