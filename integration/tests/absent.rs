//! A host that is off during an apply.

use gantry_integration::{ImageTree, Testbed};

#[test]
fn a_host_that_was_off_during_an_apply_is_made_up_for_by_the_next_one() {
    let bed = Testbed::enrolled(3).unwrap();
    let (operator, [one, two, three]) = (bed.operator(), [bed.host(1), bed.host(2), bed.host(3)]);
    let image = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[one, two, three]).unwrap();
    operator.apply().unwrap().ok().unwrap();
    three.power_off().unwrap();
    image.file("etc/release", "2\n").unwrap();
    operator.must("build -t demo:v2 image").unwrap();
    operator.clusterfile("demo:v2", &[one, two, three]).unwrap();

    let refused = operator.apply().unwrap().finished;
    assert_eq!(refused.status, Some(7), "{refused}");
    assert!(refused.stderr.contains("--skip-unreachable"), "{refused}");
    let plan = operator.gantry("plan --skip-unreachable").unwrap();
    let without = format!("without {}, which does not answer", three.address());
    assert!(plan.succeeded() && plan.stdout.contains(&without), "{plan}");
    for done in ["done on 2 of 3 hosts", "nothing to do"] {
        let apply = operator.gantry("apply --skip-unreachable -y").unwrap();
        assert_eq!(apply.status, Some(4), "{apply}");
        assert!(apply.stderr.contains(done), "{apply}");
        let left_out = format!("Left out: {}.", three.address());
        assert!(apply.stderr.contains(&left_out), "{apply}");
    }

    three.power_on().unwrap();
    three.wait_for_agent().unwrap();
    let apply = operator.apply().unwrap().ok().unwrap();
    assert!(apply.steps_on(three).contains(&"rootfs".to_owned()), "{apply:?}");
    for host in [one, two] {
        assert_eq!(apply.steps_on(host), Vec::<String>::new());
    }
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // Everything builds on the first master.
    one.power_off().unwrap();
    let refused = operator.gantry("apply --skip-unreachable -y").unwrap();
    assert_eq!(refused.status, Some(7), "{refused}");
}
