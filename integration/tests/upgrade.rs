//! A cluster of Kubernetes is taken to another version, as its Clusterfile says.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use anyhow::Context as _;
use gantry_integration::{Testbed, wait_until};

const LIMIT: Duration = Duration::from_secs(120);
/// Name, version, readiness of every node, and whether pods are kept away.
const NODES: &str = "get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.status.nodeInfo.kubeletVersion} \
                     {.status.conditions[?(@.type==\"Ready\")].status} {.spec.unschedulable};{end}'";
const SNAPSHOT: &str = "/var/lib/gantry/etcd-snapshots/demo/before-v1.20.3.db";

/// The application is there for every host that asks.
fn serves(bed: &Testbed) {
    let service = "get service hello -o jsonpath='{.spec.clusterIP}'";
    let address = bed.host(1).kubectl(service).unwrap();
    for host in bed.hosts() {
        let page = || {
            let page = host.fetch_page(&address)?;
            Ok(page.filter(|page| page.contains("Hello from a container")))
        };
        wait_until("the application answers", LIMIT, page)
            .with_context(|| bed.kubernetes_logs())
            .unwrap();
    }
}

#[test]
fn an_upgrade_stops_where_pods_would_be_lost_and_goes_on_once_they_are_not() {
    let bed = Testbed::for_kubernetes(1, 1).unwrap();
    let (operator, first, second) = (bed.operator(), bed.host(1), bed.host(2));
    bed.apply_kubernetes().unwrap();
    let hello = "--image=sea.hub:5000/hello:1.0";
    first
        .kubectl(&format!(
            "create deployment hello {hello} --port=8080 -- /bin/busybox httpd -f -p 8080 -h /www && \
             kubectl --kubeconfig /etc/kubernetes/admin.conf expose deployment hello"
        ))
        .unwrap();
    serves(&bed);
    // A pod that nobody would start again.
    first
        .kubectl(&format!("run alone {hello} --command -- /bin/busybox sleep 3600"))
        .unwrap();
    first
        .kubectl("wait --for=condition=Ready --timeout=60s pod/alone")
        .unwrap();

    bed.wish_for_next_kubernetes(1, 1).unwrap();
    let stopped = operator.apply().unwrap().finished;
    let said = &stopped.stderr;
    assert!(!stopped.succeeded(), "{stopped}");
    assert!(
        said.contains("drain host2") && said.contains("default/alone"),
        "{stopped}"
    );
    assert_eq!(
        first.kubectl(NODES).unwrap(),
        "host1 v1.20.3 True ;host2 v1.20.2 True true;",
        "the control plane has the new version, and the worker waits for its pods to move"
    );
    serves(&bed);
    assert_eq!(
        first
            .must(&format!("stat --format=%a {SNAPSHOT}"))
            .unwrap()
            .trim(),
        "600"
    );

    first.kubectl("delete pod alone --now").unwrap();
    let rest = operator.apply().unwrap().ok();
    let rest = rest.with_context(|| bed.kubernetes_logs()).unwrap();
    for host in [first, second] {
        let steps = rest.steps_on(host);
        assert!(!steps.contains(&"kubeadm upgrade".to_owned()), "{steps:?}");
    }
    assert_eq!(
        first.kubectl(NODES).unwrap(),
        "host1 v1.20.3 True ;host2 v1.20.3 True ;"
    );
    serves(&bed);
    let image = "get pod kube-apiserver-host1 -n kube-system -o jsonpath='{.spec.containers[0].image}'";
    assert_eq!(
        first.kubectl(image).unwrap(),
        "sea.hub:5000/kube-apiserver:v1.20.3"
    );
    for host in [first, second] {
        host.must("grep -q '\"max-concurrent-downloads\": 10' /etc/docker/daemon.json")
            .unwrap();
    }
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // The way back is no upgrade.
    bed.write_clusterfile(1, 1).unwrap();
    let back = operator.gantry("plan").unwrap();
    assert_eq!(back.status, Some(2), "{back}");
    assert!(back.stderr.contains("no control plane goes back"), "{back}");
}
