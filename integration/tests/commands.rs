//! Commands of an image (`CMD`): on the first master, when everything else is done, in order, each once.

use gantry_integration::{ImageTree, Testbed};

#[test]
fn commands_run_once_in_order_and_a_failed_one_goes_on_from_there() {
    let bed = Testbed::enrolled(2).unwrap();
    let (operator, first, second) = (bed.operator(), bed.host(1), bed.host(2));
    ImageTree::with_scripts(&operator.desk().join("image"))
        .unwrap()
        .file("manifests/app.yaml", "kind: Namespace\n")
        .unwrap()
        .file(
            "Kubefile",
            "FROM scratch\nCOPY . .\nENV Greeting=hello\n\
             CMD echo \"one $Greeting $HostIP\" >>/var/log/commands\n\
             CMD test -e /root/go-on && cat manifests/app.yaml >>/var/log/commands\n\
             CMD echo three >>/var/log/commands\n",
        )
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[first, second]).unwrap();

    let failed = operator.apply().unwrap().finished;
    assert!(!failed.succeeded());
    assert!(failed.stderr.contains("CMD 2 failed on"), "{failed}");
    first.must("touch /root/go-on").unwrap();
    operator.apply().unwrap().ok().unwrap();
    assert_eq!(
        first.must("cat /var/log/commands").unwrap(),
        format!("one hello {}\nkind: Namespace\nthree\n", first.address())
    );
    assert!(!second.run("test -e /var/log/commands").unwrap().succeeded());
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
}
