//! A cluster of Kubernetes is taken to another version, as its Clusterfile says, and back.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use gantry_integration::{Testbed, wait_until};

const LIMIT: Duration = Duration::from_secs(120);
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
        first.nodes().unwrap(),
        "host1 v1.20.3 True;host2 v1.20.2 True cordoned;",
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
    assert_eq!(first.nodes().unwrap(), "host1 v1.20.3 True;host2 v1.20.3 True;");
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
    let file = operator.desk().join("Clusterfile");
    let upgraded = fs::read_to_string(&file).unwrap();
    bed.write_clusterfile(1, 1).unwrap();
    let back = operator.gantry("plan").unwrap();
    assert_eq!(back.status, Some(2), "{back}");
    assert!(back.stderr.contains("`gantry rollback` does"), "{back}");
    fs::write(&file, &upgraded).unwrap();
    goes_back_with_its_etcd(&bed);
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        upgraded.replace("v1.20.3", "v1.20.2")
    );
}

/// Cut off while no API server runs; then `gantry apply` goes on.
fn goes_back_with_its_etcd(bed: &Testbed) {
    let (operator, first, second) = (bed.operator(), bed.host(1), bed.host(2));
    first
        .kubectl("create configmap later --from-literal=word=after-the-upgrade")
        .unwrap();
    let rollback = operator.start("rollback --kept v1.20.3 -y").unwrap();
    wait_until("the API server is stopped", LIMIT, || {
        let runs = first.run("test -e /etc/kubernetes/manifests/kube-apiserver.yaml")?;
        Ok((!runs.succeeded()).then_some(()))
    })
    .with_context(|| rollback.printed().unwrap_or_default())
    .unwrap();
    rollback.kill().unwrap();
    // The pod that nobody would start again was there before the upgrade, so it is back, and stops this as it stopped that.
    let stopped = operator.apply().unwrap().finished;
    assert!(!stopped.succeeded(), "{stopped}");
    assert!(stopped.stderr.contains("default/alone"), "{stopped}");
    first.kubectl("delete pod alone --now").unwrap();
    let rest = operator.apply().unwrap().ok();
    rest.with_context(|| bed.kubernetes_logs()).unwrap();
    assert_eq!(first.nodes().unwrap(), "host1 v1.20.2 True;host2 v1.20.2 True;");
    let names = first.kubectl("get configmaps -o name").unwrap();
    assert!(!names.contains("configmap/later"), "{names}");
    serves(bed);
    for host in [first, second] {
        let next = host.run("grep -q '\"max-concurrent-downloads\": 10' /etc/docker/daemon.json");
        assert!(!next.unwrap().succeeded(), "{} has the image before", host.name());
    }
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
    let further = operator.gantry("rollback -y").unwrap();
    assert_eq!(further.status, Some(2), "{further}");
    assert!(further.stderr.contains("had no other image"), "{further}");
}
