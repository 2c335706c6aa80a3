//! A real Kubernetes with containerd, whose container images the agents serve; settings and plugins of its Clusterfile.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use gantry_integration::{Runtime, Testbed, wait_until};

/// How many pods a node takes by the Clusterfile; neither kubelet's default nor the image's.
const MAX_PODS: u32 = 37;

#[test]
fn containerd_and_the_agents_registry_make_one_host_a_cluster_and_another_joins_it() {
    let bed = Testbed::for_kubernetes_on(Runtime::Containerd, 1, 1).unwrap();
    let (operator, host, worker) = (bed.operator(), bed.host(1), bed.host(2));
    let before = bed.snapshots().unwrap();
    let file = operator.desk().join("Clusterfile");
    let both = fs::read_to_string(&file).unwrap();
    let of_the_worker = format!("    - ips: [{}]\n      roles: [node]\n", worker.address());
    let alone = "      taints: ['node-role.kubernetes.io/master:NoSchedule-']\n";
    assert!(both.contains(&of_the_worker), "{both}");
    fs::write(&file, both.replace(&of_the_worker, alone)).unwrap();
    with_settings_and_plugins(&bed);
    // The control plane's own: kubeadm was asked.
    let checked = operator.gantry("check kubernetes-containerd:v1.20.2").unwrap();
    let checked = checked.ok().unwrap();
    assert!(checked.starts_with("6 container images named"), "{checked}");
    assert!(checked.contains("the cluster gets no DNS server"), "{checked}");

    let applied = bed.apply_kubernetes().unwrap();
    applied
        .ensure_checked(host, "containerd.sh", "check containerd.sh")
        .unwrap();
    applied
        .ensure_checked(host, "init-kube.sh", "check init-kube.sh")
        .unwrap();
    let pods = host.kubectl("get nodes -o jsonpath='{.items[*].status.capacity.pods}'");
    assert_eq!(pods.unwrap(), MAX_PODS.to_string());
    let runtime = "get nodes -o jsonpath='{range .items[*]}{.status.nodeInfo.containerRuntimeVersion};{end}'";
    let runtime = host.kubectl(runtime).unwrap();
    assert!(runtime.starts_with("containerd://1.6"), "{runtime}");
    assert_eq!(host.nodes().unwrap(), "api-1 v1.20.2 True;");
    assert_eq!(
        host.kubectl("get nodes --selector=disk=ssd -o name").unwrap(),
        "node/api-1\n"
    );
    assert_eq!(
        host.kubectl("get configmap story -o jsonpath='{.data.by}'")
            .unwrap(),
        "api-1"
    );
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // Containerd has to ask for it: nothing pulled this image before.
    host.kubectl(
        "run hello --image=sea.hub:5000/hello:1.0 --port=8080 --image-pull-policy=Always \
         --command -- /bin/busybox httpd -f -p 8080 -h /www",
    )
    .unwrap();
    host.kubectl("wait --for=condition=Ready --timeout=180s pod/hello")
        .with_context(|| bed.kubernetes_logs())
        .unwrap();
    let address = host
        .kubectl("get pod hello -o jsonpath='{.status.podIP}'")
        .unwrap();
    let page = wait_until("the application answers", Duration::from_secs(60), || {
        host.fetch_page(&address)
    })
    .with_context(|| bed.kubernetes_logs())
    .unwrap();
    assert!(page.contains("Hello from a container"), "{page}");

    let joined = operator
        .gantry(&format!("join -n {} -f Clusterfile -y", worker.address()))
        .unwrap();
    assert!(joined.succeeded(), "{joined}{}", bed.kubernetes_logs());
    assert_eq!(host.nodes().unwrap(), "api-1 v1.20.2 True;host2 v1.20.2 True;");
    // Its own agent serves it the image.
    host.kubectl(
        "run there --image=sea.hub:5000/hello:1.0 --image-pull-policy=Always \
         --overrides='{\"spec\":{\"nodeName\":\"host2\"}}' --command -- /bin/busybox sleep 3600",
    )
    .unwrap();
    host.kubectl("wait --for=condition=Ready --timeout=180s pod/there")
        .with_context(|| bed.kubernetes_logs())
        .unwrap();
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    kubelets_are_told_something_else(&bed);

    operator.must("reset -f Clusterfile -y").unwrap();
    for (host, before) in bed.hosts().iter().zip(&before) {
        host.ensure_without_cluster(before).unwrap();
    }
}

/// Adds a setting of kubelets to the Clusterfile, and plugins: the host gets a name, its node a label, and a command asks the
/// API server for something.
fn with_settings_and_plugins(bed: &Testbed) {
    let (operator, host) = (bed.operator(), bed.host(1));
    let file = operator.desk().join("Clusterfile");
    let mut text = fs::read_to_string(&file).unwrap();
    // It ends with the configuration of kubelets.
    text.push_str(&format!("maxPods: {MAX_PODS}\n"));
    let address = host.address();
    for (kind, action, data) in [
        ("HOSTNAME", "PreInit", format!("{address} api-1")),
        ("LABEL", "PreGuest", format!("{address} disk=ssd")),
        (
            "SHELL",
            "PostInstall",
            "kubectl --cache-dir /run/kubectl create configmap story --from-literal=by=$(hostname)"
                .to_owned(),
        ),
    ] {
        let on = if kind == "SHELL" {
            format!("on: {address}, ")
        } else {
            String::new()
        };
        text.push_str(&format!(
            "---\nkind: Plugin\nmetadata: {{ name: {kind} }}\nspec: {{ type: {kind}, action: {action}, {on}data: {data:?} }}\n"
        ));
    }
    operator.put("Clusterfile", text).unwrap();
    host.must("echo allow_exec = true >/etc/gantry/agent.toml && systemctl restart gantry-agent")
        .unwrap();
    host.wait_for_agent().unwrap();
}

/// The nodes have what the file says now, and no pod was started anew.
fn kubelets_are_told_something_else(bed: &Testbed) {
    let (operator, host) = (bed.operator(), bed.host(1));
    let started = "get pods -A -o jsonpath='{range .items[*]}{.metadata.name} {.status.containerStatuses[*].restartCount};{end}'";
    let before = host.kubectl(started).unwrap();
    let file = fs::read_to_string(operator.desk().join("Clusterfile")).unwrap();
    let told = file.replace(
        &format!("maxPods: {MAX_PODS}"),
        &format!("maxPods: {}", MAX_PODS + 1),
    );
    operator.put("Clusterfile", told).unwrap();
    let applied = bed.apply_kubernetes().unwrap();
    for (host, steps) in [
        (
            host,
            [
                "publish kubelet configuration",
                "kubelet configuration",
                "nodes ready",
            ]
            .as_slice(),
        ),
        (bed.host(2), &["kubelet configuration"]),
    ] {
        assert_eq!(applied.steps_on(host), steps, "{}", applied.finished);
    }
    let capacities = "get nodes -o jsonpath='{.items[*].status.capacity.pods}'";
    let wanted = format!("{0} {0}", MAX_PODS + 1);
    wait_until("both nodes say so", Duration::from_secs(60), || {
        Ok((host.kubectl(capacities)? == wanted).then_some(()))
    })
    .with_context(|| bed.kubernetes_logs())
    .unwrap();
    assert_eq!(host.kubectl(started).unwrap(), before);
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
}
