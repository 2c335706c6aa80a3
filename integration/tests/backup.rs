//! A snapshot of a cluster's etcd: whole, private, good for etcd's own tools, and restored while its member stays who it is.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use gantry_integration::{Testbed, apt, command, wait_until};

#[test]
fn a_backup_is_what_etcdctl_restores_and_a_failed_one_leaves_the_last() {
    let bed = Testbed::for_kubernetes(1, 0).unwrap();
    let (operator, first) = (bed.operator(), bed.host(1));
    bed.apply_kubernetes().unwrap();
    first
        .kubectl("create secret generic treasure --from-literal=word=under-the-third-palm")
        .unwrap();

    let said = operator.gantry("backup -o demo.snapshot").unwrap();
    assert!(said.succeeded(), "{said}");
    assert!(said.stderr.contains("It holds the cluster's secrets"), "{said}");
    let file = operator.desk().join("demo.snapshot");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let snapshot = fs::read(&file).unwrap();
    let word = b"under-the-third-palm";
    assert!(snapshot.windows(word.len()).any(|bytes| bytes == word));

    // It compares the digest before it makes a member's data of it.
    let etcdctl = apt::unpacked("etcd-client", &["etcd-client"]).unwrap();
    let restore = |from: &str| {
        let mut restore = Command::new(etcdctl.join("usr/bin/etcdctl"));
        restore
            .env("ETCDCTL_API", "3")
            .current_dir(operator.desk())
            .args(["snapshot", "restore", from, "--data-dir", &format!("{from}.data")]);
        command::run(&mut restore).unwrap()
    };
    let restored = restore("demo.snapshot");
    assert!(restored.succeeded(), "{restored}");
    assert!(
        operator
            .desk()
            .join("demo.snapshot.data/member/snap/db")
            .is_file()
    );
    let mut damaged = snapshot.clone();
    damaged[snapshot.len() / 2] ^= 1;
    operator.put("damaged", &damaged).unwrap();
    assert!(
        !restore("damaged").succeeded(),
        "etcdctl itself would find damage out"
    );

    restore_puts_the_cluster_back_and_can_be_undone(&bed);
    a_host_that_boots_again_comes_back_by_itself(&bed);

    // Without etcd there is no snapshot, and the last one stays.
    first
        .must("mv /etc/kubernetes/manifests/etcd.yaml /root/")
        .unwrap();
    wait_until("etcd has ended", Duration::from_secs(120), || {
        Ok((!first.run("pgrep --exact etcd")?.succeeded()).then_some(()))
    })
    .unwrap();
    let failed = operator.gantry("backup -o demo.snapshot").unwrap();
    assert_eq!(failed.status, Some(5), "{failed}");
    let reason = format!("{}: etcd at 127.0.0.1:2379 does not answer", first.address());
    assert!(failed.stderr.contains(&reason), "{failed}");
    assert_eq!(fs::read(&file).unwrap(), snapshot);
}

fn restore_puts_the_cluster_back_and_can_be_undone(bed: &Testbed) {
    let (operator, first) = (bed.operator(), bed.host(1));
    let words = || {
        let said = first
            .kubectl("get secrets,configmaps --namespace default -o name")
            .unwrap();
        let mut names: Vec<String> = said.lines().map(str::to_owned).collect();
        names.retain(|name| name.ends_with("/treasure") || name.ends_with("/later"));
        names
    };
    let etcdctl = apt::unpacked("etcd-client", &["etcd-client"])
        .unwrap()
        .join("usr/bin/etcdctl");
    fs::copy(etcdctl, first.path("/usr/local/bin/etcdctl").unwrap()).unwrap();
    let members = || {
        let pki = "/etc/kubernetes/pki/etcd";
        first
            .must(&format!(
                "ETCDCTL_API=3 etcdctl --endpoints https://127.0.0.1:2379 --cacert {pki}/ca.crt \
                 --cert {pki}/healthcheck-client.crt --key {pki}/healthcheck-client.key member list"
            ))
            .unwrap()
    };
    let before = members();

    // What is damaged, or another cluster's, is refused while everything runs.
    let refused = operator.gantry("restore -i damaged -y").unwrap();
    assert_eq!(refused.status, Some(6), "{refused}");
    let another = include_bytes!("../../agent/src/etcd/database/test-snapshot.zst");
    operator
        .put("another.snapshot", zstd::decode_all(&another[..]).unwrap())
        .unwrap();
    let refused = operator.gantry("restore -i another.snapshot -y").unwrap();
    assert_eq!(refused.status, Some(5), "{refused}");
    assert!(refused.stderr.contains("is not of this cluster"), "{refused}");
    let refused = operator.gantry("restore --kept v1.99.0 -y").unwrap();
    assert_eq!(refused.status, Some(2), "{refused}");
    assert!(
        refused.stderr.contains("none is kept; give one with -i FILE"),
        "{refused}"
    );
    first.kubectl("get nodes").unwrap();

    first.kubectl("delete secret treasure").unwrap();
    first
        .kubectl("create configmap later --from-literal=word=after-the-snapshot")
        .unwrap();
    first.kubectl("label node --all gantry.test/later=yes").unwrap();
    let restored = operator.gantry("restore -i demo.snapshot -y").unwrap();
    assert!(restored.succeeded(), "{restored}");
    assert_eq!(words(), ["secret/treasure"]);
    let labels = first.kubectl("get nodes --show-labels").unwrap();
    assert!(!labels.contains("gantry.test/later"), "{labels}");
    assert_eq!(members(), before, "the member stays who it is");

    // Whoever watches the cluster sees what changes from now on.
    first
        .kubectl("create deployment web --image=none.example/none")
        .unwrap();
    wait_until(
        "the controllers see the deployment",
        Duration::from_secs(120),
        || {
            Ok(first
                .kubectl("get pods -o name")?
                .contains("pod/web-")
                .then_some(()))
        },
    )
    .unwrap();

    let undo = restored
        .stderr
        .split('`')
        .find(|words| words.starts_with("gantry restore --kept "));
    let undo = undo
        .unwrap_or_else(|| panic!("{restored}"))
        .trim_start_matches("gantry ");
    // On a host that has just booted etcd comes long after the agent.
    first.reboot().unwrap();
    first.prepare_for_kubernetes().unwrap();
    first.wait_for_agent().unwrap();
    let undone = operator.gantry(&format!("{undo} -y")).unwrap();
    assert!(undone.succeeded(), "{undone}{}", bed.kubernetes_logs());
    assert_eq!(words(), ["configmap/later"]);
    let pods = first.kubectl("get pods -o name").unwrap();
    assert!(!pods.contains("pod/web-"), "{pods}");

    // What the file says of nodes may be younger than the snapshot.
    let again = operator.apply().unwrap().ok().unwrap();
    assert_eq!(again.steps_on(first), ["labels and taints"]);
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
}

/// Nobody applies anything: rootfs, registry, control plane and pods are there again.
fn a_host_that_boots_again_comes_back_by_itself(bed: &Testbed) {
    let (operator, first) = (bed.operator(), bed.host(1));
    first
        .kubectl("create deployment hello --image=sea.hub:5000/hello:1.0 -- /bin/busybox sleep 3600")
        .unwrap();
    let limit = Duration::from_secs(300);
    let available = "wait --for=condition=Available --timeout=2s deployment/hello";
    let kubectl =
        format!("kubectl --kubeconfig /etc/kubernetes/admin.conf --cache-dir /run/kubectl {available}");
    let serves = || Ok(first.run(&kubectl)?.succeeded().then_some(()));
    wait_until("the pod runs", limit, serves).unwrap();
    let before = first.must("date --utc +%FT%TZ").unwrap();
    first.reboot().unwrap();
    first.prepare_for_kubernetes().unwrap();
    // What the cluster says before kubelet is back is of before.
    let fresh = || {
        let times = "get pods --selector=app=hello -o jsonpath='{.items[*].status.containerStatuses[*].state.running.startedAt}'";
        let started = first.run(&format!(
            "kubectl --kubeconfig /etc/kubernetes/admin.conf --cache-dir /run/kubectl {times}"
        ))?;
        let after = started.succeeded()
            && !started.stdout.is_empty()
            && started.stdout.split_whitespace().all(|at| at > before.trim());
        Ok(after.then_some(()))
    };
    wait_until("its pod was started after the boot", limit, fresh).unwrap();
    wait_until("the pod runs again", limit, serves).unwrap();
    first.wait_for_agent().unwrap();
    assert_eq!(
        operator.apply().unwrap().ok().unwrap().steps(),
        0,
        "nothing is missing"
    );
}
