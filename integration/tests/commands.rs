//! Commands and applications of an image (`CMD`, `LAUNCH`): on the first master, when everything else is done, in order, each once.

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

#[test]
fn the_file_chooses_applications_and_how_they_are_launched() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let say = "echo \"$0 $Replicas $Pool\" >>/var/log/applications\n";
    ImageTree::with_scripts(&operator.desk().join("image"))
        .unwrap()
        .file("apps/web/web.sh", format!("{say}cat size >>/var/log/applications\n"))
        .unwrap()
        .file("apps/web/size.tmpl", "size {{ .Replicas }} {{ .Pool }}\n")
        .unwrap()
        .file("apps/batch.sh", say)
        .unwrap()
        .file("apps/values.yaml", "replicas: 1\n")
        .unwrap()
        .file(
            "Kubefile",
            "FROM scratch\nCOPY . .\nAPP web local://apps/web\nAPPCMDS web [\"bash\", \"web.sh\"]\nAPPENV web Replicas=1\nAPP batch local://apps/batch.sh\n\
             APP values local://apps/values.yaml\nAPPCMDS values [\"true\"]\nLAUNCH web values\n",
        )
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    let clusterfile = |application: &str| {
        let file = operator.clusterfile("demo:v1", &[host]).unwrap();
        let text = std::fs::read_to_string(operator.desk().join(file)).unwrap();
        let document = format!("---\napiVersion: sealer.io/v2\nkind: Application\nspec:\n{application}");
        operator.put(file, format!("{text}{document}")).unwrap();
    };
    let launched = || host.must("cat /var/log/applications").unwrap();

    clusterfile("  launchApps: [ btch ]\n");
    let refused = operator.gantry("apply -f Clusterfile -y").unwrap();
    let said = refused.all_output();
    assert_eq!(refused.status, Some(2), "{said}");
    assert!(
        said.contains("image demo:v1 has no application \"btch\"")
            && said.contains("Clusterfile:")
            && said.contains("did you mean `batch`?"),
        "{said}"
    );

    // Without its leave a host runs what is in the image, and no files that a script could be hidden in.
    let settings = "  configs:\n    - name: web\n      env: [ Replicas=3, Pool=fast ]\n    - name: values\n      \
                    files: [ { path: values.yaml, strategy: merge, data: \"replicas: 2\" } ]\n";
    clusterfile(&format!("  launchApps: [ batch, web ]\n{settings}"));
    operator.apply().unwrap().ok().unwrap();
    let batch = "application/apps/batch/batch.sh  \n";
    let web = "web.sh 3 fast\nsize 3 fast\n";
    assert_eq!(launched(), format!("{batch}{web}"));
    let values = host
        .must("cat /var/lib/gantry/data/demo/rootfs/application/apps/values/values.yaml")
        .unwrap();
    assert_eq!(values, "replicas: 2\n");
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // Another choice, with commands of its own.
    let own = "    - { name: batch, launch: { cmds: [ \"echo $PWD >/dev/null\", \"echo own >>/var/log/applications\" ] } }\n";
    clusterfile(&format!("  launchApps: [ batch, web ]\n{settings}{own}"));
    let refused = operator.gantry("apply -f Clusterfile -y").unwrap();
    assert_eq!(refused.status, Some(3), "{refused}");
    assert!(
        refused.all_output().contains("application batch would run there"),
        "{refused}"
    );
    host.must("echo allow_exec = true >/etc/gantry/agent.toml && systemctl restart gantry-agent")
        .unwrap();
    host.wait_for_agent().unwrap();
    let changed = operator.apply().unwrap().ok().unwrap();
    assert_eq!(
        changed.steps_on(host),
        ["application batch"],
        "{}",
        changed.finished
    );
    assert_eq!(launched(), format!("{batch}{web}own\n"));
}
