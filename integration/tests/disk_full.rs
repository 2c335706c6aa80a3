//! A host without room refuses before the first byte, and is served once it has room.

use gantry_integration::{Applied, ImageTree, Testbed, packages::Packages};

#[test]
fn a_full_disk_is_named_before_a_byte_travels_and_nothing_is_half_applied() {
    let bed = Testbed::start(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    host.must("mkdir -p /var/lib/gantry && mount -t tmpfs -o size=24m tmpfs /var/lib/gantry")
        .unwrap();
    host.install_deb(&Packages::find().unwrap().agent).unwrap();
    host.wait_for_agent().unwrap();
    operator.enroll(&[host]).unwrap();
    let image = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    image.incompressible("images/big", 40 << 20, 3).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();

    // Once by the orchestrator's preflight, once by the agent itself when that is left out.
    for words in ["", "--skip-preflight disk"] {
        let refused = operator
            .gantry(&format!("apply -f Clusterfile -y --progress json {words}"))
            .unwrap();
        let refused = Applied::read(refused);
        assert!(!refused.finished.succeeded());
        assert_eq!(refused.received_bytes(), 0, "{}", refused.finished);
        let said = refused.finished.all_output().to_lowercase();
        assert!(
            said.contains("space") || said.contains("free"),
            "{}",
            refused.finished
        );
    }
    assert!(
        !host
            .run("test -e /var/lib/gantry/data/demo/rootfs")
            .unwrap()
            .succeeded()
    );
    assert!(!host.run("test -e /var/log/scripts").unwrap().succeeded());

    host.must("mount -o remount,size=600m /var/lib/gantry").unwrap();
    operator.apply().unwrap().ok().unwrap();
    host.must("test -s /var/lib/gantry/data/demo/rootfs/images/big")
        .unwrap();
}
