//! What Kubernetes asks of its hosts is asked of all of them before anything is changed on any.

use gantry_integration::Testbed;

#[test]
fn one_report_names_everything_on_every_host_and_nothing_is_changed() {
    let bed = Testbed::for_kubernetes(1, 1).unwrap();
    let (operator, [one, two]) = (bed.operator(), [bed.host(1), bed.host(2)]);
    one.must("mv /usr/bin/nsenter /usr/bin/nsenter-not-here").unwrap();
    one.must("grep -v ^memory /proc/cgroups >/run/cgroups && mount --bind /run/cgroups /proc/cgroups")
        .unwrap();
    two.must("hostname HOST1").unwrap();
    two.must(
        "ip link add office type bridge && ip address add 10.96.1.1/24 dev office && ip link set office up",
    )
    .unwrap();

    let refused = operator.apply().unwrap().finished;
    assert_eq!(refused.status, Some(3), "{refused}");
    let said = |check: &str, host: &str, what: &str| {
        let line = |line: &&str| line.contains(&format!("✗ {check}")) && line.contains(host);
        let found = refused.stderr.lines().find(line);
        assert!(
            found.is_some_and(|line| line.contains(what)),
            "{check}: {refused}"
        );
    };
    let (first, second) = (one.address().to_string(), two.address().to_string());
    said("tools", &first, "nsenter");
    said("cgroups", &first, "memory");
    said("identity", &second, "HOST1");
    said("networks", &second, "10.96.1.0/24, which it reaches by office");
    for host in bed.hosts() {
        assert!(!host.run("ls /var/lib/gantry/data/demo").unwrap().succeeded());
    }

    let skipped = operator
        .gantry("plan -f Clusterfile --skip-preflight=tools,cgroups,identity,networks")
        .unwrap();
    assert!(skipped.succeeded(), "{skipped}");
}
