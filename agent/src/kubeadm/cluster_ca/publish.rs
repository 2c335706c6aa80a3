//! Lets those who know the cluster by what is in it know its CAs: hosts that join (`cluster-info`), and the cluster's own pods.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_model::{ClusterCa, ClusterName};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::authority::{are_same, bundle, given, to_bundle};
use super::pki::embed_in;
use super::{ClusterCaError, Pki};
use crate::host::Host;
use crate::kubeadm::node_api::{NodeApi, NodeError};

/// What hosts that join read first (kubeadm, "Sharing information: cluster-info").
const CLUSTER_INFO: &str =
    "/api/v1/namespaces/kube-public/configmaps?fieldSelector=metadata.name%3Dcluster-info";
/// Where the cluster's own pods are.
const PODS: &str = "/api/v1/namespaces/kube-system/pods";
/// The CAs in tokens of pods, before v1.24: a line for each. The tokens themselves are not asked for.
const IN_TOKENS: &str = "jsonpath={range .items[*]}{.data.ca\\.crt}{\"\\n\"}{end}";
/// And since.
const ROOT_CA: &str =
    "/api/v1/namespaces/kube-system/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt";
/// Controllers whose pods come again when they are deleted.
const OWNERS: [&str; 3] = ["DaemonSet", "ReplicaSet", "StatefulSet"];
/// How long the controller manager may take to hand CAs to service accounts.
const TOKENS_LIMIT: Duration = Duration::from_secs(300);
/// How long a pod may take to come again.
const POD_LIMIT: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Publishes `authorities`, which every control plane trusts by now. With more than one, the pods of kube-system are started
/// anew, one after the other: what they read when they started is one only.
///
/// # Errors
/// When this host is no control plane, an API server refuses, or a pod does not come again.
pub(crate) async fn publish(
    host: &Host,
    cluster: &ClusterName,
    authorities: &[String],
) -> Result<(), ClusterCaError> {
    let api = NodeApi::of(host, cluster)?;
    let cas = Pki::here().in_order(given(authorities)?, true)?;
    publish_info(&api, &cas).await?;
    if cas.len() == 1 {
        return Ok(());
    }
    wait_for_tokens(&api, &cas).await?;
    let pods = pods(&api).await?;
    let nodes = api.nodes().await?;
    let ready_nodes: Vec<&str> = nodes
        .iter()
        .filter(|node| is_ready(node))
        .filter_map(name)
        .collect();
    for pod in &pods {
        let (Some(name), Some(owner)) = (name(pod), owner(pod)) else {
            continue;
        };
        let node = pod["spec"]["nodeName"].as_str();
        // Those of a node that is away start anew when it is back.
        let is_awaited = node.is_some_and(|node| ready_nodes.contains(&node));
        start_anew(&api, pod, name, owner, is_awaited).await?;
    }
    tracing::info!(%cluster, "the cluster's own pods know its CAs");
    Ok(())
}

async fn publish_info(api: &NodeApi, cas: &[ClusterCa]) -> Result<(), ClusterCaError> {
    let found = api.get(CLUSTER_INFO, "read cluster-info".into()).await?;
    // Whoever removed it lets nobody join by a token.
    let Some(text) = found["items"][0]["data"]["kubeconfig"].as_str() else {
        return Ok(());
    };
    let changed = embed_in(text, &to_bundle(cas)).ok_or_else(|| ClusterCaError::Unknown {
        path: "cluster-info".into(),
        what: "it has no certificate-authority-data in it, as kubeadm's has",
    })?;
    if changed == text {
        return Ok(());
    }
    let patch = json!({ "data": { "kubeconfig": changed } }).to_string();
    let words = [
        "patch",
        "configmap",
        "cluster-info",
        "--namespace=kube-public",
        "--type=merge",
        "-p",
        &patch,
    ];
    api.call(&words, "change cluster-info".into()).await?;
    Ok(())
}

/// Waits until the controller manager has handed the CAs to every service account of kube-system.
async fn wait_for_tokens(api: &NodeApi, cas: &[ClusterCa]) -> Result<(), ClusterCaError> {
    let deadline = Instant::now() + TOKENS_LIMIT;
    loop {
        let what = match lacking(api, cas).await {
            Ok(0) => return Ok(()),
            Ok(count) => format!("{count} service accounts of kube-system do not know the new CA"),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            let limit_s = TOKENS_LIMIT.as_secs();
            return Err(ClusterCaError::TooLate { limit_s, what });
        }
        tracing::debug!("{what}; looked at again");
        sleep(LOOK_EVERY).await;
    }
}

/// How many of them have other CAs.
async fn lacking(api: &NodeApi, cas: &[ClusterCa]) -> Result<usize, NodeError> {
    let words = [
        "get",
        "secrets",
        "--namespace=kube-system",
        "--field-selector=type=kubernetes.io/service-account-token",
        "-o",
        IN_TOKENS,
    ];
    let lines = api.call(&words, "list tokens".into()).await?;
    let lines = String::from_utf8_lossy(&lines).into_owned();
    let in_tokens = lines.lines().map(|line| {
        let text = BASE64_STANDARD.decode(line.trim()).ok()?;
        String::from_utf8(text).ok()
    });
    let root = api.get(ROOT_CA, "read kube-root-ca.crt".into()).await?;
    let root = root["items"][0]["data"]["ca.crt"].as_str().map(str::to_owned);
    let known = in_tokens.chain(root.map(Some));
    Ok(known.filter(|text| !knows(text.as_deref(), cas)).count())
}

fn knows(text: Option<&str>, cas: &[ClusterCa]) -> bool {
    text.and_then(|text| bundle(text).ok())
        .is_some_and(|found| are_same(&found, cas))
}

async fn pods(api: &NodeApi) -> Result<Vec<Value>, NodeError> {
    let mut list = api.get(PODS, "list pods of kube-system".into()).await?;
    match list["items"].take() {
        Value::Array(pods) => Ok(pods),
        _ => Err(NodeError::Answer("it has no items".into())),
    }
}

/// Deletes a pod, and waits, if it `is_awaited`, until its controller has as many that are ready as before.
async fn start_anew(
    api: &NodeApi,
    pod: &Value,
    name: &str,
    owner: &str,
    is_awaited: bool,
) -> Result<(), ClusterCaError> {
    let before = ready_of(&pods(api).await?, owner);
    let words = [
        "delete",
        "pod",
        name,
        "--namespace=kube-system",
        "--ignore-not-found",
        "--wait=false",
    ];
    api.call(&words, format!("delete pod {name}")).await?;
    if !is_awaited {
        return Ok(());
    }
    let uid = pod["metadata"]["uid"].as_str();
    let deadline = Instant::now() + POD_LIMIT;
    loop {
        if let Ok(found) = pods(api).await {
            let is_gone = found.iter().all(|pod| pod["metadata"]["uid"].as_str() != uid);
            if is_gone && ready_of(&found, owner) >= before {
                return Ok(());
            }
        }
        if Instant::now() >= deadline {
            return Err(ClusterCaError::TooLate {
                limit_s: POD_LIMIT.as_secs(),
                what: format!(
                    "pod {name} of kube-system did not come again; `kubectl --namespace kube-system get pods` says more"
                ),
            });
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The controller that makes a pod anew; static pods have none, and have started anew already.
fn owner(pod: &Value) -> Option<&str> {
    let owners = pod["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    let kind = owner["kind"].as_str()?;
    OWNERS.contains(&kind).then(|| owner["uid"].as_str())?
}

fn ready_of(pods: &[Value], owner_uid: &str) -> usize {
    let of_owner = pods.iter().filter(|pod| owner(pod) == Some(owner_uid));
    of_owner.filter(|pod| is_ready(pod)).count()
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|conditions| {
        let mut conditions = conditions.iter();
        conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    })
}

fn name(object: &Value) -> Option<&str> {
    object["metadata"]["name"].as_str()
}

#[cfg(test)]
mod tests {
    use super::super::authority::tests::ca;
    use super::*;

    #[test]
    fn pods_that_come_again_are_started_anew_and_static_ones_are_not() {
        let pod = |kind: &str, controller: bool| {
            json!({ "metadata": { "ownerReferences": [{ "kind": kind, "uid": "u", "controller": controller }] },
                "status": { "conditions": [{ "type": "Ready", "status": "True" }] } })
        };
        assert_eq!(owner(&pod("DaemonSet", true)), Some("u"));
        for other in [pod("Node", true), pod("DaemonSet", false), json!({})] {
            assert_eq!(owner(&other), None);
        }
        assert_eq!(ready_of(&[pod("DaemonSet", true), pod("Node", true)], "u"), 1);
    }

    #[test]
    fn a_service_account_knows_the_cas_in_any_order_but_all_of_them() {
        let cas = given(&[ca(), ca()]).unwrap();
        let turned: String = cas.iter().rev().map(|ca| ca.pem.as_str()).collect();
        assert!(knows(Some(&turned), &cas));
        assert!(!knows(Some(&cas[0].pem), &cas) && !knows(None, &cas));
    }
}
