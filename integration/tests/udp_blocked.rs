//! A firewall drops UDP: the same protocol goes over TLS and TCP, and the status says so.

use gantry_integration::{ImageTree, Testbed};

#[test]
fn without_udp_everything_works_over_tcp_and_the_status_says_which() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator
        .clusterfile("demo:v1", &[bed.host(1), bed.host(2)])
        .unwrap();
    bed.host(2).port().block_udp().unwrap();

    let applied = operator.apply().unwrap().ok().unwrap();
    assert!(applied.received_bytes() > 0);
    let status = operator.must("status").unwrap().to_lowercase();
    let line = |number| {
        let address = bed.host(number).address().to_string();
        status
            .lines()
            .find(|line| line.contains(&address))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(line(1).contains("quic") && !line(1).contains("tcp"), "{status}");
    assert!(line(2).contains("tcp") && !line(2).contains("quic"), "{status}");
}

#[test]
fn a_host_can_be_enrolled_without_udp() {
    let bed = Testbed::start(1).unwrap();
    let host = bed.host(1);
    host.install_agent().unwrap();
    host.port().block_udp().unwrap();
    bed.operator().enroll(&[host]).unwrap();
    assert!(
        bed.operator()
            .must("agents")
            .unwrap()
            .contains(&host.address().to_string())
    );
}
