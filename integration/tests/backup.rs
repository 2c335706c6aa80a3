//! A snapshot of a cluster's etcd: whole, private, and good for etcd's own tools.

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
