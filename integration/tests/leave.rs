//! Hosts that are no longer in the Clusterfile: given back where they answer, given up where they never will.

use gantry_integration::{ImageTree, Snapshot, Testbed};

/// The agent's own stays when the cluster goes.
const STAYS: &[&str] = &["/var/lib/gantry", "/etc/gantry"];

#[test]
fn a_host_is_given_back_and_one_that_burnt_down_is_given_up() {
    let bed = Testbed::enrolled(3).unwrap();
    let (operator, [one, two, three]) = (bed.operator(), [bed.host(1), bed.host(2), bed.host(3)]);
    ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    let before = Snapshot::of(three, STAYS).unwrap();
    operator.clusterfile("demo:v1", &[one, two, three]).unwrap();
    operator.apply().unwrap().ok().unwrap();

    operator.clusterfile("demo:v1", &[one, two]).unwrap();
    operator.apply().unwrap().ok().unwrap();
    let changes = Snapshot::of(three, STAYS).unwrap().changes_since(&before);
    assert!(changes.is_empty(), "{changes:#?}");
    assert!(three.must("cat /var/log/scripts").unwrap().contains("clean.sh"));
    assert!(!two.must("cat /var/log/scripts").unwrap().contains("clean.sh"));
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    two.power_off().unwrap();
    operator.clusterfile("demo:v1", &[one]).unwrap();
    let refused = operator.apply().unwrap().finished;
    assert_eq!(refused.status, Some(7), "{refused}");
    assert!(refused.stderr.contains("gantry agents revoke"), "{refused}");
    operator
        .must(&format!("agents revoke {}", two.address()))
        .unwrap();
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
}
