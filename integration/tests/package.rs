//! The packages: installed, removed, purged.

use gantry_integration::{ImageTree, Snapshot, Testbed, packages::Packages};

#[test]
fn purge_leaves_the_host_as_it_was_before_installation() {
    let bed = Testbed::start(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let before = Snapshot::of(host, &["/var/lib/dpkg"]).unwrap();
    host.install_agent().unwrap();
    operator.enroll(&[host]).unwrap();
    ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();
    operator.apply().unwrap().ok().unwrap();

    // `remove` stops the agent and keeps everything it knows, the rootfs mounted.
    host.must("dpkg --remove gantry-agent").unwrap();
    assert!(!host.run("systemctl is-active gantry-agent").unwrap().succeeded());
    host.must("test -s /var/lib/gantry/agent/identity/cert.pem && test -e /etc/gantry/agent.toml")
        .unwrap();
    host.must("cat /var/lib/gantry/data/demo/rootfs/etc/daemon.json")
        .unwrap();

    // Installed again, it is the agent it was: no new enrolment, nothing to do.
    host.install_agent().unwrap();
    let again = operator.apply().unwrap().ok().unwrap();
    assert_eq!(again.steps(), 0, "{}", again.finished);

    // What somebody mounted into the rootfs is unmounted, never emptied.
    host.must("mkdir -p /srv/precious && echo data >/srv/precious/file")
        .unwrap();
    host.must("mkdir /var/lib/gantry/data/demo/rootfs/mnt && mount --bind /srv/precious /var/lib/gantry/data/demo/rootfs/mnt").unwrap();
    host.must("dpkg --purge gantry-agent").unwrap();
    assert_eq!(
        host.must("cat /srv/precious/file && rm -r /srv/precious")
            .unwrap(),
        "data\n"
    );
    let after = Snapshot::of(host, &["/var/lib/dpkg"]).unwrap();
    // /etc/hosts is a reset's to mend; purge does not touch what is not the package's.
    let changes: Vec<String> = after
        .changes_since(&before)
        .into_iter()
        .filter(|line| !line.contains("/etc/hosts"))
        .collect();
    assert_eq!(changes, Vec::<String>::new());
}

#[test]
fn an_upgrade_restarts_the_agent_and_keeps_a_changed_configuration() {
    let bed = Testbed::start(1).unwrap();
    let host = bed.host(1);
    host.install_agent().unwrap();
    host.must("echo '# mine' >>/etc/gantry/agent.toml").unwrap();
    let before = host.agent_pid().unwrap();
    host.install_deb(&Packages::find().unwrap().agent).unwrap();
    host.wait_for_agent().unwrap();
    assert_ne!(host.agent_pid().unwrap(), before);
    host.must("grep --quiet '# mine' /etc/gantry/agent.toml").unwrap();
}

#[test]
fn a_disabled_agent_stays_disabled_after_an_upgrade() {
    let bed = Testbed::start(1).unwrap();
    let host = bed.host(1);
    host.install_agent().unwrap();
    host.must("systemctl disable --now gantry-agent").unwrap();
    host.install_deb(&Packages::find().unwrap().agent).unwrap();
    assert_eq!(
        host.run("systemctl is-enabled gantry-agent")
            .unwrap()
            .stdout
            .trim(),
        "disabled"
    );
    assert_eq!(
        host.run("systemctl is-active gantry-agent")
            .unwrap()
            .stdout
            .trim(),
        "inactive"
    );
}

#[test]
fn the_programs_need_no_library_and_the_agent_little_memory() {
    let bed = Testbed::start(1).unwrap();
    let host = bed.host(1);
    host.install_agent().unwrap();
    let program = host.disk().join("usr/bin/gantry-agent");
    let ldd = gantry_integration::command::run(std::process::Command::new("ldd").arg(&program))
        .unwrap()
        .all_output();
    assert!(
        ldd.contains("statically linked") || ldd.contains("not a dynamic executable"),
        "{ldd}"
    );
    let weight = std::fs::metadata(&program).unwrap().len();
    assert!(weight <= 15 << 20, "gantry-agent weighs {weight} bytes");
    let memory = host.agent_memory().unwrap();
    assert!(memory <= 16 << 20, "the idle agent has {memory} bytes in memory");
}

#[test]
fn certificates_are_renewed_by_a_timer_where_the_orchestrator_is_installed() {
    let bed = Testbed::start(1).unwrap();
    let host = bed.host(1);
    let before = Snapshot::of(host, &["/var/lib/dpkg"]).unwrap();
    host.install_deb(&Packages::find().unwrap().gantry).unwrap();
    host.must("systemctl is-enabled gantry-renew.timer && systemctl is-active gantry-renew.timer")
        .unwrap();
    // Without a cluster there is nothing to renew, and that is no failure.
    host.must("systemctl start gantry-renew.service").unwrap();
    host.must("systemd-analyze verify --man=no gantry-renew.service gantry-renew.timer")
        .unwrap();
    host.must("dpkg --purge gantry").unwrap();
    let after = Snapshot::of(host, &["/var/lib/dpkg"]).unwrap();
    assert_eq!(after.changes_since(&before), Vec::<String>::new());
}
