//! A session over the loopback: both ways, streams, closing, and what a refused peer hears.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use common::{DAY, Installation, Log, Odd, connect, listen, options};
use gantry_protocol::{CloseCode, HelloReply, ProtocolVersion, Reply, Request};
use gantry_transport::{
    Connection, DialError, DialOptions, Listener, ListenerOptions, Path, Role, StreamError, UdpMode, dial,
};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

const BOTH: [UdpMode; 2] = [UdpMode::Only, UdpMode::Never];

/// Answers every request with `Done` and sends every raw byte back.
async fn echo(connection: Connection) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        tokio::spawn(async move {
            let Ok(Request::Inventory) = recv.recv().await else {
                return;
            };
            send.send(&Reply::Done).await.unwrap();
            while let Ok(Some(bytes)) = recv.read_chunk(1 << 20).await {
                if send.write_bytes(bytes).await.is_err() {
                    return;
                }
            }
            let _ = send.finish().await;
        });
    }
}

#[tokio::test]
async fn messages_and_bytes_travel_on_both_ways() {
    let site = Installation::new();
    for udp in BOTH {
        let listener = listen(site.agent("127.0.0.1")).await;
        let addr = listener.local_addr();
        let agent = tokio::spawn(async move {
            let connection = listener.accept().await;
            assert_eq!(
                (connection.peer().name.as_str(), connection.peer().role),
                ("alice", Role::Operator)
            );
            echo(connection).await;
        });
        let (connection, reply) = dial(addr, &site.operator(), &options(udp)).await.unwrap();
        assert!(matches!(
            reply,
            HelloReply::Agreed {
                version: ProtocolVersion::CURRENT,
                ..
            }
        ));
        assert_eq!(
            connection.path(),
            if udp == UdpMode::Only {
                Path::Quic
            } else {
                Path::Tcp
            }
        );
        assert_eq!(
            (connection.peer().name.as_str(), connection.peer().role),
            ("127.0.0.1", Role::Agent)
        );
        // Eight streams at a time, more bytes than any window.
        let mut streams = vec![];
        for stream in 0..8_u8 {
            let connection = connection.clone();
            streams.push(tokio::spawn(async move {
                let (mut send, mut recv) = connection.open_bi().await.unwrap();
                send.send(&Request::Inventory).await.unwrap();
                assert_eq!(recv.recv::<Reply>().await.unwrap(), Reply::Done);
                let body = Bytes::from(vec![stream; 3 << 20]);
                let sending = tokio::spawn(async move {
                    send.write_bytes(body).await.unwrap();
                    send.finish().await.unwrap();
                });
                let back = recv.read_exact(3 << 20).await.unwrap();
                assert!(back.iter().all(|&byte| byte == stream));
                assert!(recv.read_chunk(1).await.unwrap().is_none());
                sending.await.unwrap();
            }));
        }
        for stream in streams {
            stream.await.unwrap();
        }
        assert!(connection.stats().sent > 24 << 20);
        connection.shut_down(CloseCode::Done, "").await;
        agent.await.unwrap();
    }
}

#[tokio::test]
async fn a_closing_side_is_heard_with_its_reason() {
    let site = Installation::new();
    for udp in BOTH {
        let listener = listen(site.agent("127.0.0.1")).await;
        let connection = connect(listener.local_addr(), &site.operator(), udp)
            .await
            .unwrap();
        let accepted = listener.accept().await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.send(&Request::Inventory).await.unwrap();
        accepted.close(CloseCode::ShuttingDown, "the host reboots");
        let closed = connection.closed().await;
        assert_eq!(
            (closed.code, closed.by_peer),
            (Some(CloseCode::ShuttingDown), true),
            "{udp:?}"
        );
        assert_eq!(closed.reason, "the host reboots");
        let Err(StreamError::Closed(reason)) = recv.recv::<Reply>().await else {
            panic!("closed")
        };
        assert_eq!(reason.code, Some(CloseCode::ShuttingDown));
        assert!(connection.open_bi().await.is_err() && connection.close_reason().is_some());
        assert!(!accepted.closed().await.by_peer);
    }
}

#[tokio::test]
async fn a_stream_that_is_given_up_leaves_the_others_alone() {
    let site = Installation::new();
    for udp in BOTH {
        let listener = listen(site.agent("127.0.0.1")).await;
        let connection = connect(listener.local_addr(), &site.operator(), udp)
            .await
            .unwrap();
        let accepted = listener.accept().await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.send(&Request::Inventory).await.unwrap();
        let (_their_send, mut their_recv) = accepted.accept_bi().await.unwrap();
        let _: Request = their_recv.recv().await.unwrap();
        recv.stop(CloseCode::NotNeeded);
        send.reset(CloseCode::NotNeeded);
        assert!(!matches!(their_recv.read_chunk(10).await, Ok(Some(_))));
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let answering = tokio::spawn(echo(accepted));
        send.send(&Request::Inventory).await.unwrap();
        assert_eq!(recv.recv::<Reply>().await.unwrap(), Reply::Done);
        connection.close(CloseCode::Done, "");
        answering.await.unwrap();
    }
}

#[tokio::test]
async fn udp_that_is_swallowed_costs_less_than_two_seconds() {
    let site = Installation::new();
    let options = ListenerOptions {
        tcp: true,
        ..ListenerOptions::default()
    };
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), site.agent("127.0.0.1"), options)
        .await
        .unwrap();
    // A firewall that drops UDP: TCP is passed on, UDP is swallowed by a socket nobody reads.
    let inner = listener.local_addr();
    let (front, _silent) = loop {
        let front = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(silent) = std::net::UdpSocket::bind(front.local_addr().unwrap()) {
            break (front, silent);
        }
    };
    let addr = front.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut outside, _)) = front.accept().await {
            tokio::spawn(async move {
                let mut inside = tokio::net::TcpStream::connect(inner).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    let start = Instant::now();
    let connection = connect(addr, &site.operator(), UdpMode::Auto).await.unwrap();
    assert_eq!(connection.path(), Path::Tcp);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let direct = connect(inner, &site.operator(), UdpMode::Auto).await.unwrap();
    assert_eq!(direct.path(), Path::Quic);
}

#[tokio::test]
async fn nothing_listening_is_said_soon() {
    let site = Installation::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let start = Instant::now();
    let error = connect(free, &site.operator(), UdpMode::Auto).await.unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert!(error.is_transient() && start.elapsed() < Duration::from_secs(4));
}

/// Dials both ways and checks the line on both sides.
async fn both_hear(
    site: &Installation,
    agent: gantry_transport::Identity,
    operator: gantry_transport::Identity,
    dial_options: impl Fn(&mut DialOptions),
    here: &[&str],
    there: &str,
) {
    let _ = site;
    for udp in BOTH {
        let (log, _guard) = Log::start();
        let listener = listen(agent.clone()).await;
        let mut options = options(udp);
        dial_options(&mut options);
        let error = dial(listener.local_addr(), &operator, &options)
            .await
            .unwrap_err();
        let text = error.to_string();
        for words in here {
            assert!(text.contains(words), "{udp:?}: {words:?} is not in {text:?}");
        }
        assert_eq!(text.lines().count(), 1);
        log.wait_for(there).await;
        let nobody = tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
        assert!(nobody.is_err(), "a refused peer was accepted");
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_by_both() {
    let (site, other) = (Installation::new(), Installation::new());
    // The orchestrator refuses first.
    both_hear(
        &site,
        site.agent("h"),
        other.operator(),
        |_| {},
        &["agent h is signed by another CA"],
        "another CA",
    )
    .await;
    // An orchestrator that trusts the agent's CA, with another CA's certificate: the agent refuses.
    let stranger = other.trusting(&other.operator(), &site);
    both_hear(
        &site,
        site.agent("h"),
        stranger,
        |_| {},
        &[
            "the agent refused the certificate of operator alice",
            "another CA",
        ],
        "the certificate of operator alice is signed by another CA",
    )
    .await;
}

#[tokio::test]
async fn expired_and_future_certificates_are_told_apart() {
    let site = Installation::new();
    let now = SystemTime::now();
    let agent = |from, until| {
        site.odd(&Odd {
            uri: "gantry://agent/h",
            usage: ServerAuth,
            from,
            until,
        })
    };
    let operator = |from, until| {
        site.odd(&Odd {
            uri: "gantry://operator/bob",
            usage: ClientAuth,
            from,
            until,
        })
    };
    both_hear(
        &site,
        agent(now - 2 * DAY, now - DAY),
        site.operator(),
        |_| {},
        &["agent h expired at", "the clock here says", "renew it"],
        "certificate of agent h",
    )
    .await;
    both_hear(
        &site,
        agent(now + DAY, now + 2 * DAY),
        site.operator(),
        |_| {},
        &["clock skew", "agent h holds from", "the clock here says"],
        "clock skew",
    )
    .await;
    both_hear(
        &site,
        site.agent("h"),
        operator(now - 2 * DAY, now - DAY),
        |_| {},
        &["refused the certificate of operator bob", "expired at", "renew"],
        "operator bob expired at",
    )
    .await;
    both_hear(
        &site,
        site.agent("h"),
        operator(now + DAY, now + 2 * DAY),
        |_| {},
        &["refused the certificate of operator bob", "clock skew"],
        "clock skew: the certificate of operator bob holds from",
    )
    .await;
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_its_sessions_end() {
    let site = Installation::new();
    let (agent, operator) = (site.agent("h"), site.operator());
    let listener = listen(agent.clone()).await;
    let connection = connect(listener.local_addr(), &operator, UdpMode::Auto)
        .await
        .unwrap();
    let _accepted = listener.accept().await;
    let crl = site.authority.revoke(operator.serial()).unwrap();
    let updated = agent.with_crl(&crl).unwrap();
    assert!(updated.is_revoked(operator.serial()) && !updated.is_revoked(agent.serial()));
    assert!(updated.with_crl(&crl).is_ok());
    listener.replace_identity(updated.clone());
    let closed = connection.closed().await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (
            Some(CloseCode::Forbidden),
            "the certificate of operator alice is revoked"
        )
    );
    both_hear(
        &site,
        updated,
        operator,
        |_| {},
        &["the agent refused the certificate of operator alice", "revoked"],
        "operator alice is revoked",
    )
    .await;
    // The other direction: a revoked agent.
    let crl = site.authority.revoke(agent.serial()).unwrap();
    let wary = site.operator().with_crl(&crl).unwrap();
    both_hear(
        &site,
        agent,
        wary,
        |_| {},
        &["agent h is revoked"],
        "agent h: it is revoked",
    )
    .await;
}

#[tokio::test]
async fn lists_of_others_and_older_lists_are_refused() {
    let (site, other) = (Installation::new(), Installation::new());
    let first = site.authority.crl().unwrap();
    let second = site.authority.revoke("40aa").unwrap();
    let operator = site.operator().with_crl(&second).unwrap();
    let older = operator.with_crl(&first).unwrap_err().to_string();
    assert!(older.contains("is older than"), "{older}");
    let foreign = operator
        .with_crl(&other.authority.crl().unwrap())
        .unwrap_err()
        .to_string();
    assert!(foreign.contains("revocation list cannot be used"), "{foreign}");
    assert!(operator.with_crl(b"junk").is_err());
}

#[tokio::test]
async fn roles_and_names_are_kept_apart() {
    let site = Installation::new();
    // An agent's certificate does not make an operator, nor the reverse, nor an operator's name an agent's usage.
    let agent = site.agent("h");
    both_hear(
        &site,
        agent.clone(),
        site.agent("evil"),
        |_| {},
        &["refused the certificate of agent evil", "role"],
        "agent evil is not",
    )
    .await;
    let fake = site.odd(&Odd::good("gantry://agent/evil", ClientAuth));
    both_hear(
        &site,
        agent.clone(),
        fake,
        |_| {},
        &["refused the certificate of agent evil", "role"],
        "agent evil is not an operator's",
    )
    .await;
    let fake = site.odd(&Odd::good("gantry://operator/h", ServerAuth));
    both_hear(
        &site,
        fake,
        site.operator(),
        |_| {},
        &["operator h is not an agent's"],
        "role",
    )
    .await;
    let other_name = |options: &mut DialOptions| options.expected = Some("10.9.8.7".into());
    both_hear(
        &site,
        agent,
        site.operator(),
        other_name,
        &["is of agent h, but agent 10.9.8.7 was expected"],
        "expected somebody else",
    )
    .await;
}

#[tokio::test]
async fn versions_without_overlap_name_both_programs() {
    let site = Installation::new();
    let newer = |options: &mut DialOptions| {
        options.versions = (ProtocolVersion(7), ProtocolVersion(8));
        options.program = "9.1.0".into();
    };
    both_hear(
        &site,
        site.agent("h"),
        site.operator(),
        newer,
        &[
            "gantry version 9.1.0 (protocol 7 to 8)",
            "share no protocol version",
            "upgrade gantry-agent",
        ],
        "upgrade gantry-agent",
    )
    .await;
}

#[tokio::test]
async fn an_identity_survives_the_disk_and_a_swapped_key_does_not() {
    let site = Installation::new();
    let (alice, dir) = (site.operator(), tempfile::tempdir().unwrap());
    assert!(!gantry_transport::Identity::exists(dir.path()));
    alice.save(dir.path()).unwrap();
    let loaded = gantry_transport::Identity::load(dir.path()).unwrap();
    assert_eq!((loaded.name(), loaded.serial()), ("alice", alice.serial()));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        std::fs::metadata(dir.path().join("key.pem"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let mallory = tempfile::tempdir().unwrap();
    site.operator().save(mallory.path()).unwrap();
    std::fs::copy(mallory.path().join("key.pem"), dir.path().join("key.pem")).unwrap();
    let error = gantry_transport::Identity::load(dir.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("for another key"), "{error}");
}

#[tokio::test]
async fn an_error_tells_what_it_is() {
    let site = Installation::new();
    let listener = listen(site.agent("h")).await;
    let other = Installation::new().operator();
    let error = connect(listener.local_addr(), &other, UdpMode::Auto)
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Certificate { .. }) && !error.is_transient());
}

#[tokio::test]
async fn one_port_serves_both_families() {
    let site = Installation::new();
    let any = "[::]:0".parse().unwrap();
    let Ok(listener) = Listener::bind(any, site.agent("h"), ListenerOptions::default()).await else {
        println!("this machine has no IPv6; nothing to check");
        return;
    };
    let port = listener.local_addr().port();
    for host in ["127.0.0.1", "::1"] {
        for udp in BOTH {
            let addr = std::net::SocketAddr::new(host.parse().unwrap(), port);
            connect(addr, &site.operator(), udp).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let site = Installation::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = Listener::bind(addr, site.agent("h"), ListenerOptions::default())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("cannot listen on {addr} with TCP")),
        "{error}"
    );
}
