//! A Clusterfile is applied on three hosts.

use gantry_integration::{Applied, ImageTree, Testbed};

#[test]
fn three_hosts_get_the_image_and_run_its_scripts() {
    let bed = Testbed::enrolled(3).unwrap();
    let operator = bed.operator();
    let tree = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    tree.file("registry/docker/registry/v2/marker", "the registry's own")
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator
        .clusterfile("demo:v1", &bed.hosts().iter().collect::<Vec<_>>())
        .unwrap();

    let first = operator.apply().unwrap().ok().unwrap();
    assert!(first.received_bytes() > 0);
    for host in bed.hosts() {
        // The early contract: STORAGE DOMAIN PORT, and init.sh itself calls the other two.
        let expected =
            "init.sh /var/lib/docker sea.hub 5000\ndocker.sh /var/lib/docker sea.hub 5000\ninit-kube.sh \n";
        let ran = host.must("grep -v registry /var/log/scripts").unwrap();
        assert_eq!(ran, expected, "on {}", host.name());
        // The rootfs is where both contracts look for it, and shows the image.
        for root in ["/var/lib/gantry", "/var/lib/sealer"] {
            assert_eq!(
                host.must(&format!("cat {root}/data/demo/rootfs/etc/daemon.json"))
                    .unwrap(),
                "{}\n"
            );
        }
        let names = host
            .must("getent -s files hosts sea.hub apiserver.cluster.local")
            .unwrap();
        assert_eq!(names.lines().count(), 2, "{names}");
        assert!(names.contains(&bed.host(1).address().to_string()));
    }
    let registry = bed.host(1).must("grep registry /var/log/scripts").unwrap();
    assert!(
        registry.starts_with("init-registry.sh 5000 /var/lib/"),
        "{registry}"
    );
    assert!(
        !bed.host(2)
            .run("grep registry /var/log/scripts")
            .unwrap()
            .succeeded()
    );

    let again = operator.apply().unwrap().ok().unwrap();
    assert_eq!(
        (again.received_bytes(), again.steps()),
        (0, 0),
        "{}",
        again.finished
    );
    let plan = operator
        .gantry("plan -f Clusterfile --detailed-exitcode")
        .unwrap();
    assert_eq!(plan.status, Some(0), "{plan}");
}

#[test]
fn host_aliases_are_names_on_every_host_for_as_long_as_the_file_has_them() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    let _ = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    let hosts: Vec<_> = bed.hosts().iter().collect();
    let file = operator
        .desk()
        .join(operator.clusterfile("demo:v1", &hosts).unwrap());
    let plain = std::fs::read_to_string(&file).unwrap();
    let with = |aliases: &str| std::fs::write(&file, format!("{plain}  hostAliases:\n{aliases}")).unwrap();
    let found = |name: &str| {
        let asked = hosts
            .iter()
            .map(|host| host.run(&format!("getent -s files ahostsv4 {name}")).unwrap());
        let address = |answer: String| answer.split_whitespace().next().unwrap_or_default().to_owned();
        asked.map(|answer| address(answer.stdout)).collect::<Vec<_>>()
    };
    for host in &hosts {
        host.must("echo '10.9.9.9 ours' >>/etc/hosts").unwrap();
    }

    with(
        "    - { ip: 10.9.0.1, hostnames: [nfs, nfs.example] }\n    - { ip: 10.9.0.2, hostnames: [time] }\n",
    );
    operator.apply().unwrap().ok().unwrap();
    for (name, address) in [
        ("nfs", "10.9.0.1"),
        ("nfs.example", "10.9.0.1"),
        ("time", "10.9.0.2"),
    ] {
        assert_eq!(found(name), [address; 2], "{name}");
    }
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // One of them moves, one goes; no script runs for it.
    with("    - { ip: 10.9.0.3, hostnames: [nfs] }\n");
    let applied = operator.apply().unwrap().ok().unwrap();
    for host in &hosts {
        assert_eq!(applied.steps_on(host), ["hosts entries"]);
    }
    assert_eq!(found("nfs"), ["10.9.0.3"; 2]);
    for gone in ["nfs.example", "time"] {
        assert_eq!(found(gone), [""; 2], "{gone}");
    }

    std::fs::write(&file, &plain).unwrap();
    operator.apply().unwrap().ok().unwrap();
    assert_eq!(found("nfs"), [""; 2]);
    assert_eq!(found("ours"), ["10.9.9.9"; 2]);
    assert_ne!(found("sea.hub"), [""; 2]);
}

#[test]
fn a_new_image_sends_only_what_the_hosts_lack() {
    let bed = Testbed::enrolled(1).unwrap();
    let operator = bed.operator();
    let size = 4 << 20;
    let image = ImageTree::with_scripts(&operator.desk().join("image"))
        .unwrap()
        .incompressible("cri/big", size, 1)
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[bed.host(1)]).unwrap();
    let first = operator.apply().unwrap().ok().unwrap();
    assert!(first.received_bytes() > size as u64);

    // The seed's second example, word for word: a base image, and one file of it overwritten.
    std::fs::create_dir(operator.desk().join("changed")).unwrap();
    std::fs::write(
        operator.desk().join("changed/Kubefile"),
        "FROM demo:v1\nCOPY daemon.json etc/\n",
    )
    .unwrap();
    std::fs::write(operator.desk().join("changed/daemon.json"), "{\"debug\": true}\n").unwrap();
    operator.must("build -t demo:v2 changed").unwrap();
    operator.clusterfile("demo:v2", &[bed.host(1)]).unwrap();
    let second = operator.apply().unwrap().ok().unwrap();
    assert!(
        second.received_bytes() < 64 << 10,
        "{} bytes travelled for one small file",
        second.received_bytes()
    );
    let daemon = bed
        .host(1)
        .must("cat /var/lib/gantry/data/demo/rootfs/etc/daemon.json")
        .unwrap();
    assert_eq!(daemon, "{\"debug\": true}\n");

    // The same tree built anew as one layer: the big file is on the host already, in another layer.
    image.file("etc/daemon.json", "{\"debug\": false}\n").unwrap();
    operator.must("build -t demo:v3 image").unwrap();
    operator.clusterfile("demo:v3", &[bed.host(1)]).unwrap();
    let third = operator.apply().unwrap().ok().unwrap();
    assert!(
        third.received_bytes() < 64 << 10,
        "{} bytes travelled though the host had the file",
        third.received_bytes()
    );
}

#[test]
fn staged_the_day_before_nothing_travels_in_the_change_window() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    let size = 4 << 20;
    ImageTree::with_scripts(&operator.desk().join("image"))
        .unwrap()
        .incompressible("cri/big", size, 1)
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator
        .clusterfile("demo:v1", &bed.hosts().iter().collect::<Vec<_>>())
        .unwrap();

    let staged = operator.gantry("stage -f Clusterfile --progress json").unwrap();
    let staged = Applied::read(staged).ok().unwrap();
    assert!(staged.received_bytes() > 2 * size as u64);
    for host in bed.hosts() {
        assert_eq!(staged.steps_on(host), ["stage"], "{}", staged.finished);
        let changed = host.run("test -e /var/log/scripts -o -e /var/lib/gantry/data/demo");
        assert!(!changed.unwrap().succeeded(), "staging changed {}", host.name());
    }
    let again = operator.gantry("stage -f Clusterfile --progress json").unwrap();
    assert_eq!(Applied::read(again).ok().unwrap().steps(), 0);

    let applied = operator.apply().unwrap().ok().unwrap();
    assert_eq!(applied.received_bytes(), 0, "{}", applied.finished);
    bed.hosts()[0].must("grep init.sh /var/log/scripts").unwrap();
}

#[test]
fn an_image_and_hosts_are_run_without_a_clusterfile() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    let tree = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    tree.file(
        "etc/Clusterfile",
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {name: shop}\nspec:\n  image: demo:v0\n  \
         hosts: [{ips: [192.0.2.1], roles: [master]}]\n---\nkind: Config\nspec: {path: etc/site, data: ours}\n",
    )
    .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    let (first, second) = (bed.host(1).address(), bed.host(2).address());
    let run = |words: &str| {
        let run = operator.gantry(&format!("run demo:v1 -y --progress json {words}"));
        Applied::read(run.unwrap())
    };
    let ran = run(&format!("-m {first}")).ok().unwrap();
    assert!(ran.received_bytes() > 0);
    let site = "cat /var/lib/gantry/data/shop/rootfs/etc/site";
    assert_eq!(bed.host(1).must(site).unwrap(), "ours");
    let again = run(&format!("-m {first}")).ok().unwrap();
    assert_eq!((again.received_bytes(), again.steps()), (0, 0));

    // Another host comes by the command that says so, with the Clusterfile that was made. The copy in the state is without Configs.
    let refused = run(&format!("-m {first} -n {second}")).finished;
    assert_eq!(refused.status, Some(2), "{refused}");
    assert!(refused.stderr.contains("--print >Clusterfile"), "{refused}");
    let made = operator.must(&format!("run demo:v1 --print -m {first}")).unwrap();
    operator.put("Clusterfile", made).unwrap();
    operator
        .must(&format!("join -y -f Clusterfile -n {second}"))
        .unwrap();
    assert_eq!(bed.host(2).must(site).unwrap(), "ours");
    let same = run(&format!("-m {first} -n {second}")).ok().unwrap();
    assert_eq!(same.steps(), 0, "{}", same.finished);
}
