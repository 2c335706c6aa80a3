//! Reset gives a host back as it was.

use gantry_integration::{Host, ImageTree, Snapshot, Testbed};

#[test]
fn a_reset_leaves_the_host_as_it_was_before_apply() {
    let bed = Testbed::enrolled(3).unwrap();
    let operator = bed.operator();
    let image = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    let image = image
        // As those of images with Kubernetes, and its kubelet.
        .script(
            "init.sh",
            "echo made by init.sh >/opt/made\necho 1 >/proc/sys/net/ipv4/ip_forward\n\
             mkdir -p /var/log/{pods/kube-system_etcd,containers} && echo started >/var/log/pods/kube-system_etcd/0.log\n\
             ln -sf /var/log/pods/kube-system_etcd/0.log /var/log/containers/etcd.log\n",
        )
        .unwrap();
    image
        .script("clean.sh", "rm /opt/made\necho clean.sh ran\n")
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    let [one, two, three] = [bed.host(1), bed.host(2), bed.host(3)];
    operator.clusterfile("demo:v1", &[one, two, three]).unwrap();
    // One of them has forwarded packets before, and goes on.
    let forwards = "cat /proc/sys/net/ipv4/ip_forward";
    bed.host(2).must("echo 1 >/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!(bed.host(1).must(forwards).unwrap(), "0\n");
    let before = bed.snapshots().unwrap();

    operator.apply().unwrap().ok().unwrap();
    let applied = Snapshot::beside_agent(bed.host(1))
        .unwrap()
        .changes_since(&before[0]);
    let forwarding = |line: &String| line == "+ setting net/ipv4/ip_forward:1";
    assert!(applied.iter().any(forwarding), "{applied:?}");
    operator.must("reset -f Clusterfile -y").unwrap();
    for (host, before) in bed.hosts().iter().zip(&before) {
        host.ensure_as_before(before).unwrap();
    }

    // Nothing that an image brought is left in the agent's own folders.
    let has_nothing = |host: &Host| {
        let left =
            "cd /var/lib/gantry && find data store/layers store/partial -mindepth 1 ! -path data/overlay2";
        assert_eq!(host.must(left).unwrap(), "", "on {}", host.name());
    };
    bed.hosts().iter().for_each(has_nothing);

    // Nothing is remembered: the next apply does it all again.
    let anew = operator.apply().unwrap().ok().unwrap();
    assert!(
        anew.steps_on(bed.host(2)).contains(&"init.sh".to_owned()),
        "{}",
        anew.finished
    );

    // One is given up and off, another one is edited out and nothing applied since.
    three.power_off().unwrap();
    operator.clusterfile("demo:v1", &[one, two]).unwrap();
    operator.must("apply --force -y").unwrap();
    operator.clusterfile("demo:v1", &[one]).unwrap();
    let reset = operator.gantry("reset -y").unwrap();
    assert_eq!(reset.status, Some(4), "{reset}");
    for said in ["is left as it is", "has been cleaned"] {
        let said = reset
            .stderr
            .lines()
            .any(|line| line.contains(said) && line.contains(&three.address().to_string()));
        assert!(said, "{reset}");
    }
    for (host, before) in [one, two].into_iter().zip(&before) {
        host.ensure_as_before(before).unwrap();
        has_nothing(host);
    }
    three.power_on().unwrap();
    three.wait_for_agent().unwrap();
    let reset = operator.must("reset -y").unwrap();
    assert!(reset.contains(&three.address().to_string()), "{reset}");
    has_nothing(three);
    // Forgotten by now: the one that is in the file is asked alone.
    let reset = operator.must("reset -y").unwrap();
    assert!(!reset.contains(&three.address().to_string()), "{reset}");

    // A runtime that came since needs the network as it is.
    operator.apply().unwrap().ok().unwrap();
    one.must("cp /bin/sleep /usr/local/bin/containerd && systemd-run --quiet containerd infinity")
        .unwrap();
    operator.must("reset -f Clusterfile -y --no-clean").unwrap();
    assert_eq!(one.must(forwards).unwrap(), "1\n");
    one.must("journalctl --unit gantry-agent | grep 'net.ipv4.ip_forward stay as the cluster left them: containerd runs'")
        .unwrap();
}
