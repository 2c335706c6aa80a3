//! Three control planes: each of them may be lost, and what is connected through the balancer outlives the agent.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use anyhow::Context as _;
use gantry_integration::{Host, Snapshot, Testbed, wait_until};

/// What the worker asks through its balancer.
const AS_KUBELET: &str = "kubectl --kubeconfig /etc/kubernetes/kubelet.conf --cache-dir /run/kubectl \
                          --request-timeout=10s get node host4 -o name";

#[test]
fn with_three_control_planes_any_one_of_them_may_lose_its_power() {
    let bed = Testbed::for_kubernetes(3, 1).unwrap();
    let (operator, first, worker) = (bed.operator(), bed.host(1), bed.host(4));
    let bare = Snapshot::beside_agent(first).unwrap();
    bed.apply_kubernetes().unwrap();
    let members = "get pods -n kube-system -l component=etcd \
                   -o jsonpath='{range .items[*]}{.spec.nodeName} {.status.phase};{end}'";
    // Kubelets tell of the pods they start by themselves a little later.
    wait_until("etcd has three members", Duration::from_secs(60), || {
        let found = bed.host(1).kubectl(members)?;
        Ok((found == "host1 Running;host2 Running;host3 Running;").then_some(()))
    })
    .unwrap();
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    no_connection_ends_with_the_agent(worker);

    let balancers_log = || worker.must("journalctl --no-pager --output=cat --unit=gantry-balancer-demo");
    bed.host(1).power_off().unwrap();
    // The first of them ran the control plane that the others joined by.
    for host in [bed.host(2), bed.host(3)] {
        wait_until(
            "the cluster has agreed on a new leader",
            Duration::from_secs(120),
            || {
                let node = host.kubectl("get node host1 -o jsonpath='{.metadata.name}'");
                Ok(node.ok().filter(|name| name == "host1"))
            },
        )
        .with_context(|| bed.kubernetes_logs())
        .unwrap();
    }
    wait_until(
        "a kubelet finds another API server",
        Duration::from_secs(60),
        || Ok(worker.run(AS_KUBELET)?.succeeded().then_some(())),
    )
    .with_context(|| balancers_log().unwrap())
    .unwrap();
    wait_until(
        "the lost host is noticed and the worker is not lost",
        Duration::from_secs(180),
        || {
            let nodes = bed.host(2).nodes().unwrap_or_default();
            Ok(
                (nodes.contains("host1 v1.20.2 Unknown") && nodes.contains("host4 v1.20.2 True"))
                    .then_some(()),
            )
        },
    )
    .with_context(|| bed.kubernetes_logs())
    .unwrap();
    // Pods are led to one of them by chance.
    let service = "get service kubernetes -o jsonpath='{.spec.clusterIP}'";
    let address = bed.host(2).kubectl(service).unwrap();
    let connect =
        format!("for time in {{1..8}}; do timeout 2 bash -c '</dev/tcp/{address}/443' || exit 1; done");
    wait_until(
        "pods are led to the API servers that are left",
        Duration::from_secs(60),
        || Ok(worker.run(&connect)?.succeeded().then_some(())),
    )
    .with_context(|| bed.kubernetes_logs())
    .unwrap();

    // It is given up, and cleaned when it is back all the same.
    let refused = operator
        .gantry(&format!("delete -m {} -f Clusterfile -y", first.address()))
        .unwrap();
    assert_eq!(refused.status, Some(7), "{refused}");
    let given_up = operator
        .gantry(&format!(
            "delete -m {} --force -f Clusterfile -y",
            first.address()
        ))
        .unwrap();
    assert!(given_up.succeeded(), "{given_up}{}", bed.kubernetes_logs());
    assert_eq!(
        bed.host(2).nodes().unwrap(),
        "host2 v1.20.2 True;host3 v1.20.2 True;host4 v1.20.2 True;"
    );
    assert_eq!(bed.etcd_members().unwrap(), 2);
    first.power_on().unwrap();
    first.wait_for_agent().unwrap();
    first.prepare_for_kubernetes().unwrap();
    bed.apply_kubernetes().unwrap();
    first.ensure_without_cluster(&bare).unwrap();
    assert_eq!(
        bed.host(2).nodes().unwrap(),
        "host2 v1.20.2 True;host3 v1.20.2 True;host4 v1.20.2 True;"
    );
    assert_eq!(bed.etcd_members().unwrap(), 2);
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
}

/// The balancer is a service of its own: whoever is connected through it does not notice that the agent starts anew, or that its
/// package is installed again.
fn no_connection_ends_with_the_agent(worker: &Host) {
    // kubectl ends when its connection does.
    worker
        .must("systemd-run --quiet --unit=watch kubectl --kubeconfig /etc/kubernetes/kubelet.conf --cache-dir /run/kubectl get node host4 --watch")
        .unwrap();
    wait_until("the worker watches its node", Duration::from_secs(60), || {
        let said = worker.run("journalctl --unit=watch --output=cat | grep host4")?;
        Ok(said.succeeded().then_some(()))
    })
    .unwrap();
    // By its own port.
    let connected = "ss --no-header --tcp --numeric state established dport = :6443 --processes | grep kubectl | awk '{print $3}' | sort";
    let connections = worker.must(connected).unwrap();
    assert_ne!(connections, "");
    let balancer = "systemctl show --property=MainPID --value gantry-balancer-demo";
    let before = worker.must(balancer).unwrap();
    worker.must("systemctl restart gantry-agent").unwrap();
    worker.wait_for_agent().unwrap();
    worker.install_agent().unwrap();
    worker.wait_for_agent().unwrap();
    assert_eq!(worker.must(balancer).unwrap(), before);
    // kubectl may have opened another one since.
    let now = worker.must(connected).unwrap();
    for connection in connections.lines() {
        assert!(now.lines().any(|line| line == connection), "{connection}: {now}");
    }
    worker.must("systemctl stop watch").unwrap();
}
