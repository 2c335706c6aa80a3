//! Lets those who know the cluster by what is in it know its CAs: hosts that join (`cluster-info`), and the cluster's own pods.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_model::{ClusterCa, ClusterName};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::authority::{are_same, bundle, given, to_bundle};
use super::pki::embed_in;
use super::{ClusterCaError, Pki, own_pods};
use crate::host::Host;
use crate::kubeadm::node_api::{NodeApi, NodeError};

/// What hosts that join read first (kubeadm, "Sharing information: cluster-info").
const CLUSTER_INFO: &str =
    "/api/v1/namespaces/kube-public/configmaps?fieldSelector=metadata.name%3Dcluster-info";
/// The CAs in tokens of pods, before v1.24: a line for each. The tokens themselves are not asked for.
const IN_TOKENS: &str = "jsonpath={range .items[*]}{.data.ca\\.crt}{\"\\n\"}{end}";
/// And since.
const ROOT_CA: &str =
    "/api/v1/namespaces/kube-system/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt";
/// How long the controller manager may take to hand CAs to service accounts.
const TOKENS_LIMIT: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Publishes `authorities`, which every control plane trusts by now. With more than one, the pods of kube-system are started
/// anew: what they read when they started is one only.
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
    let nodes = api.nodes().await?;
    let ready_nodes: Vec<&str> = nodes
        .iter()
        .filter(|node| is_ready(node))
        .filter_map(name)
        .collect();
    own_pods::start_anew(&api, &ready_nodes).await?;
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
    fn a_service_account_knows_the_cas_in_any_order_but_all_of_them() {
        let cas = given(&[ca(), ca()]).unwrap();
        let turned: String = cas.iter().rev().map(|ca| ca.pem.as_str()).collect();
        assert!(knows(Some(&turned), &cas));
        assert!(!knows(Some(&cas[0].pem), &cas) && !knows(None, &cas));
    }
}
