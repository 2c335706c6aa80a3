//! Templates of an image are rendered on every host with that host's values, and files that the Clusterfile has something
//! to say about become what it says.

use gantry_integration::{Host, ImageTree, Testbed};

#[test]
fn every_host_renders_its_own_values_before_its_scripts_run() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    ImageTree::at(&operator.desk().join("image"))
        .unwrap()
        .file(
            "etc/kubeadm.yml.tmpl",
            "advertiseAddress: {{ .HostIP }}\npodSubnet: {{ or .PodCIDR \"100.64.0.0/10\" }}\nregistry: {{ .RegistryURL }}\n",
        )
        .unwrap()
        .file("manifests/token.yaml.tmpl", "token: {{ b64enc .Token }}\n")
        .unwrap()
        .script("init.sh", "cat ../etc/kubeadm.yml >>/var/log/scripts\n")
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    let clusterfile = |pods: &str| {
        let [one, two] = [bed.host(1), bed.host(2)].map(Host::address);
        let text = format!(
            "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata:\n  name: demo\nspec:\n  image: demo:v1\n  \
             env: [ \"Token=abc\" ]\n  hosts:\n    - ips: [{one}]\n      roles: [master]\n    - ips: [{two}]\n      \
             roles: [node]\n      env: [ \"PodCIDR={pods}\" ]\n"
        );
        operator.put("Clusterfile", text).unwrap();
    };
    let rootfs = "/var/lib/gantry/data/demo/rootfs";
    clusterfile("10.244.0.0/16");
    operator.apply().unwrap().ok().unwrap();
    for (host, pods) in [(bed.host(1), "100.64.0.0/10"), (bed.host(2), "10.244.0.0/16")] {
        let expected = format!(
            "advertiseAddress: {}\npodSubnet: {pods}\nregistry: sea.hub:5000\n",
            host.address()
        );
        assert_eq!(
            host.must(&format!("cat {rootfs}/etc/kubeadm.yml")).unwrap(),
            expected
        );
        assert_eq!(
            host.must("cat /var/log/scripts").unwrap(),
            expected,
            "init.sh saw it"
        );
        let token = host.must(&format!("cat {rootfs}/manifests/token.yaml")).unwrap();
        assert_eq!(token, "token: YWJj\n");
    }
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // What was changed by hand is seen and put right, without running anything again.
    bed.host(1)
        .must(&format!("echo other >{rootfs}/etc/kubeadm.yml"))
        .unwrap();
    let plan = operator.must("plan -f Clusterfile").unwrap();
    assert!(
        plan.contains("drifted: etc/kubeadm.yml was changed by hand"),
        "{plan}"
    );
    let repaired = operator.apply().unwrap().ok().unwrap();
    assert_eq!(
        repaired.steps_on(bed.host(1)),
        ["templates"],
        "{}",
        repaired.finished
    );
    let now = bed
        .host(1)
        .must(&format!("cat {rootfs}/etc/kubeadm.yml"))
        .unwrap();
    assert!(now.starts_with("advertiseAddress:"), "{now}");
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // A changed value reaches the host it belongs to, and restarts what builds on it there.
    clusterfile("10.245.0.0/16");
    let changed = operator.apply().unwrap().ok().unwrap();
    assert_eq!(
        changed.steps_on(bed.host(1)),
        Vec::<String>::new(),
        "{}",
        changed.finished
    );
    assert_eq!(
        changed.steps_on(bed.host(2)),
        ["templates", "init.sh"],
        "{}",
        changed.finished
    );
    let now = bed
        .host(2)
        .must(&format!("cat {rootfs}/etc/kubeadm.yml"))
        .unwrap();
    assert!(now.contains("podSubnet: 10.245.0.0/16"), "{now}");
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
}

#[test]
fn configs_reach_every_host_and_what_the_image_has_comes_back() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    let rootfs = "/var/lib/gantry/data/demo/rootfs";
    let secret = "kind: Secret\nmetadata:\n  name: db\n";
    let values = "# ours\nhost: {{ .HostIP }}\nreplicas: 1\nmode: 0644\n";
    ImageTree::at(&operator.desk().join("image"))
        .unwrap()
        .file("etc/daemon.json", "{}\n")
        .unwrap()
        .file("charts/values.yaml.tmpl", values)
        .unwrap()
        .file("manifests/db.yaml", secret)
        .unwrap()
        .script(
            "init.sh",
            "cat ../etc/daemon.json ../charts/values.yaml ../manifests/db.yaml ../etc/new 2>/dev/null >/var/log/seen; \
             echo ran >>/var/log/runs\n",
        )
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    let clusterfile = |configs: &str| {
        let [one, two] = [bed.host(1), bed.host(2)].map(Host::address);
        let text = format!(
            "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata:\n  name: demo\nspec:\n  image: demo:v1\n  hosts:\n    \
             - ips: [{one}]\n      roles: [master]\n    - ips: [{two}]\n      roles: [node]\n{configs}"
        );
        operator.put("Clusterfile", text).unwrap();
    };
    let configs = |log: &str| {
        format!(
            "---\napiVersion: sealer.io/v1\nkind: Config\nmetadata: {{ name: docker }}\nspec:\n  path: etc/daemon.json\n  \
             data: |\n    {{\"log\": \"{log}\"}}\n\
             ---\napiVersion: sealer.io/v1\nkind: Config\nmetadata: {{ name: values }}\nspec:\n  path: charts/values.yaml\n  \
             strategy: merge\n  data: |\n    replicas: 3\n    image: {{ tag: v1 }}\n\
             ---\napiVersion: sealer.io/v1\nkind: Config\nmetadata: {{ name: db }}\nspec:\n  path: manifests/db.yaml\n  \
             strategy: merge\n  process: value|toJson|toSecret\n  data: |\n    login: {{ user: root, password: hunter2 }}\n\
             ---\nkind: Config\nmetadata: {{ name: new }}\nspec: {{ path: etc/new, data: \"new\\n\" }}\n"
        )
    };
    // {"password":"hunter2","user":"root"}
    let login = "eyJwYXNzd29yZCI6Imh1bnRlcjIiLCJ1c2VyIjoicm9vdCJ9";
    let with = |host: &Host, log: &str| {
        format!(
            "{{\"log\": \"{log}\"}}\nhost: {}\nreplicas: 3\nmode: 0644\nimage:\n  tag: v1\n{secret}data:\n  \
             login: \"{login}\"\nnew\n",
            host.address()
        )
    };
    let without = |host: &Host| {
        format!(
            "{{}}\n# ours\nhost: {}\nreplicas: 1\nmode: 0644\n{secret}",
            host.address()
        )
    };
    let hosts = [bed.host(1), bed.host(2)];
    let apply = || operator.apply().unwrap().ok().unwrap();
    let seen = |host: &Host| host.must("cat /var/log/seen").unwrap();

    clusterfile(&configs("warn"));
    apply();
    for host in hosts {
        assert_eq!(seen(host), with(host, "warn"), "init.sh saw them");
    }
    assert_eq!(apply().steps(), 0);

    // Changed data restarts the scripts and nothing else.
    clusterfile(&configs("info"));
    let changed = apply();
    for host in hosts {
        assert_eq!(
            changed.steps_on(host),
            ["configs", "init.sh"],
            "{}",
            changed.finished
        );
        assert_eq!(seen(host), with(host, "info"));
    }
    assert_eq!(apply().steps(), 0);

    // What was changed by hand is put right, without running anything again; rendering leaves it alone.
    bed.host(1)
        .must(&format!(
            "echo other >{rootfs}/charts/values.yaml; rm {rootfs}/etc/new"
        ))
        .unwrap();
    let plan = operator.must("plan -f Clusterfile").unwrap();
    assert!(
        plan.contains("drifted: charts/values.yaml was changed by hand"),
        "{plan}"
    );
    let repaired = apply();
    assert_eq!(
        repaired.steps_on(bed.host(1)),
        ["configs"],
        "{}",
        repaired.finished
    );
    let values = bed
        .host(1)
        .must(&format!("cat {rootfs}/charts/values.yaml"))
        .unwrap();
    assert!(values.contains("replicas: 3"), "{values}");

    // Neither the journal nor the logs know what was in them.
    let told = bed
        .host(1)
        .must("journalctl -u gantry-agent --no-pager; cat /var/lib/gantry/agent/journal*")
        .unwrap();
    assert!(
        told.contains("config files written")
            && told.contains("write-configs")
            && !told.contains("hunter2")
            && !told.contains(login),
        "{told}"
    );

    // Without them the image's own files are back.
    clusterfile("");
    let removed = apply();
    for host in hosts {
        assert_eq!(
            removed.steps_on(host),
            ["configs", "init.sh"],
            "{}",
            removed.finished
        );
        assert_eq!(seen(host), without(host));
        assert!(
            !host
                .run(&format!("test -e {rootfs}/etc/new"))
                .unwrap()
                .succeeded()
        );
    }
    assert_eq!(apply().steps(), 0);

    // What does not fit the image is named, and nothing is done.
    clusterfile("---\nkind: Config\nspec: { path: etc/demon.json, data: \"a: 1\", strategy: merge }\n");
    let refused = operator.apply().unwrap().finished;
    let said = refused.all_output();
    assert!(
        !refused.succeeded()
            && said.contains("etc/demon.json is not in the image; did you mean `etc/daemon.json`?"),
        "{said}"
    );
}

#[test]
fn a_template_with_a_mistake_is_named_and_no_script_runs() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let tree = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    let tree = tree
        .file("etc/kubeadm.yml.tmpl", "kind: x\n{{ if .HostIP }}cut off")
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();
    let refused = operator.apply().unwrap().finished;
    assert!(!refused.succeeded());
    let said = refused.all_output();
    assert!(
        said.contains("etc/kubeadm.yml.tmpl:2:1: {{if}} has no {{end}}"),
        "{said}"
    );
    assert!(
        !host.run("test -e /var/lib/gantry/data/demo").unwrap().succeeded(),
        "found before anything was changed"
    );

    tree.file("etc/kubeadm.yml.tmpl", "kind: x\n{{ if .HostIP }}whole{{ end }}")
        .unwrap();
    operator.must("build -t demo:v2 image").unwrap();
    operator.clusterfile("demo:v2", &[host]).unwrap();
    operator.apply().unwrap().ok().unwrap();
}
