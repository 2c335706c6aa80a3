//! A real Kubernetes out of a ClusterImage. Gantry brings everything to the host; kubeadm is still run by hand.

use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::Context;
use gantry_integration::kubernetes_host::CHECKS_OF_THE_MACHINE;
use gantry_integration::kubernetes_image::kubernetes_image;
use gantry_integration::{Snapshot, Testbed, wait_until};

const ROOTFS: &str = "/var/lib/gantry/data/demo/rootfs";

/// The agent's own stays when the cluster goes.
const AGENTS_OWN: &[&str] = &["/var/lib/gantry", "/etc/gantry"];

#[test]
fn kubeadm_run_by_hand_finds_all_it_needs_and_reset_leaves_nothing_of_it() {
    let image = kubernetes_image().unwrap();
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    host.prepare_for_kubernetes().unwrap();
    let before = Snapshot::of(host, AGENTS_OWN).unwrap();

    symlink(image, operator.desk().join("rootfs")).unwrap();
    operator.must("build -t kubernetes:v1.20.2 rootfs").unwrap();
    operator.clusterfile("kubernetes:v1.20.2", &[host]).unwrap();
    operator.apply().unwrap().ok().unwrap();
    let kubelet = host
        .run("systemctl is-enabled kubelet; systemctl is-active kubelet")
        .unwrap();
    assert_eq!(kubelet.stdout, "enabled\ninactive\n");

    // As the image's README says it.
    host.must(&format!(
        "cd {ROOTFS}/etc && kubeadm init --config kubeadm-config.yaml --skip-phases=addon/coredns \
         --ignore-preflight-errors=ImagePull,{CHECKS_OF_THE_MACHINE}"
    ))
    .with_context(|| host.kubernetes_log())
    .unwrap();
    let kubectl = |words: &str| {
        host.must(&format!(
            "kubectl --kubeconfig /etc/kubernetes/admin.conf {words}"
        ))
        .with_context(|| host.kubernetes_log())
        .unwrap()
    };
    kubectl("wait --for=condition=Ready --timeout=180s node/host1");
    let node = kubectl("get node host1 -o jsonpath='{.status.nodeInfo.kubeletVersion}'");
    assert_eq!(node, "v1.20.2");

    // The one host of the cluster takes pods as well, as soon as the cluster has made what every pod has.
    kubectl("taint node host1 node-role.kubernetes.io/master-");
    wait_until("pods have an account", Duration::from_secs(60), || {
        let account = "kubectl --kubeconfig /etc/kubernetes/admin.conf get serviceaccount default";
        Ok(host.run(account)?.succeeded().then_some(()))
    })
    .unwrap();
    kubectl(
        "run hello --image=sea.hub:5000/hello:1.0 --port=8080 --expose --command -- /bin/busybox httpd -f -p 8080 -h /www",
    );
    kubectl("wait --for=condition=Ready --timeout=180s pod/hello");
    // The pod's own address is the network plugins' work, the service's is kube-proxy's.
    for of in [
        "pod hello -o jsonpath='{.status.podIP}'",
        "service hello -o jsonpath='{.spec.clusterIP}'",
    ] {
        let address = kubectl(&format!("get {of}"));
        let page = wait_until("the application answers", Duration::from_secs(60), || {
            let page = host.run(&format!(
                "timeout 2 bash -c \"exec 3<>/dev/tcp/{address}/8080; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3\""
            ))?;
            Ok(page.succeeded().then_some(page.stdout))
        })
        .with_context(|| host.kubernetes_log())
        .unwrap();
        assert!(page.contains("Hello from a container"), "{page}");
    }

    host.must("kubeadm reset --force").unwrap();
    operator.must("reset -f Clusterfile -y").unwrap();
    let left = host
        .run("pgrep --list-full 'kube|etcd|dockerd|containerd|pause|busybox'")
        .unwrap();
    assert_eq!(left.stdout, "");
    let traces = host
        .run("iptables-save | grep -E 'KUBE|CNI'; ip -brief link show type bridge; ls -d /sys/fs/cgroup/*/kubepods")
        .unwrap();
    assert_eq!(traces.stdout, "");
    let after = Snapshot::of(host, AGENTS_OWN).unwrap();
    assert_eq!(after.changes_since(&before), Vec::<String>::new());
}
