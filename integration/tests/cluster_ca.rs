//! The CA of a Kubernetes cluster is replaced while the cluster runs, with a host that is off meanwhile.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use anyhow::Context as _;
use gantry_integration::{Host, Testbed, wait_until};

/// Exit code while hosts are missing.
const HOSTS_MISSING: i32 = 4;
/// Exit code where pods are to be started anew by their owners before it goes on.
const PREFLIGHT: i32 = 3;
/// What hosts that join are told of the CAs, in base64.
const CLUSTER_INFO: &str = "get configmap cluster-info -n kube-public -o jsonpath='{.data.kubeconfig}' \
                            | sed -n 's/.*certificate-authority-data: //p'";
/// Asks the API server as whoever a kubeconfig is for, by what is in that file alone.
const ASK: &str = "kubectl --cache-dir /run/kubectl --request-timeout=10s get nodes -o name --kubeconfig";

#[test]
fn a_clusters_ca_is_replaced_with_a_worker_off_and_the_old_one_is_refused_at_the_end() {
    a_ca_is_replaced(1);
}

/// The key goes to the second one by way of the cluster. Takes twice as long: `make long-test`.
#[test]
fn with_two_control_planes_a_clusters_ca_is_replaced_on_one_after_the_other() {
    a_ca_is_replaced(2);
}

/// In a cluster with so many control planes and a worker.
fn a_ca_is_replaced(masters: u8) {
    let bed = Testbed::for_kubernetes(masters, 1).unwrap();
    let (operator, first) = (bed.operator(), bed.host(1));
    let (last, worker) = (bed.host(masters.into()), bed.host(usize::from(masters) + 1));
    let control_planes = &bed.hosts()[..masters.into()];
    let before = bed.snapshots().unwrap();
    bed.apply_kubernetes().unwrap();
    let all_ready: String = bed
        .hosts()
        .iter()
        .map(|host| format!("{} v1.20.2 True;", host.name()))
        .collect();
    let old = first.ca_fingerprint().unwrap();
    first
        .must("mkdir /root/old && cp /etc/kubernetes/admin.conf /root/old/ && cp /etc/kubernetes/pki/ca.crt /root/old/")
        .unwrap();
    operator.must("backup -o before.snapshot").unwrap();
    let proxies = "get pods -n kube-system -l k8s-app=kube-proxy -o jsonpath='{.items[*].metadata.uid}'";
    let proxies_before = first.kubectl(proxies).unwrap();

    // Its agent is off, its node is not.
    worker.must("systemctl stop gantry-agent").unwrap();
    let begun = operator
        .gantry("certs rotate-cluster-ca -y --connect-timeout 2s")
        .unwrap();
    assert_eq!(
        begun.status,
        Some(HOSTS_MISSING),
        "{begun}{}",
        bed.kubernetes_logs()
    );
    assert!(
        begun
            .stderr
            .contains(&format!("{} is left as it is", worker.address())),
        "{begun}"
    );
    // Both are trusted where the agent answers, and the old one signs: the worker would refuse the new one.
    assert_eq!(first.ca_fingerprint().unwrap(), old);
    for host in control_planes {
        assert_eq!(host.count_of_cas().unwrap(), 2, "{}", host.name());
        assert!(ca_of_the_api_server(host, "/root/old/ca.crt") || host.name() != first.name());
    }
    assert_eq!(worker.count_of_cas().unwrap(), 1);
    assert_eq!(first.nodes().unwrap(), all_ready);
    for uid in proxies_before.split(' ') {
        let now = first.kubectl(proxies).unwrap();
        assert!(!now.contains(uid), "kube-proxy {uid} started anew: {now}");
    }

    // Until then there is a way back, and after it the way on.
    let aborted = operator
        .gantry("certs rotate-cluster-ca --abort -y --connect-timeout 2s")
        .unwrap();
    assert_eq!(
        aborted.status,
        Some(HOSTS_MISSING),
        "{aborted}{}",
        bed.kubernetes_logs()
    );
    for host in control_planes {
        assert_eq!(
            (host.ca_fingerprint().unwrap(), host.count_of_cas().unwrap()),
            (old.clone(), 1),
            "{}",
            host.name()
        );
        assert_eq!(host.left_of_ca_replacement().unwrap(), "", "{}", host.name());
    }
    let told = first.kubectl(CLUSTER_INFO).unwrap();
    assert_eq!(told.trim(), in_base64(first, "/root/old/ca.crt"));
    assert_eq!(first.nodes().unwrap(), all_ready);
    worker.must("systemctl start gantry-agent").unwrap();
    worker.wait_for_agent().unwrap();
    let nothing = operator.gantry("certs rotate-cluster-ca --abort -y").unwrap();
    assert!(
        nothing.succeeded() && nothing.stderr.contains("no CA is being replaced"),
        "{nothing}"
    );

    let proxies_before = first.kubectl(proxies).unwrap();
    let stopped = operator.gantry("certs rotate-cluster-ca -y").unwrap();
    assert_eq!(
        stopped.status,
        Some(PREFLIGHT),
        "{stopped}{}",
        bed.kubernetes_logs()
    );
    assert!(stopped.stderr.contains("-y --pods-restarted"), "{stopped}");
    assert_eq!(
        (first.ca_fingerprint().unwrap(), worker.count_of_cas().unwrap()),
        (old.clone(), 2)
    );
    for uid in proxies_before.split(' ') {
        let now = first.kubectl(proxies).unwrap();
        assert!(!now.contains(uid), "kube-proxy {uid} started anew: {now}");
    }
    // The agent of a control plane is killed while it changes something: the same command goes on.
    let rotate = operator
        .start("certs rotate-cluster-ca -y --pods-restarted")
        .unwrap();
    wait_until(
        "a control plane drops the old CA",
        Duration::from_secs(600),
        || {
            let begun = last.run("tail -n 1 /var/lib/gantry/agent/journal.jsonl | grep 'drop old CA'")?;
            Ok(begun.succeeded().then_some(()))
        },
    )
    .unwrap();
    last.kill_agent().unwrap();
    last.wait_for_agent().unwrap();
    drop(rotate.finish(Duration::from_secs(600)).unwrap());
    let done = operator
        .gantry("certs rotate-cluster-ca -y --pods-restarted")
        .unwrap();
    assert!(done.succeeded(), "{done}{}", bed.kubernetes_logs());
    assert!(done.stderr.contains("is the only one"), "{done}");

    let new = first.ca_fingerprint().unwrap();
    assert_ne!(new, old);
    for host in bed.hosts() {
        assert_eq!(
            (host.ca_fingerprint().unwrap(), host.count_of_cas().unwrap()),
            (new.clone(), 1),
            "{}",
            host.name()
        );
        assert_eq!(host.left_of_ca_replacement().unwrap(), "", "{}", host.name());
        host.must(&format!("{ASK} /etc/kubernetes/kubelet.conf")).unwrap();
    }
    wait_until("every node is ready", Duration::from_secs(120), || {
        Ok((first.nodes()? == all_ready).then_some(()))
    })
    .with_context(|| bed.kubernetes_logs())
    .unwrap();
    // Who has a certificate of the old one only is refused, and nothing that the old one vouches for is believed.
    let refused = first.run(&with_cas_of_now("/root/old/admin.conf")).unwrap();
    assert!(!refused.succeeded(), "{refused}");
    assert!(
        refused.all_output().contains("Unauthorized") || refused.all_output().contains("logged in"),
        "{refused}"
    );
    let refused = first.run(&format!("{ASK} /root/old/admin.conf")).unwrap();
    assert!(!refused.succeeded(), "{refused}");
    // The key of the old one is nowhere.
    let keys = "openssl x509 -noout -pubkey -in /root/old/ca.crt >/root/old/ca.pub; for key in $(find /etc/kubernetes -name '*.key'); do \
                openssl pkey -in $key -pubout | cmp -s - /root/old/ca.pub && echo $key; done; true";
    assert_eq!(first.must(keys).unwrap(), "");
    for host in bed.hosts() {
        let told = host
            .run("grep -rl 'PRIVATE KEY' /var/lib/gantry/agent/journal.jsonl /var/lib/gantry/agent/steps")
            .unwrap();
        assert_eq!(told.stdout, "");
    }

    let ends = first
        .must(
            "date -u +%F -d \"$(openssl x509 -noout -enddate -in /etc/kubernetes/pki/ca.crt | cut -d= -f2)\"",
        )
        .unwrap();
    let listed = operator.must("certs").unwrap();
    let line = listed
        .lines()
        .find(|line| line.contains("/etc/kubernetes/pki/ca.crt"))
        .unwrap();
    assert!(line.contains(ends.trim()), "{line}: {ends}");

    let again = operator.gantry("certs rotate-cluster-ca -y").unwrap();
    assert!(
        again.succeeded() && again.stderr.contains("Nothing to do"),
        "{again}"
    );
    assert_eq!(first.ca_fingerprint().unwrap(), new);
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // Pods come to every node with the new CA, also those of before.
    let hello = format!(
        "run hello --image=sea.hub:5000/hello:1.0 --overrides='{{\"spec\":{{\"nodeName\":\"{}\"}}}}' \
         --command -- /bin/busybox sleep 3600",
        worker.name()
    );
    first.kubectl(&hello).unwrap();
    first
        .kubectl("wait --for=condition=Ready --timeout=180s pod/hello")
        .with_context(|| bed.kubernetes_logs())
        .unwrap();

    // etcd of before the replacement comes back, and with it what it said of the CA.
    operator.must("restore -i before.snapshot -y").unwrap();
    let told = first.kubectl(CLUSTER_INFO).unwrap();
    assert_eq!(told.trim(), in_base64(first, "/etc/kubernetes/pki/ca.crt"));
    wait_until("every node is ready again", Duration::from_secs(180), || {
        Ok((first.nodes()? == all_ready).then_some(()))
    })
    .with_context(|| bed.kubernetes_logs())
    .unwrap();
    let in_tokens = "get secrets -n kube-system --field-selector=type=kubernetes.io/service-account-token \
                     -o jsonpath='{range .items[*]}{.data.ca\\.crt}{\"\\n\"}{end}' | sort -u";
    assert_eq!(
        first.kubectl(in_tokens).unwrap().trim(),
        in_base64(first, "/etc/kubernetes/pki/ca.crt")
    );

    first.must("rm -r /root/old").unwrap();
    operator.must("reset -f Clusterfile -y").unwrap();
    for (host, before) in bed.hosts().iter().zip(&before) {
        host.ensure_as_before(before).unwrap();
    }
}

fn in_base64(host: &Host, file: &str) -> String {
    host.must(&format!("base64 -w0 {file}"))
        .unwrap()
        .trim()
        .to_owned()
}

/// Whether what the API server of a host shows was signed by a CA in this file.
fn ca_of_the_api_server(host: &Host, file: &str) -> bool {
    let shown = host.run(&format!(
        "openssl s_client -connect 127.0.0.1:6443 -CAfile {file} -verify_return_error </dev/null"
    ));
    shown.unwrap().succeeded()
}

/// Asks with the client's certificate of an older kubeconfig, and the CAs that are trusted by now.
fn with_cas_of_now(kubeconfig: &str) -> String {
    format!(
        "sed \"s|certificate-authority-data:.*|certificate-authority: /etc/kubernetes/pki/ca.crt|\" {kubeconfig} >/root/old/mixed.conf && \
         {ASK} /root/old/mixed.conf"
    )
}
