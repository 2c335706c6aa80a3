//! Certificates that ended, and clocks that disagree: named as such on both sides, and mended by what the message says.

use std::time::SystemTime;

use gantry_integration::other_day::DAY;
use gantry_integration::{ImageTree, Testbed};

#[test]
fn an_agent_whose_certificate_ended_is_refused_until_it_is_enrolled_anew() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();
    let now = SystemTime::now();
    host.dates_certificate(operator, now - 400 * DAY, now - 35 * DAY)
        .unwrap();

    let refused = operator.apply().unwrap().finished;
    assert!(!refused.succeeded());
    let said = refused.all_output();
    assert!(
        said.contains("expired at") && said.contains(&host.address().to_string()),
        "{said}"
    );
    assert!(host.agent_log().contains("expired"), "{}", host.agent_log());
    assert!(!host.run("test -e /var/log/scripts").unwrap().succeeded());

    assert!(said.contains("gantry-agent unenroll"), "{said}");
    host.must("gantry-agent unenroll").unwrap();
    host.wait_for_agent().unwrap();
    operator.enroll(&[host]).unwrap();
    operator.apply().unwrap().ok().unwrap();
}

#[test]
fn an_agents_certificate_that_is_about_to_end_is_renewed_by_apply() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();
    let now = SystemTime::now();
    host.dates_certificate(operator, now - 340 * DAY, now + 25 * DAY)
        .unwrap();
    let applied = operator.apply().unwrap().ok().unwrap().finished;
    assert!(
        applied.stderr.contains("its agent has a new certificate until"),
        "{applied}"
    );
    let ends =
        host.must("openssl x509 -noout -checkend 31000000 -in /var/lib/gantry/agent/identity/cert.pem");
    ends.unwrap();
    let again = operator.apply().unwrap().ok().unwrap().finished;
    assert!(!again.stderr.contains("certificate"), "{again}");
}

#[test]
fn a_clock_a_day_off_is_called_clock_skew() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let now = SystemTime::now();
    host.dates_certificate(operator, now + DAY, now + 365 * DAY)
        .unwrap();
    let refused = operator.gantry("status").unwrap();
    assert!(!refused.succeeded());
    assert!(refused.all_output().contains("clock skew"), "{refused}");

    host.dates_certificate(operator, now - DAY, now + 365 * DAY)
        .unwrap();
    operator.must("status").unwrap();
}
