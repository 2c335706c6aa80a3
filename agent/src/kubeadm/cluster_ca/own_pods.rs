//! The cluster's own pods (those of kube-system), started anew so that they read its CAs again.

use std::time::Duration;

use gantry_system::processes::MAX_OUTPUT;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::ClusterCaError;
use crate::kubeadm::node_api::{NodeApi, NodeError};

/// A line for each pod, and no more of it than is needed: whole pods of a large cluster are longer than what is kept of an answer.
const LINES: &str = "jsonpath={range .items[*]}{.metadata.name}{\"\\t\"}{.metadata.uid}{\"\\t\"}\
                     {.metadata.ownerReferences[?(@.controller==true)].kind}{\"\\t\"}\
                     {.metadata.ownerReferences[?(@.controller==true)].uid}{\"\\t\"}{.spec.nodeName}{\"\\t\"}\
                     {.status.conditions[?(@.type==\"Ready\")].status}{\"\\t\"}\
                     {.metadata.creationTimestamp}{\"\\n\"}{end}";
/// Controllers whose pods come again when they are deleted.
const OWNERS: [&str; 3] = ["DaemonSet", "ReplicaSet", "StatefulSet"];
/// Of so many pods of one controller, one at a time is started anew.
const PODS_PER_ONE: usize = 10;
/// How long pods may take to come again.
const POD_LIMIT: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// By how much the clocks of API servers may differ, in seconds: who came so shortly after counts as before.
const CLOCKS_DIFFER_S: i64 = 5;

/// A pod that a controller makes anew. Static pods have none, and have started anew already.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pod {
    name: String,
    uid: String,
    owner: String,
    node: String,
    is_ready: bool,
    /// Seconds since the epoch, by the clock of an API server.
    created: Option<i64>,
}

/// Starts the pods of kube-system anew that were there before `since`, in seconds since the epoch, or all where that is not known: of
/// each controller one of ten at a time, and the next when it has as many that are ready as before. Pods of nodes that are not in
/// `ready_nodes` are not waited for: they start anew when their node is back.
///
/// # Errors
/// When an API server refuses, or a pod does not come again.
pub(super) async fn start_anew(
    api: &NodeApi,
    ready_nodes: &[&str],
    since: Option<i64>,
) -> Result<(), ClusterCaError> {
    let mut pods = pods(api).await?;
    pods.retain(|pod| was_there_before(pod, since));
    pods.sort_by(|one, other| one.owner.cmp(&other.owner));
    for of_owner in pods.chunk_by(|one, other| one.owner == other.owner) {
        for some in of_owner.chunks(of_owner.len() / PODS_PER_ONE + 1) {
            start_some_anew(api, some, ready_nodes).await?;
        }
    }
    Ok(())
}

async fn start_some_anew(api: &NodeApi, some: &[Pod], ready_nodes: &[&str]) -> Result<(), ClusterCaError> {
    let Some(Pod { owner, .. }) = some.first() else {
        return Ok(());
    };
    let names: Vec<&str> = some.iter().map(|pod| pod.name.as_str()).collect();
    let before = ready_of(&pods(api).await?, owner);
    let mut words = vec![
        "delete",
        "pod",
        "--namespace=kube-system",
        "--ignore-not-found",
        "--wait=false",
    ];
    words.extend(&names);
    api.call(&words, format!("delete pod {}", names.join(", ")))
        .await?;
    let is_awaited = |pod: &&Pod| ready_nodes.contains(&pod.node.as_str());
    let awaited: Vec<&Pod> = some.iter().filter(is_awaited).collect();
    if awaited.is_empty() {
        return Ok(());
    }
    // Those that are not awaited may be ready and not come again.
    let wanted = before.saturating_sub(some.iter().filter(|pod| pod.is_ready && !is_awaited(pod)).count());
    let deadline = Instant::now() + POD_LIMIT;
    loop {
        let why = match pods(api).await {
            Ok(found) => {
                let is_there = |pod: &&&Pod| found.iter().any(|one| one.uid == pod.uid);
                if awaited.iter().filter(is_there).count() == 0 && ready_of(&found, owner) >= wanted {
                    return Ok(());
                }
                String::new()
            }
            Err(error) => format!(" ({error})"),
        };
        if Instant::now() >= deadline {
            return Err(ClusterCaError::TooLate {
                limit_s: POD_LIMIT.as_secs(),
                what: format!(
                    "{} of kube-system did not come again{why}; `kubectl --namespace kube-system get pods` says more",
                    names.join(", ")
                ),
            });
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn pods(api: &NodeApi) -> Result<Vec<Pod>, NodeError> {
    let words = ["get", "pods", "--namespace=kube-system", "-o", LINES];
    let lines = api.call(&words, "list pods of kube-system".into()).await?;
    if lines.len() >= MAX_OUTPUT {
        return Err(NodeError::Answer(format!(
            "the pods of kube-system are more than fit into {MAX_OUTPUT} bytes"
        )));
    }
    Ok(String::from_utf8_lossy(&lines).lines().filter_map(pod).collect())
}

/// The pod of a line; none where no controller makes it anew.
fn pod(line: &str) -> Option<Pod> {
    let mut fields = line.split('\t').map(str::to_owned);
    let (name, uid, kind, owner) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let (node, ready, created) = (fields.next()?, fields.next()?, fields.next()?);
    OWNERS.contains(&kind.as_str()).then(|| Pod {
        name,
        uid,
        owner,
        node,
        is_ready: ready == "True",
        created: seconds(&created),
    })
}

/// Whether it may have read what was there before `since`.
fn was_there_before(pod: &Pod, since: Option<i64>) -> bool {
    let after = |(created, since): (i64, i64)| created > since.saturating_add(CLOCKS_DIFFER_S);
    !pod.created.zip(since).is_some_and(after)
}

/// A time as the API writes it (RFC 3339), in seconds since the epoch.
pub(super) fn seconds(time: &str) -> Option<i64> {
    time.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

fn ready_of(pods: &[Pod], owner: &str) -> usize {
    pods.iter()
        .filter(|pod| pod.owner == owner && pod.is_ready)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_come_again_are_started_anew_and_static_ones_are_not() {
        let found = pod("kube-proxy-x\tu1\tDaemonSet\to1\thost1\tTrue\t1970-01-01T00:01:00Z").unwrap();
        assert_eq!(
            (found.name.as_str(), found.owner.as_str()),
            ("kube-proxy-x", "o1")
        );
        assert!(found.is_ready);
        let pending = pod("coredns-x\tu2\tReplicaSet\to2\t\tFalse\t").unwrap();
        assert!(!pending.is_ready && pending.node.is_empty());
        for other in [
            "etcd-host1\tu3\tNode\to3\thost1\tTrue\t",
            "alone\tu4\t\t\thost1\tTrue\t",
            "cut\tof",
        ] {
            assert_eq!(pod(other), None, "{other}");
        }
        assert_eq!(ready_of(&[found.clone(), pending, found], "o1"), 2);
    }

    #[test]
    fn a_pod_that_came_after_the_change_stays_as_it_is() {
        let created = |time: &str| pod(&format!("x\tu\tDaemonSet\to\thost1\tTrue\t{time}")).unwrap();
        let late = created("1970-01-01T00:02:00Z");
        assert_eq!(late.created, Some(120));
        assert!(!was_there_before(&late, Some(100)));
        assert!(was_there_before(&late, Some(200)) && was_there_before(&late, Some(118)));
        assert!(was_there_before(&late, None) && was_there_before(&created(""), Some(100)));
    }
}
