//! Templates of an image are rendered on every host with that host's values.

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
