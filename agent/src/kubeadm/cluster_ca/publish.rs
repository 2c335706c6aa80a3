//! Lets those who know the cluster by what is in it know its CAs: hosts that join (`cluster-info`), and the cluster's own pods.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_model::{ClusterCa, ClusterName};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::authority::{are_same, bundle, given, to_bundle};
use super::own_pods::seconds;
use super::pki::{embed_in, embedded_in};
use super::{ClusterCaError, Pki, own_pods};
use crate::host::Host;
use crate::kubeadm::node_api::{NodeApi, NodeError};

/// What hosts that join read first (kubeadm, "Sharing information: cluster-info").
const CLUSTER_INFO: &str =
    "/api/v1/namespaces/kube-public/configmaps?fieldSelector=metadata.name%3Dcluster-info";
/// The CAs in tokens of pods, before v1.24: a line for each, with when it was made and when the controller manager changed it. The
/// tokens themselves are not asked for.
const IN_TOKENS: &str = "jsonpath={range .items[*]}{.data.ca\\.crt}{\"\\t\"}{.metadata.creationTimestamp}{\"\\t\"}\
                         {.metadata.managedFields[?(@.manager==\"kube-controller-manager\")].time}{\"\\n\"}{end}";
/// Who hands CAs to service accounts (kubernetes.io, "Field management").
const HANDED_BY: &str = "kube-controller-manager";
/// And since.
const ROOT_CA: &str =
    "/api/v1/namespaces/kube-system/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt";
/// How long the controller manager may take to hand CAs to service accounts.
const TOKENS_LIMIT: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a service account of kube-system knows the cluster by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Handed {
    cas: Option<String>,
    /// Seconds since the epoch.
    created: Option<i64>,
    /// When it became what it is, in seconds since the epoch.
    changed: Option<i64>,
}

/// Publishes `authorities`, which every control plane trusts by now. Where one of them is new to the cluster, those pods of
/// kube-system are started anew that were there before: what they read when they started may be without it.
///
/// # Errors
/// When this host is no control plane, an API server refuses, or a pod does not come again.
pub(crate) async fn publish(
    host: &Host,
    cluster: &ClusterName,
    authorities: &[String],
) -> Result<(), ClusterCaError> {
    let api = NodeApi::of(host, cluster).await?;
    let cas = Pki::here().in_order(given(authorities)?, true)?;
    let found = api.get(CLUSTER_INFO, "read cluster-info".into()).await?;
    let info = found["items"][0]["data"]["kubeconfig"].as_str();
    if is_new_to(info, &cas) {
        let handed = wait_for_tokens(&api, &cas).await?;
        let nodes = api.nodes().await?;
        let ready_nodes: Vec<&str> = nodes
            .iter()
            .filter(|node| is_ready(node))
            .filter_map(name)
            .collect();
        own_pods::start_anew(&api, &ready_nodes, since(&handed, &cas)).await?;
        tracing::info!(%cluster, "the cluster's own pods know its CAs");
    }
    // Last: that it has them says that the pods do.
    match info {
        Some(info) => publish_info(&api, info, &cas).await,
        // Whoever removed it lets nobody join by a token.
        None => Ok(()),
    }
}

/// Whether the cluster, as `info` has it, lacks one of `cas`. Where somebody removed that: whether one is being replaced.
fn is_new_to(info: Option<&str>, cas: &[ClusterCa]) -> bool {
    let Some(info) = info else {
        return cas.len() > 1;
    };
    let known = embedded_in(info).and_then(|text| bundle(&text).ok());
    known.is_none_or(|known| cas.iter().any(|ca| !known.contains(ca)))
}

async fn publish_info(api: &NodeApi, info: &str, cas: &[ClusterCa]) -> Result<(), ClusterCaError> {
    let changed = embed_in(info, &to_bundle(cas)).ok_or_else(|| ClusterCaError::Unknown {
        path: "cluster-info".into(),
        what: "it has no certificate-authority-data in it, as kubeadm's has",
    })?;
    if changed == info {
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

/// Waits until the controller manager has handed the CAs to every service account of kube-system; gives what they have.
async fn wait_for_tokens(api: &NodeApi, cas: &[ClusterCa]) -> Result<Vec<Handed>, ClusterCaError> {
    let deadline = Instant::now() + TOKENS_LIMIT;
    loop {
        let what = match handed(api).await {
            Ok(handed) => match handed
                .iter()
                .filter(|one| !knows(one.cas.as_deref(), cas))
                .count()
            {
                0 => return Ok(handed),
                count => format!("{count} service accounts of kube-system do not know the cluster's CAs"),
            },
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            let limit_s = TOKENS_LIMIT.as_secs();
            let what = format!(
                "{what}; `kubectl --namespace kube-system logs` of kube-controller-manager says more"
            );
            return Err(ClusterCaError::TooLate { limit_s, what });
        }
        tracing::debug!("{what}; looked at again");
        sleep(LOOK_EVERY).await;
    }
}

/// What service accounts of kube-system have.
async fn handed(api: &NodeApi) -> Result<Vec<Handed>, NodeError> {
    let words = [
        "get",
        "secrets",
        "--namespace=kube-system",
        "--field-selector=type=kubernetes.io/service-account-token",
        "-o",
        IN_TOKENS,
    ];
    let lines = api.call(&words, "list tokens".into()).await?;
    let root = api.get(ROOT_CA, "read kube-root-ca.crt".into()).await?;
    let lines = String::from_utf8_lossy(&lines).into_owned();
    let root = root["items"][0]
        .as_object()
        .map(|_| in_config_map(&root["items"][0]));
    Ok(lines.lines().map(in_token).chain(root).collect())
}

fn in_token(line: &str) -> Handed {
    let mut fields = line.split('\t');
    let ca = fields
        .next()
        .and_then(|text| BASE64_STANDARD.decode(text.trim()).ok());
    let created = fields.next().and_then(seconds);
    let changed = fields
        .next()
        .unwrap_or_default()
        .split(' ')
        .filter_map(seconds)
        .max();
    Handed {
        cas: ca.and_then(|text| String::from_utf8(text).ok()),
        created,
        changed,
    }
}

fn in_config_map(object: &Value) -> Handed {
    let fields = object["metadata"]["managedFields"].as_array();
    let own = fields
        .into_iter()
        .flatten()
        .filter(|field| field["manager"] == HANDED_BY);
    let times = own.filter_map(|field| seconds(field["time"].as_str()?));
    Handed {
        cas: object["data"]["ca.crt"].as_str().map(str::to_owned),
        created: object["metadata"]["creationTimestamp"].as_str().and_then(seconds),
        changed: times.max(),
    }
}

/// Since when every service account has had what it has, in seconds since the epoch; none when that cannot be told. What was
/// never changed came with the service account, before its pods.
fn since(handed: &[Handed], cas: &[ClusterCa]) -> Option<i64> {
    let times: Option<Vec<(i64, i64)>> = handed.iter().map(|one| one.created.zip(one.changed)).collect();
    let changed = times?.into_iter().filter(|(created, changed)| changed > created);
    let since = changed.map(|(_, changed)| changed).max()?;
    // Nobody had the newest before it was made.
    let made = cas.iter().map(|ca| ca.not_before).max()?;
    (since >= made).then_some(since)
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

    #[test]
    fn a_ca_is_new_to_a_cluster_until_cluster_info_has_it() {
        let cas = given(&[ca(), ca()]).unwrap();
        let info =
            |cas: &[ClusterCa]| embed_in("    certificate-authority-data: x\n", &to_bundle(cas)).unwrap();
        assert!(is_new_to(Some(&info(&cas[..1])), &cas), "another one comes");
        assert!(!is_new_to(Some(&info(&cas)), &cas), "a run after it ended");
        assert!(!is_new_to(Some(&info(&cas)), &cas[1..]), "the old one goes");
        assert!(
            is_new_to(Some(&info(&cas[..1])), &cas[1..]),
            "etcd is that of before"
        );
        assert!(is_new_to(None, &cas) && !is_new_to(None, &cas[1..]));
    }

    #[test]
    fn pods_know_the_cas_since_the_last_service_account_was_handed_them() {
        let mut cas = given(&[ca()]).unwrap();
        cas[0].not_before = 90;
        let line = |created: &str, changed: &str| in_token(&format!("\t{created}\t{changed}"));
        let (first, second) = ("1970-01-01T00:00:10Z", "1970-01-01T00:01:40Z");
        let changed = line(first, &format!("{first} {second}"));
        assert_eq!((changed.created, changed.changed), (Some(10), Some(100)));
        let later = line("1970-01-01T00:05:00Z", "1970-01-01T00:05:00Z");
        assert_eq!(since(&[changed.clone(), later.clone()], &cas), Some(100));
        // All are started anew then.
        assert_eq!(since(&[changed.clone(), line(first, "")], &cas), None);
        assert_eq!(since(&[later], &cas), None);
        cas[0].not_before = 200;
        assert_eq!(since(std::slice::from_ref(&changed), &cas), None);
        let object = json!({
            "data": { "ca.crt": "x" },
            "metadata": { "creationTimestamp": first, "managedFields": [
                { "manager": "kubectl", "time": "1970-01-01T00:09:00Z" },
                { "manager": HANDED_BY, "time": second },
            ] },
        });
        let root = in_config_map(&object);
        assert_eq!((root.created, root.changed), (changed.created, changed.changed));
    }
}
