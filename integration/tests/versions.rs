//! Programs of different protocol versions: both are named, with the one to upgrade, and nothing changes.
//!
//! The other version is a fake: no other one was released. It is the real transport with other numbers, on the real
//! port of a real host, with its real identity.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gantry_integration::network::Port;
use gantry_integration::{ImageTree, Testbed, wait_until};
use gantry_protocol::ProtocolVersion;
use gantry_transport::{DialError, DialOptions, Identity, Listener, ListenerOptions, dial};
use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

/// Versions that this build does not speak.
const OTHERS: (ProtocolVersion, ProtocolVersion) = (ProtocolVersion(7), ProtocolVersion(8));
/// What the program that speaks them calls itself.
const PROGRAM: &str = "9.1.0";
const AGENT_PORT: u16 = 7443;

#[test]
fn an_agent_that_is_too_new_is_named_and_nothing_is_applied() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();
    host.must("systemctl stop gantry-agent").unwrap();
    let identity = Identity::load(&host.path("/var/lib/gantry/agent/identity").unwrap()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let (listens, listening) = mpsc::channel();
    let agent = thread::spawn({
        let port = host.port().clone();
        move || {
            at(&port, async {
                let options = ListenerOptions {
                    program: PROGRAM.into(),
                    versions: OTHERS,
                    ..ListenerOptions::default()
                };
                let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, AGENT_PORT));
                let _listener = Listener::bind(any, identity, options).await.unwrap();
                listens.send(()).unwrap();
                let _ = stopped.await;
            });
        }
    });
    listening.recv().unwrap();

    let refused = operator.apply().unwrap().finished;
    assert!(!refused.succeeded());
    let said = refused.all_output();
    for words in [
        PROGRAM,
        "protocol 7 to 8",
        "upgrade gantry",
        &host.address().to_string(),
    ] {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
    assert!(!host.run("test -e /var/log/scripts").unwrap().succeeded());

    stop.send(()).unwrap();
    agent.join().unwrap();
    host.must("systemctl start gantry-agent").unwrap();
    operator.apply().unwrap().ok().unwrap();
}

#[test]
fn an_orchestrator_that_is_too_new_is_told_so_and_noted_by_the_agent() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let identity = Identity::load(&operator.root().join("orchestrator/operators/self")).unwrap();
    let agent = SocketAddr::from((host.address(), AGENT_PORT));
    let refused = thread::scope(|scope| {
        let other = scope.spawn(|| {
            at(operator.port(), async {
                let options = DialOptions {
                    program: PROGRAM.into(),
                    versions: OTHERS,
                    ..DialOptions::default()
                };
                dial(agent, &identity, &options).await
            })
        });
        other.join().unwrap()
    });
    let Err(DialError::Version { reason, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        reason.contains(PROGRAM) && reason.contains("upgrade gantry-agent"),
        "{reason}"
    );
    // It says so when the connection is gone, which it may have to find out.
    wait_until("the agent has noted it", Duration::from_secs(30), || {
        let log = host.agent_log();
        Ok((log.contains(PROGRAM) && log.contains("share no protocol version")).then_some(()))
    })
    .unwrap();
    operator.must("status").unwrap();
}

/// Runs `work` at a machine's end of its network cable. For a thread that does nothing else.
fn at<T>(port: &Port, work: impl Future<Output = T>) -> T {
    let namespace = File::open(format!("/run/netns/{}", port.namespace)).unwrap();
    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}
