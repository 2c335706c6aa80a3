//! A real Kubernetes out of a ClusterImage and one Clusterfile.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use gantry_integration::{Applied, Host, Runtime, Snapshot, Testbed, wait_until};

/// The agent's own stays when the cluster goes.
const AGENTS_OWN: &[&str] = &["/var/lib/gantry", "/etc/gantry"];
/// More than any `apply` here takes.
const LIMIT: Duration = Duration::from_secs(600);
/// How many pods a node takes by the Clusterfile; neither kubelet's default nor the image's.
const MAX_PODS: u32 = 37;
/// Name, version and readiness of every node.
const NODES: &str = "get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.status.nodeInfo.kubeletVersion} \
                     {.status.conditions[?(@.type==\"Ready\")].status};{end}'";
/// What the worker of the 3+1 cluster asks through its balancer.
const AS_KUBELET: &str = "kubectl --kubeconfig /etc/kubernetes/kubelet.conf --cache-dir /run/kubectl \
                          --request-timeout=10s get node host4 -o name";

#[test]
fn one_clusterfile_makes_three_hosts_a_cluster_and_reset_unmakes_it() {
    let bed = Testbed::for_kubernetes(1, 2).unwrap();
    let (operator, first) = (bed.operator(), bed.host(1));
    let before: Vec<_> = bed
        .hosts()
        .iter()
        .map(|host| Snapshot::of(host, AGENTS_OWN).unwrap())
        .collect();

    bed.write_marked_clusterfile(
        1,
        2,
        "labels: { disk: ssd, tier: data }\ntaints: ['tier=data:PreferNoSchedule']",
    )
    .unwrap();
    let applied = bed.apply_kubernetes().unwrap();
    follow(&applied, first, "init-registry.sh", "check init-registry.sh");
    for host in bed.hosts() {
        follow(&applied, host, "init.sh", "check init.sh");
    }
    assert_eq!(
        first.kubectl(NODES).unwrap(),
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
    assert_eq!(
        first.kubectl(NODES).unwrap(),
        "host1 v1.20.2 True;host2 v1.20.2 True;"
    );
    assert_is_as_before(bed.host(3), &before[2]);
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
    a_changed_config_reaches_one_host_after_the_other(&bed);

    operator.must("reset -f Clusterfile -y").unwrap();
    for (host, before) in bed.hosts().iter().zip(&before) {
        assert_is_as_before(host, before);
    }
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

#[test]
fn containerd_and_the_agents_registry_make_one_host_a_cluster_and_another_joins_it() {
    let bed = Testbed::for_kubernetes_on(Runtime::Containerd, 1, 1).unwrap();
    let (operator, host, worker) = (bed.operator(), bed.host(1), bed.host(2));
    let before: Vec<_> = bed
        .hosts()
        .iter()
        .map(|host| Snapshot::of(host, AGENTS_OWN).unwrap())
        .collect();
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
    follow(&applied, host, "containerd.sh", "check containerd.sh");
    follow(&applied, host, "init-kube.sh", "check init-kube.sh");
    let pods = host.kubectl("get nodes -o jsonpath='{.items[*].status.capacity.pods}'");
    assert_eq!(pods.unwrap(), MAX_PODS.to_string());
    let runtime = "get nodes -o jsonpath='{range .items[*]}{.status.nodeInfo.containerRuntimeVersion};{end}'";
    let runtime = host.kubectl(runtime).unwrap();
    assert!(runtime.starts_with("containerd://1.6"), "{runtime}");
    assert_eq!(host.kubectl(NODES).unwrap(), "api-1 v1.20.2 True;");
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
    assert_eq!(
        host.kubectl(NODES).unwrap(),
        "api-1 v1.20.2 True;host2 v1.20.2 True;"
    );
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

    operator.must("reset -f Clusterfile -y").unwrap();
    for (host, before) in bed.hosts().iter().zip(&before) {
        assert_is_as_before(host, before);
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

/// What a script is there for is looked at right behind it.
fn follow(applied: &Applied, host: &Host, script: &str, check: &str) {
    let steps = applied.steps_on(host);
    let mut pairs = steps.windows(2);
    assert!(pairs.any(|pair| pair == [script, check]), "{steps:?}");
}

/// Nothing of the cluster is left on the host.
fn assert_is_as_before(host: &Host, before: &Snapshot) {
    let left = host
        .run("pgrep --list-full 'kube|etcd|dockerd|containerd|pause|busybox'")
        .unwrap();
    assert_eq!(left.stdout, "", "processes on {}", host.name());
    let traces = host
        .run(
            "iptables-save | grep -E 'KUBE|CNI'; ip -brief link show type bridge; ip route show protocol 77; \
             ls -d /sys/fs/cgroup/*/kubepods; systemctl list-units --no-legend 'gantry-balancer*' 'gantry-registry*' 'pod-network*'",
        )
        .unwrap();
    assert_eq!(traces.stdout, "", "traces on {}", host.name());
    let after = Snapshot::of(host, AGENTS_OWN).unwrap();
    let changes = after.changes_since(before);
    assert!(
        changes.is_empty(),
        "{}: {:#?}",
        host.name(),
        &changes[..changes.len().min(20)]
    );
}

#[test]
fn with_three_control_planes_any_one_of_them_may_lose_its_power() {
    let bed = Testbed::for_kubernetes(3, 1).unwrap();
    let (operator, first, worker) = (bed.operator(), bed.host(1), bed.host(4));
    let bare = Snapshot::of(first, AGENTS_OWN).unwrap();
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
            let nodes = bed.host(2).kubectl(NODES).unwrap_or_default();
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
        bed.host(2).kubectl(NODES).unwrap(),
        "host2 v1.20.2 True;host3 v1.20.2 True;host4 v1.20.2 True;"
    );
    assert_eq!(bed.etcd_members().unwrap(), 2);
    first.power_on().unwrap();
    first.wait_for_agent().unwrap();
    first.prepare_for_kubernetes().unwrap();
    bed.apply_kubernetes().unwrap();
    assert_is_as_before(first, &bare);
    assert_eq!(
        bed.host(2).kubectl(NODES).unwrap(),
        "host2 v1.20.2 True;host3 v1.20.2 True;host4 v1.20.2 True;"
    );
    assert_eq!(bed.etcd_members().unwrap(), 2);
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
    assert_eq!(first.kubectl(NODES).unwrap(), "host1 v1.20.2 True;");
    worker.power_on().unwrap();
    first.reboot().unwrap();
    for host in [worker, first] {
        host.wait_for_agent().unwrap();
        host.prepare_for_kubernetes().unwrap();
    }

    // The API server, which lets the worker in, comes long after the agent that is asked for it.
    bed.apply_kubernetes().unwrap();
    assert_eq!(
        first.kubectl(NODES).unwrap(),
        "host1 v1.20.2 True;host2 v1.20.2 True;"
    );
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
