//! The testbed keeps its word: without that no other product test means anything.

use std::time::Duration;

use gantry_integration::{Link, Options, Testbed, wait_until};

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn hosts_boot_with_systemd_and_reach_each_other() {
    let bed = Testbed::start(2).unwrap();
    for host in bed.hosts() {
        assert_eq!(host.must("hostname").unwrap().trim(), host.name());
        assert_eq!(host.must("cat /proc/1/comm").unwrap().trim(), "systemd");
    }
    let (one, two) = (bed.host(1), bed.host(2));
    two.must("systemd-run --quiet socat -u TCP4-LISTEN:9000 OPEN:/tmp/heard,creat")
        .unwrap();
    wait_until("the listener listens", LIMIT, || {
        Ok(two.must("ss -ltn")?.contains(":9000").then_some(()))
    })
    .unwrap();
    one.must(&format!("echo hello | socat -u - TCP4:{}:9000", two.address()))
        .unwrap();
    wait_until("the word arrives", LIMIT, || {
        Ok(two.run("cat /tmp/heard")?.stdout.contains("hello").then_some(()))
    })
    .unwrap();
}

#[test]
fn a_host_keeps_its_disk_and_loses_its_mounts_in_a_power_cut() {
    let bed = Testbed::start(1).unwrap();
    let host = bed.host(1);
    host.must("echo kept >/root/file && sync && mount -t tmpfs tmpfs /mnt && echo lost >/mnt/file")
        .unwrap();
    host.reboot().unwrap();
    assert_eq!(host.must("cat /root/file").unwrap(), "kept\n");
    assert!(!host.run("cat /mnt/file").unwrap().succeeded());
}

#[test]
fn udp_can_be_blocked_and_rates_and_packet_sizes_chosen() {
    let link = Link {
        mtu: 9000,
        rate_mbit: Some(100),
    };
    let bed = Testbed::with(&Options {
        hosts: 1,
        link,
        ..Options::default()
    })
    .unwrap();
    let host = bed.host(1);
    assert!(host.must("ip link show host0").unwrap().contains("mtu 9000"));
    let counter = "nstat --noupdate --ignore --zeros UdpInDatagrams UdpNoPorts | awk '$1 ~ /^Udp/ { sum += $2 } END { print sum }'";
    let send = format!("bash -c 'echo hello >/dev/udp/{}/9000'", host.address());
    let arrived = || -> u64 { host.must(counter).unwrap().trim().parse().unwrap() };
    host.port().block_udp().unwrap();
    let before = arrived();
    bed.operator().shell(&send).status().unwrap();
    assert_eq!(arrived(), before);
    host.port().allow_udp().unwrap();
    bed.operator().shell(&send).status().unwrap();
    wait_until("the packet arrives", LIMIT, || {
        Ok((arrived() > before).then_some(()))
    })
    .unwrap();
}

#[test]
fn two_testbeds_run_side_by_side() {
    let (one, other) = (Testbed::start(1).unwrap(), Testbed::start(1).unwrap());
    assert_ne!(one.host(1).address(), other.host(1).address());
    drop(one);
    assert_eq!(other.host(1).must("echo still here").unwrap(), "still here\n");
}
