//! Either side is killed in the middle of staging; what had arrived does not travel again.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use gantry_integration::applied::{events, received_bytes};
use gantry_integration::{Host, ImageTree, Link, Operator, Options, Running, Testbed, wait_until};

/// What the image weighs: some seconds on the cable these tests use.
const SIZE: usize = 48 << 20;

/// What may travel twice: chunks that had arrived but were not yet known to be on disk when the kill came, and
/// those on their way.
const IN_FLIGHT: u64 = 12 << 20;

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn gantry_is_killed_and_apply_goes_on_where_it_stopped() {
    let bed = slow_bed();
    let (operator, host) = (bed.operator(), bed.host(1));
    let apply = operator.start_apply().unwrap();
    wait_for_half(&apply);
    apply.kill().unwrap();
    finish_and_count(operator, host);
}

#[test]
fn the_agent_is_killed_and_apply_waits_for_it_and_goes_on() {
    let bed = slow_bed();
    let (operator, host) = (bed.operator(), bed.host(1));
    let apply = operator.start_apply().unwrap();
    wait_for_half(&apply);
    host.kill_agent().unwrap();
    gantry_integration::Applied::read(apply.finish(LIMIT).unwrap())
        .ok()
        .unwrap();
    assert_nothing_travelled_twice(host);
    assert_everything_ran_once(host);
}

#[test]
fn the_host_loses_power_and_apply_goes_on_where_it_stopped() {
    let bed = slow_bed();
    let (operator, host) = (bed.operator(), bed.host(1));
    let apply = operator.start_apply().unwrap();
    wait_for_half(&apply);
    apply.kill().unwrap();
    host.reboot().unwrap();
    host.wait_for_agent().unwrap();
    finish_and_count(operator, host);
}

/// One enrolled host behind a slow cable, and an image that takes a while on it.
fn slow_bed() -> Testbed {
    let link = Link {
        rate_mbit: Some(100),
        ..Link::default()
    };
    let bed = Testbed::enrolled_with(&Options {
        hosts: 1,
        link,
        ..Options::default()
    })
    .unwrap();
    let operator = bed.operator();
    let image = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    image.incompressible("images/big", SIZE, 7).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[bed.host(1)]).unwrap();
    bed
}

/// Waits until half of the image has travelled.
fn wait_for_half(apply: &Running) {
    wait_until("half of the image has travelled", LIMIT, || {
        let received = received_bytes(&events(&apply.printed()?));
        Ok((received > SIZE as u64 / 2).then_some(()))
    })
    .unwrap();
}

fn finish_and_count(operator: &Operator, host: &Host) {
    operator.apply().unwrap().ok().unwrap();
    assert_nothing_travelled_twice(host);
    assert_everything_ran_once(host);
}

/// Counted on the host's cable, from its first boot to now: the image once, headers, and what was in flight.
fn assert_nothing_travelled_twice(host: &Host) {
    let travelled = host.port().received_bytes().unwrap();
    let once = SIZE as u64 + SIZE as u64 / 20;
    assert!(
        travelled < once + IN_FLIGHT,
        "{travelled} bytes arrived for an image of {SIZE}"
    );
}

fn assert_everything_ran_once(host: &Host) {
    let ran = host
        .must("sort /var/log/scripts | uniq --count | awk '{ print $1 }' | sort -u")
        .unwrap();
    assert_eq!(ran.trim(), "1", "{}", host.must("cat /var/log/scripts").unwrap());
    let big = host
        .must("stat --format=%s /var/lib/gantry/data/demo/rootfs/images/big")
        .unwrap();
    assert_eq!(big.trim(), SIZE.to_string());
}
