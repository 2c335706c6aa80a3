//! Gantry's own CA is replaced while hosts are off, and nobody is locked out.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use gantry_integration::{Host, ImageTree, Operator, Testbed};

/// Exit codes of `gantry certs rotate-ca`.
const HOSTS_MISSING: i32 = 4;
const IDENTITIES_MISSING: i32 = 3;

#[test]
fn a_ca_is_replaced_with_a_host_off_that_comes_back_and_the_old_one_is_refused_then() {
    let bed = Testbed::enrolled(2).unwrap();
    let (operator, here, off) = (bed.operator(), bed.host(1), bed.host(2));
    apply(operator, "one", &[here, off]);
    operator
        .must("operator add ann --role operator --output ann")
        .unwrap();

    off.must("systemctl stop gantry-agent").unwrap();
    let begun = operator
        .gantry("certs rotate-ca -y --connect-timeout 2s")
        .unwrap();
    assert_eq!(begun.status, Some(HOSTS_MISSING), "{begun}");
    assert!(
        begun.stderr.contains(&off.address().to_string())
            && !begun.stderr.contains(&here.address().to_string()),
        "{begun}"
    );
    // The agent that has both CAs is started anew, and still has them; the other one knows nothing.
    here.kill_agent().unwrap();
    off.must("systemctl start gantry-agent").unwrap();
    off.wait_for_agent().unwrap();
    apply(operator, "two", &[here, off]);
    operator.must("--identity ann status").unwrap();
    let listed = operator.gantry("certs -o json").unwrap();
    assert!(
        listed.succeeded() && listed.stderr.contains("waits for ann"),
        "{listed}"
    );

    let held_up = operator.gantry("certs rotate-ca -y").unwrap();
    assert_eq!(held_up.status, Some(IDENTITIES_MISSING), "{held_up}");
    assert!(held_up.stderr.contains("operator ann"), "{held_up}");
    operator
        .must("operator add ann --role operator --output ann-anew")
        .unwrap();
    for identity in ["ann", "ann-anew"] {
        operator.must(&format!("--identity {identity} status")).unwrap();
    }

    let done = operator.gantry("certs rotate-ca -y").unwrap();
    assert!(done.succeeded() && done.stderr.contains("Done"), "{done}");
    let refused = operator.gantry("--identity ann status").unwrap();
    assert!(
        !refused.succeeded() && refused.all_output().contains("signed by another CA"),
        "{refused}"
    );
    for host in [here, off] {
        assert!(host.agent_log().contains("another CA"), "{}", host.agent_log());
    }
    operator.must("--identity ann-anew status").unwrap();
    here.reboot().unwrap();
    here.wait_for_agent().unwrap();
    apply(operator, "three", &[here, off]);
}

#[test]
fn a_host_enrolled_while_a_ca_is_replaced_serves_everybody_at_once() {
    let bed = Testbed::start(2).unwrap();
    let (operator, first, late) = (bed.operator(), bed.host(1), bed.host(2));
    bed.hosts().iter().for_each(|host| host.install_agent().unwrap());
    operator.enroll(&[first]).unwrap();
    operator
        .must("operator add ann --role operator --output ann")
        .unwrap();
    first.must("systemctl stop gantry-agent").unwrap();
    let begun = operator
        .gantry("certs rotate-ca -y --connect-timeout 2s")
        .unwrap();
    assert_eq!(begun.status, Some(HOSTS_MISSING), "{begun}");

    operator.enroll(&[late]).unwrap();
    apply(operator, "one", &[late]);
    operator.must("--identity ann status").unwrap();
    first.must("systemctl start gantry-agent").unwrap();
    first.wait_for_agent().unwrap();
    let done = operator.gantry("certs rotate-ca -y --drop-identities").unwrap();
    assert!(done.succeeded(), "{done}");
    let refused = operator.gantry("--identity ann status").unwrap();
    assert!(!refused.succeeded(), "{refused}");
    apply(operator, "two", &[late, first]);
}

/// Applies another image to the hosts.
fn apply(operator: &Operator, name: &str, hosts: &[&Host]) {
    let image = ImageTree::with_scripts(&operator.desk().join(name)).unwrap();
    let image = image.file("manifests/name", name).unwrap();
    operator
        .must(&format!("build -t {name}:v1 {}", image.folder().display()))
        .unwrap();
    operator.clusterfile(&format!("{name}:v1"), hosts).unwrap();
    operator.apply().unwrap().ok().unwrap();
}
