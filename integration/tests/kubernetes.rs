//! A real Kubernetes with docker, out of a ClusterImage and one Clusterfile.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use gantry_integration::{Host, Testbed, wait_until};

/// More than any `apply` here takes.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn one_clusterfile_makes_three_hosts_a_cluster_and_reset_unmakes_it() {
    let bed = Testbed::for_kubernetes(1, 2).unwrap();
    let (operator, first) = (bed.operator(), bed.host(1));
    let before = bed.snapshots().unwrap();

    bed.write_marked_clusterfile(
        1,
        2,
        "labels: { disk: ssd, tier: data }\ntaints: ['tier=data:PreferNoSchedule']",
    )
    .unwrap();
    let applied = bed.apply_kubernetes().unwrap();
    applied
        .ensure_checked(first, "init-registry.sh", "check init-registry.sh")
        .unwrap();
    for host in bed.hosts() {
        applied.ensure_checked(host, "init.sh", "check init.sh").unwrap();
    }
    assert_eq!(
        first.nodes().unwrap(),
        "host1 v1.20.2 True;host2 v1.20.2 True;host3 v1.20.2 True;"
    );
    assert_eq!(
        operator.apply().unwrap().ok().unwrap().steps(),
        0,
        "nothing to do again"
    );
    marks_follow_the_file(&bed);
    a_balancer_that_was_stopped_is_seen_and_started_again(&bed);
    for (host, control_plane) in [(first, true), (bed.host(2), false)] {
        let policy = host.run("test -e /etc/kubernetes/audit-policy.yml").unwrap();
        assert_eq!(policy.succeeded(), control_plane, "{}", host.name());
    }
    // What lets hosts in is nowhere to be read.
    for host in bed.hosts() {
        let told = host
            .run("find /var/lib/gantry/agent -name secret; grep -rl 'certificateKey' /var/lib/gantry/agent")
            .unwrap();
        assert_eq!(told.stdout, "");
    }

    // A pod on one host, reached from all by its own address and through a Service.
    first
        .kubectl(
            "run hello --image=sea.hub:5000/hello:1.0 --port=8080 --expose \
             --overrides='{\"spec\":{\"nodeName\":\"host3\"}}' --command -- /bin/busybox httpd -f -p 8080 -h /www",
        )
        .unwrap();
    first
        .kubectl("wait --for=condition=Ready --timeout=180s pod/hello")
        .with_context(|| bed.kubernetes_logs())
        .unwrap();
    for of in [
        "pod hello -o jsonpath='{.status.podIP}'",
        "service hello -o jsonpath='{.spec.clusterIP}'",
    ] {
        let address = first.kubectl(&format!("get {of}")).unwrap();
        for host in bed.hosts() {
            let page = wait_until("the application answers", Duration::from_secs(60), || {
                host.fetch_page(&address)
            })
            .with_context(|| format!("{of} from {}\n{}", host.name(), bed.kubernetes_logs()))
            .unwrap();
            assert!(page.contains("Hello from a container"), "{page}");
        }
    }
    a_pod_reaches_another_through_a_service(&bed);

    let status = operator.must("status").unwrap();
    for said in [
        "host2",
        "v1.20.2",
        "ready",
        "ETCD MEMBER",
        "serves",
        "First certificate to end",
    ] {
        assert!(status.contains(said), "{said}: {status}");
    }

    // New certificates, on every host that has some.
    let ends = |host: &Host| {
        host.must("stat --format=%Y /etc/kubernetes/pki/apiserver.crt; openssl x509 -noout -serial -in /etc/kubernetes/pki/apiserver.crt")
            .unwrap()
    };
    let old = ends(first);
    let listed = operator.must("certs").unwrap();
    for file in [
        "/etc/kubernetes/pki/apiserver.crt",
        "/etc/kubernetes/admin.conf",
        "Gantry's CA",
    ] {
        assert!(listed.contains(file), "{file}: {listed}");
    }
    let nothing = operator.gantry("certs renew --due -y").unwrap();
    assert!(
        nothing.succeeded() && nothing.stderr.contains("no certificate"),
        "{nothing}"
    );
    ends_in_ten_days(first, "/etc/kubernetes/pki/apiserver");
    // What the timer runs every day.
    let renewed = operator.gantry("certs renew --all --due -y").unwrap();
    assert!(renewed.succeeded(), "{renewed}{}", bed.kubernetes_logs());
    assert_ne!(ends(first), old);
    first
        .must("openssl x509 -noout -checkend $((300 * 86400)) -in /etc/kubernetes/pki/apiserver.crt")
        .unwrap();
    let shown = first
        .must("openssl s_client -connect 127.0.0.1:6443 </dev/null 2>/dev/null | openssl x509 -noout -serial")
        .unwrap();
    assert!(ends(first).contains(&shown), "what it shows is the new one");
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // A host leaves, and only it does.
    let third = bed.host(3).address();
    let left = operator
        .gantry(&format!("delete -n {third} -f Clusterfile -y"))
        .unwrap();
    assert!(left.succeeded(), "{left}{}", bed.kubernetes_logs());
    let file = fs::read_to_string(operator.desk().join("Clusterfile")).unwrap();
    assert!(!file.contains(&third.to_string()), "{file}");
    assert_eq!(first.nodes().unwrap(), "host1 v1.20.2 True;host2 v1.20.2 True;");
    bed.host(3).ensure_without_cluster(&before[2]).unwrap();
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
    a_changed_config_reaches_one_host_after_the_other(&bed);

    operator.must("reset -f Clusterfile -y").unwrap();
    for (host, before) in bed.hosts().iter().zip(&before) {
        host.ensure_without_cluster(before).unwrap();
    }
}

/// Labels and taints are on the nodes, change with the file and go with it; those of others stay.
fn marks_follow_the_file(bed: &Testbed) {
    let first = bed.host(1);
    let marks = "get node host3 -o jsonpath='{.metadata.labels.disk},{.metadata.labels.tier},{.metadata.labels.theirs},\
                 {range .spec.taints[?(@.key==\"tier\")]}{.value}:{.effect}{end}'";
    first.kubectl("label node host3 theirs=1").unwrap();
    assert_eq!(first.kubectl(marks).unwrap(), "ssd,data,1,data:PreferNoSchedule");
    bed.write_marked_clusterfile(1, 2, "labels: { disk: nvme }\ntaints: ['tier:PreferNoSchedule']")
        .unwrap();
    let plan = bed.operator().must("plan -f Clusterfile").unwrap();
    assert!(plan.contains("~ labels and taints"), "{plan}");
    let changed = bed.operator().apply().unwrap().ok().unwrap();
    assert_eq!(
        changed.steps_on(first),
        ["labels and taints"],
        "{}",
        changed.finished
    );
    assert_eq!(changed.steps(), 1);
    assert_eq!(first.kubectl(marks).unwrap(), "nvme,,1,:PreferNoSchedule");
    bed.write_clusterfile(1, 2).unwrap();
    bed.operator().apply().unwrap().ok().unwrap();
    assert_eq!(first.kubectl(marks).unwrap(), ",,1,");
    assert_eq!(bed.operator().apply().unwrap().ok().unwrap().steps(), 0);
}

fn a_balancer_that_was_stopped_is_seen_and_started_again(bed: &Testbed) {
    let (operator, worker) = (bed.operator(), bed.host(2));
    worker.must("systemctl stop gantry-balancer-demo").unwrap();
    let status = operator.gantry("status").unwrap();
    let said = "balancer: gantry-balancer-demo.service does not answer at 127.0.0.1:6443";
    assert!(status.all_output().contains(said), "{status}");
    let applied = operator.apply().unwrap().ok().unwrap();
    assert_eq!(
        (applied.steps(), applied.steps_on(worker)),
        (1, vec!["balancer".to_owned()])
    );
    worker.must("systemctl is-active gantry-balancer-demo").unwrap();
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
}

/// From another host than that of the pod behind the Service.
fn a_pod_reaches_another_through_a_service(bed: &Testbed) {
    let first = bed.host(1);
    let service = first
        .kubectl("get service hello -o jsonpath='{.spec.clusterIP}'")
        .unwrap();
    first
        .kubectl(&format!(
            "run asks --image=sea.hub:5000/hello:1.0 --restart=Never --overrides='{{\"spec\":{{\"nodeName\":\"host2\"}}}}' --command -- \
             /bin/busybox sh -c 'until /bin/busybox wget -q -O - http://{service}:8080; do /bin/busybox sleep 1; done'"
        ))
        .unwrap();
    wait_until("the pod has its answer", Duration::from_secs(120), || {
        let said = first
            .run("kubectl --kubeconfig /etc/kubernetes/admin.conf --cache-dir /run/kubectl logs asks")?;
        Ok(said.stdout.contains("Hello from a container").then_some(()))
    })
    .with_context(|| bed.kubernetes_logs())
    .unwrap();
    first.kubectl("delete pod asks --now").unwrap();
}

/// Puts a certificate of the cluster's CA in the place of another, like it but for its end.
fn ends_in_ten_days(host: &Host, name: &str) {
    host.must(&format!(
        "openssl x509 -x509toreq -copy_extensions copyall -in {name}.crt -signkey {name}.key -out /root/request && \
         openssl x509 -req -copy_extensions copyall -days 10 -in /root/request -out {name}.crt \
             -CA /etc/kubernetes/pki/ca.crt -CAkey /etc/kubernetes/pki/ca.key && \
         rm /root/request"
    ))
    .unwrap();
}

/// Its scripts restart the container runtime, so pods move away from each host before they run.
fn a_changed_config_reaches_one_host_after_the_other(bed: &Testbed) {
    let (operator, first) = (bed.operator(), bed.host(1));
    let file = fs::read_to_string(operator.desk().join("Clusterfile")).unwrap();
    let config = r#"---
apiVersion: sealer.io/v1
kind: Config
metadata: { name: docker }
spec:
  path: etc/daemon.json
  data: |
    {
      "insecure-registries": ["sea.hub:5000"],
      "exec-opts": ["native.cgroupdriver=cgroupfs"],
      "max-concurrent-downloads": 7
    }
"#;
    operator.put("Clusterfile", format!("{file}{config}")).unwrap();
    let applied = operator.apply().unwrap().ok();
    let applied = applied.with_context(|| bed.kubernetes_logs()).unwrap();
    let of_first = applied.steps_on(first);
    let place = |title: &str| of_first.iter().position(|step| step == title);
    let places = [
        "drain host1",
        "init.sh",
        "uncordon host1",
        "drain host2",
        "uncordon host2",
    ]
    .map(place);
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{of_first:?}"
    );
    for host in &bed.hosts()[..2] {
        host.must("grep -q '\"max-concurrent-downloads\": 7' /etc/docker/daemon.json")
            .unwrap();
    }
    assert_eq!(
        first
            .kubectl("get nodes -o jsonpath='{.items[*].spec.unschedulable}'")
            .unwrap(),
        ""
    );
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
}

#[test]
fn kubeadm_is_killed_a_host_loses_its_power_and_apply_again_ends_well() {
    let bed = Testbed::for_kubernetes(1, 1).unwrap();
    let (operator, [first, worker]) = (bed.operator(), [bed.host(1), bed.host(2)]);
    // In the middle of it: what `once` says holds.
    let at_work = |host: &Host, once: &str| {
        wait_until("kubeadm is at work", Duration::from_secs(120), || {
            let found = host.run(&format!("{once} && pgrep --exact kubeadm"))?;
            Ok(found.succeeded().then(|| found.stdout.trim().to_owned()))
        })
        .unwrap()
    };

    let apply = operator.start_apply().unwrap();
    let kubeadm = at_work(first, "test -e /etc/kubernetes/pki/ca.crt");
    first.must(&format!("kill -9 {kubeadm}")).unwrap();
    let killed = apply.finish(LIMIT).unwrap();
    assert!(!killed.succeeded());
    assert!(killed.stderr.contains("kubeadm init failed on"), "{killed}");

    // What the killed one left is undone; the scripts that finished are not run again.
    let apply = operator.start_apply().unwrap();
    at_work(worker, "true");
    worker.power_off().unwrap();
    apply.kill().unwrap();
    let without = operator.gantry("apply --skip-unreachable -y").unwrap();
    assert_eq!(without.status, Some(4), "{without}{}", bed.kubernetes_logs());
    assert_eq!(first.nodes().unwrap(), "host1 v1.20.2 True;");
    worker.power_on().unwrap();
    first.reboot().unwrap();
    for host in [worker, first] {
        host.wait_for_agent().unwrap();
        host.prepare_for_kubernetes().unwrap();
    }

    // The API server, which lets the worker in, comes long after the agent that is asked for it.
    bed.apply_kubernetes().unwrap();
    assert_eq!(first.nodes().unwrap(), "host1 v1.20.2 True;host2 v1.20.2 True;");
    for host in [first, worker] {
        let started = host
            .must("grep --count '\"title\":\"init.sh\"' /var/lib/gantry/agent/journal.jsonl")
            .unwrap();
        assert_eq!(started.trim(), "1", "init.sh on {}", host.name());
    }

    let kubeconfig = operator.must("kubeconfig").unwrap();
    assert!(
        kubeconfig.contains(&format!("server: https://{}:6443", first.address())),
        "{kubeconfig}"
    );
    let refused = operator.gantry("kubeconfig --clusterfile nothing").unwrap();
    assert!(!refused.succeeded());
}
