//! What takes too long for every change, in `make long-test`: three control planes and a worker through the whole life of a
//! cluster; workers upgraded two at a time, one of which pods must not leave, while a third is off.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use anyhow::Context as _;
use gantry_integration::{Host, Testbed, wait_until};

const LIMIT: Duration = Duration::from_secs(180);
const CONFIGMAPS: &str = "get configmaps -o name";

/// All four nodes are ready in this version, and etcd has three members that answer.
fn is_whole(bed: &Testbed, version: &str) {
    let nodes: String = (1..=4).map(|n| format!("host{n} {version} True;")).collect();
    assert_eq!(bed.host(1).nodes().unwrap(), nodes);
    assert_eq!(bed.etcd_members().unwrap(), 3);
    assert_eq!(bed.operator().apply().unwrap().ok().unwrap().steps(), 0);
}

/// An application that answers on port 8080.
fn deploy(bed: &Testbed) {
    let words = "create deployment hello --image=sea.hub:5000/hello:1.0 --port=8080 -- /bin/busybox httpd -f -p 8080 -h /www && \
                 kubectl --kubeconfig /etc/kubernetes/admin.conf expose deployment hello";
    bed.host(1).kubectl(words).unwrap();
}

/// The application is there for every host that asks.
fn serves(bed: &Testbed) {
    serves_on(bed, bed.hosts());
}

fn serves_on(bed: &Testbed, hosts: &[Host]) {
    let service = "get service hello -o jsonpath='{.spec.clusterIP}'";
    let address = bed.host(1).kubectl(service).unwrap();
    for host in hosts {
        wait_until("the application answers", LIMIT, || {
            let page = host.fetch_page(&address)?;
            Ok(page.filter(|page| page.contains("Hello from a container")))
        })
        .with_context(|| format!("for {}\n{}", host.name(), bed.kubernetes_logs()))
        .unwrap();
    }
}

/// Something that is in etcd from now on.
fn note(bed: &Testbed, name: &str) {
    let command = format!("create configmap {name} --from-literal=word={name}");
    bed.host(2).kubectl(&command).unwrap();
}

fn must(bed: &Testbed, words: &str) {
    let done = bed.operator().gantry(words).unwrap();
    assert!(done.succeeded(), "{done}{}", bed.kubernetes_logs());
}

#[test]
fn three_control_planes_are_upgraded_taken_back_restored_and_one_leaves_and_comes_back() {
    let bed = Testbed::for_kubernetes(3, 1).unwrap();
    let first = bed.host(1);
    bed.apply_kubernetes().unwrap();
    deploy(&bed);
    serves(&bed);
    is_whole(&bed, "v1.20.2");
    note(&bed, "early");
    must(&bed, "backup -o early.db");
    note(&bed, "before-the-upgrade");

    bed.wish_for_next_kubernetes(3, 1).unwrap();
    must(&bed, "apply -f Clusterfile -y");
    is_whole(&bed, "v1.20.3");
    serves(&bed);
    note(&bed, "after-the-upgrade");

    must(&bed, "rollback -f Clusterfile --kept v1.20.3 -y");
    is_whole(&bed, "v1.20.2");
    serves(&bed);
    let names = first.kubectl(CONFIGMAPS).unwrap();
    assert!(
        names.contains("configmap/before-the-upgrade") && !names.contains("configmap/after-the-upgrade"),
        "{names}"
    );

    must(&bed, "restore -i early.db -y");
    is_whole(&bed, "v1.20.2");
    serves(&bed);
    for host in &bed.hosts()[..3] {
        let names = host.kubectl(CONFIGMAPS).unwrap();
        assert!(
            names.contains("configmap/early") && !names.contains("configmap/before-the-upgrade"),
            "{}: {names}",
            host.name()
        );
    }

    // The first of all leaves; the others let it in again.
    let address = first.address();
    must(&bed, &format!("delete -m {address} -f Clusterfile -y"));
    let nodes = bed.host(2).nodes().unwrap();
    assert_eq!(nodes, "host2 v1.20.2 True;host3 v1.20.2 True;host4 v1.20.2 True;");
    must(&bed, &format!("join -m {address} -f Clusterfile -y"));
    is_whole(&bed, "v1.20.2");
    serves(&bed);
}

#[test]
fn workers_are_upgraded_in_waves_a_budget_stops_one_and_the_one_that_was_off_follows() {
    let bed = Testbed::for_kubernetes(1, 3).unwrap();
    let (operator, first, off) = (bed.operator(), bed.host(1), bed.host(4));
    bed.apply_kubernetes().unwrap();
    deploy(&bed);
    // Its only pod is on the second host, and must not leave it.
    let pinned = r#"{"spec":{"template":{"spec":{"nodeName":"host2"}}}}"#;
    first
        .kubectl(&format!("patch deployment hello --patch '{pinned}'"))
        .unwrap();
    first.kubectl("rollout status deployment hello").unwrap();
    first
        .kubectl("create poddisruptionbudget hello --selector=app=hello --min-available=1")
        .unwrap();
    serves(&bed);

    off.power_off().unwrap();
    bed.wish_for_next_kubernetes(1, 3).unwrap();
    let upgrade = "apply --skip-unreachable --max-unavailable 2 -y";
    let stopped = operator.gantry(upgrade).unwrap();
    assert_eq!(stopped.status, Some(4), "{stopped}{}", bed.kubernetes_logs());
    for said in [
        "drain host2",
        "disruption budget",
        &format!("Left out: {}", off.address()),
    ] {
        assert!(stopped.stderr.contains(said), "{said}: {stopped}");
    }
    let versions = |wanted: &str| {
        let nodes = "get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.status.nodeInfo.kubeletVersion};{end}'";
        assert_eq!(first.kubectl(nodes).unwrap(), wanted);
    };
    versions("host1 v1.20.3;host2 v1.20.2;host3 v1.20.2;host4 v1.20.2;");
    serves_on(&bed, &bed.hosts()[..3]);

    first.kubectl("delete poddisruptionbudget hello").unwrap();
    let rest = operator.gantry(upgrade).unwrap();
    assert_eq!(rest.status, Some(4), "{rest}{}", bed.kubernetes_logs());
    versions("host1 v1.20.3;host2 v1.20.3;host3 v1.20.3;host4 v1.20.2;");
    serves_on(&bed, &bed.hosts()[..3]);

    off.power_on().unwrap();
    off.wait_for_agent().unwrap();
    off.prepare_for_kubernetes().unwrap();
    must(&bed, "apply -f Clusterfile -y");
    let nodes: String = (1..=4).map(|n| format!("host{n} v1.20.3 True;")).collect();
    assert_eq!(first.nodes().unwrap(), nodes);
    serves(&bed);
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
}
