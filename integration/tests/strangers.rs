//! Whoever an agent did not come to trust is refused, with one clear line on both sides, and does no harm.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use gantry_integration::{Host, ImageTree, Operator, Testbed, wait_until};

#[test]
fn garbage_and_half_a_frame_do_no_harm() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let pid = host.agent_pid().unwrap();
    let address = host.address();
    for script in [
        // Noise, a TLS record that promises more than it holds, silence, and noise in datagrams.
        format!("head -c 1000000 /dev/urandom >/dev/tcp/{address}/7443"),
        format!("printf '\\x16\\x03\\x01\\x40\\x00\\x01' >/dev/tcp/{address}/7443"),
        format!("exec 3<>/dev/tcp/{address}/7443"),
        format!("for i in $(seq 200); do head -c 1200 /dev/urandom >/dev/udp/{address}/7443; done"),
    ] {
        // That the agent hangs up in the middle is what is wanted.
        operator
            .shell(&format!("bash -c \"{script}\" 2>/dev/null || true"))
            .status()
            .unwrap();
    }
    apply_something(operator, host);
    assert_eq!(
        host.agent_pid().unwrap(),
        pid,
        "the agent was restarted: {}",
        host.agent_log()
    );
}

#[test]
fn an_operator_of_another_ca_is_refused() {
    let bed = Testbed::enrolled(1).unwrap();
    let host = bed.host(1);
    let mallory = bed.operator().stranger("mallory").unwrap();
    // The right protocol, a good certificate, the wrong CA: the list of agents is all mallory copied.
    mallory.must("token create").unwrap();
    let list = "orchestrator/agents.json";
    std::fs::copy(bed.operator().root().join(list), mallory.root().join(list)).unwrap();
    ImageTree::with_scripts(&mallory.desk().join("image")).unwrap();
    mallory.must("build -t demo:v1 image").unwrap();
    mallory.clusterfile("demo:v1", &[host]).unwrap();
    let refused = mallory.apply().unwrap().finished;
    assert!(!refused.succeeded());
    let said = refused.all_output().to_lowercase();
    assert!(
        said.contains("ca") && said.contains(&host.address().to_string()),
        "{refused}"
    );
    assert!(!host.run("test -e /var/log/scripts").unwrap().succeeded());
    apply_something(bed.operator(), host);
}

#[test]
fn an_agent_that_is_not_enrolled_is_named_as_such() {
    let bed = Testbed::start(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    host.install_agent().unwrap();
    operator.must("token create").unwrap();
    ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();
    let refused = operator.apply().unwrap().finished;
    assert!(!refused.succeeded());
    assert!(refused.all_output().contains("enrol"), "{refused}");
}

#[test]
fn a_token_is_good_once_and_for_its_time() {
    let bed = Testbed::start(2).unwrap();
    let operator = bed.operator();
    bed.hosts().iter().for_each(|host| host.install_agent().unwrap());
    let token = operator.must("token create --ttl 1h").unwrap();
    bed.host(1).drop_token(token.trim()).unwrap();
    operator
        .must(&format!("enroll {}", bed.host(1).address()))
        .unwrap();
    wait_until(
        "the used token is gone from the host",
        Duration::from_secs(10),
        || Ok((!bed.host(1).run("test -e /etc/gantry/token")?.succeeded()).then_some(())),
    )
    .unwrap();

    bed.host(2).drop_token(token.trim()).unwrap();
    let replayed = operator
        .gantry(&format!("enroll {}", bed.host(2).address()))
        .unwrap();
    assert!(
        !replayed.succeeded() && replayed.stderr.contains("token"),
        "{replayed}"
    );

    let short = operator.must("token create --ttl 1s").unwrap();
    bed.host(2).drop_token(short.trim()).unwrap();
    let short_lived = short.trim().split('.').nth(2).unwrap().to_owned();
    wait_until("the token has ended", Duration::from_secs(30), || {
        Ok((!operator.must("token list")?.contains(&short_lived)).then_some(()))
    })
    .unwrap();
    wait_until(
        "the agent says that its token has ended",
        Duration::from_secs(30),
        || {
            Ok(bed
                .host(2)
                .agent_log()
                .contains("it has ended by this host's clock")
                .then_some(()))
        },
    )
    .unwrap();
    let late = operator
        .gantry(&format!("enroll {}", bed.host(2).address()))
        .unwrap();
    assert!(!late.succeeded() && late.stderr.contains("token"), "{late}");

    let stolen = operator.stranger("mallory").unwrap();
    stolen.must("token create").unwrap();
    bed.host(2)
        .drop_token(operator.must("token create").unwrap().trim())
        .unwrap();
    let wrong = stolen
        .gantry(&format!("enroll {}", bed.host(2).address()))
        .unwrap();
    assert!(
        !wrong.succeeded(),
        "somebody without the token enrolled the host: {wrong}"
    );
    operator
        .must(&format!("enroll {}", bed.host(2).address()))
        .unwrap();
}

#[test]
fn a_reader_may_look_and_change_nothing() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    operator
        .must("operator add --role reader --output reader eve")
        .unwrap();
    let status = operator.must("--identity reader status").unwrap();
    assert!(status.contains(&host.address().to_string()), "{status}");
    ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();
    let refused = operator
        .gantry("--identity reader apply -f Clusterfile -y")
        .unwrap();
    assert!(!refused.succeeded());
    assert!(refused.all_output().contains("reader"), "{refused}");
    assert!(!host.run("test -e /var/log/scripts").unwrap().succeeded());
}

#[test]
fn a_revoked_operator_is_refused_by_every_agent() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    operator
        .must("operator add --role operator --output other dora")
        .unwrap();
    operator.must("--identity other status").unwrap();
    operator.must("operator revoke dora").unwrap();
    let refused = operator.gantry("--identity other status").unwrap();
    assert!(refused.all_output().contains("revoked"), "{refused}");
    assert!(host.agent_log().contains("revoked"), "{}", host.agent_log());
    apply_something(operator, host);
}

/// The next good command works.
fn apply_something(operator: &Operator, host: &Host) {
    let image = ImageTree::with_scripts(&operator.desk().join("good")).unwrap();
    operator
        .must(&format!("build -t good:v1 {}", image.folder().display()))
        .unwrap();
    operator.clusterfile("good:v1", &[host]).unwrap();
    operator.apply().unwrap().ok().unwrap();
}
