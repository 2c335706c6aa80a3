//! Commands of an image (`CMD`, `LAUNCH`): on the first master, when everything else is done, in order, each once.

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

#[test]
fn applications_are_launched_with_their_own_environment() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    ImageTree::with_scripts(&operator.desk().join("image"))
        .unwrap()
        .file("apps/one.sh", "echo \"one $PWD $Greeting $Replicas\" >>/var/log/applications\n")
        .unwrap()
        .file("apps/two.txt", "two\n")
        .unwrap()
        .file(
            "Kubefile",
            "FROM scratch\nCOPY . .\nENV Greeting=hello Replicas=1\n\
             APP one local://apps/one.sh\nAPPENV one Replicas=2\n\
             APP two local://apps/two.txt\n\
             APPCMDS two [\"cat two.txt >>/var/log/applications\", \"&& echo $Replicas >>/var/log/applications\"]\n\
             LAUNCH two one\n",
        )
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();
    operator.apply().unwrap().ok().unwrap();
    let log = host.must("cat /var/log/applications").unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..2], ["two", "1"], "{log}");
    assert!(
        lines[2].starts_with("one /") && lines[2].ends_with(" hello 2"),
        "{log}"
    );
    assert_eq!(lines.len(), 3, "{log}");
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
}
