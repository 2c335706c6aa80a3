//! A host is rebooted; its rootfs is there again before anything that lives in it starts.

use std::time::Duration;

use gantry_integration::{ImageTree, Testbed, wait_until};

#[test]
fn the_rootfs_is_mounted_again_after_a_reboot_and_nothing_is_left_to_do() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();
    operator.apply().unwrap().ok().unwrap();
    host.must("echo written >/var/lib/gantry/data/demo/rootfs/etc/by-a-program && sync")
        .unwrap();

    host.reboot().unwrap();
    host.wait_for_agent().unwrap();
    wait_until("the rootfs is mounted", Duration::from_secs(30), || {
        Ok(host
            .run("cat /var/lib/sealer/data/demo/rootfs/etc/daemon.json")?
            .succeeded()
            .then_some(()))
    })
    .unwrap();
    assert_eq!(
        host.must("cat /var/lib/gantry/data/demo/rootfs/etc/by-a-program")
            .unwrap(),
        "written\n"
    );
    let again = operator.apply().unwrap().ok().unwrap();
    assert_eq!(
        (again.received_bytes(), again.steps()),
        (0, 0),
        "{}",
        again.finished
    );
}

#[test]
fn a_script_cut_off_by_a_power_failure_is_unknown_and_runs_again() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let image = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    image
        .script(
            "init.sh",
            "echo init.sh >>/var/log/scripts; sync\n[ -e /root/go ] || sleep infinity\n",
        )
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();
    let apply = operator.start_apply().unwrap();
    wait_until("the script runs", Duration::from_secs(60), || {
        Ok(host.run("cat /var/log/scripts")?.succeeded().then_some(()))
    })
    .unwrap();
    apply.kill().unwrap();
    host.reboot().unwrap();
    host.wait_for_agent().unwrap();
    let status = operator.must("status").unwrap();
    assert!(status.contains("unknown"), "{status}");
    host.must("touch /root/go").unwrap();
    operator.apply().unwrap().ok().unwrap();
    assert_eq!(
        host.must("grep --count init.sh /var/log/scripts").unwrap().trim(),
        "2"
    );
}
