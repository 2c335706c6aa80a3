//! Strangers at the port: garbage, half frames, silence, crowds. The next good peer gets through.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{Installation, Log, connect, listen};
use gantry_protocol::{CloseCode, Request};
use gantry_transport::limits::{MAX_HANDSHAKES_PER_ADDRESS, MAX_SESSIONS};
use gantry_transport::{Identity, Listener, UdpMode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// A session goes through on both ways.
async fn still_serves(listener: &Listener, operator: &Identity) {
    for udp in [UdpMode::Only, UdpMode::Never] {
        let connection = connect(listener.local_addr(), operator, udp).await.unwrap();
        let accepted = listener.accept().await;
        connection.close(CloseCode::Done, "");
        accepted.closed().await;
    }
}

#[tokio::test]
async fn garbage_costs_a_line_in_the_log() {
    let site = Installation::new();
    let (log, _guard) = Log::start();
    let listener = listen(site.agent("h")).await;
    let addr = listener.local_addr();
    let garbage: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        vec![0; 2000],
        vec![0xff; 2000],
        (0..=255).cycle().take(1300).collect(),
        // The head of a TLS record that announces more than it brings.
        vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc],
        // A QUIC initial packet with nonsense inside.
        [&[0xc3, 0, 0, 0, 1, 8][..], &[7; 1194]].concat(),
        vec![],
    ];
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for bytes in &garbage {
        udp.send_to(bytes, addr).await.unwrap();
        let mut tcp = TcpStream::connect(addr).await.unwrap();
        let _ = tcp.write_all(bytes).await;
        let _ = tcp.shutdown().await;
        let mut rest = vec![];
        let _ = tcp.read_to_end(&mut rest).await;
        assert!(rest.len() < 100, "an alert at most");
    }
    log.wait_for("turned away 127.0.0.1").await;
    still_serves(&listener, &site.operator()).await;
    assert!(listener.turned_away() > 0);
    assert!(log.text().lines().count() <= 6, "{}", log.text());
}

#[tokio::test]
async fn slow_peers_of_one_address_do_not_keep_others_out() {
    let site = Installation::new();
    let listener = listen(site.agent("h")).await;
    let addr = listener.local_addr();
    // All places of this address are taken by peers that say nothing.
    let mut silent = vec![];
    for _ in 0..MAX_HANDSHAKES_PER_ADDRESS + 4 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    let other: SocketAddr = "127.0.0.2:0".parse().unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(other).unwrap();
    let mut good = socket.connect(addr).await.unwrap();
    // Another address is still served: it gets a TLS answer to a proper hello.
    let client_hello = client_hello();
    good.write_all(&client_hello).await.unwrap();
    let mut answer = [0; 1];
    tokio::time::timeout(Duration::from_secs(5), good.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!([0x15, 0x16].contains(&answer[0]), "a TLS record");
    // When the silent ones go, their places are free again.
    drop(silent);
    let start = Instant::now();
    let connected = loop {
        match connect(addr, &site.operator(), UdpMode::Never).await {
            Ok(connection) => break connection,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(9), "{error}"),
        }
    };
    connected.close(CloseCode::Done, "");
}

/// The first flight of a TLS client.
fn client_hello() -> Vec<u8> {
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut client = rustls::ClientConnection::new(config.into(), "agent".try_into().unwrap()).unwrap();
    let mut bytes = vec![];
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn a_proven_peer_that_speaks_nonsense_loses_only_its_stream_or_session() {
    let site = Installation::new();
    let listener = listen(site.agent("h")).await;
    for udp in [UdpMode::Only, UdpMode::Never] {
        let connection = connect(listener.local_addr(), &site.operator(), udp)
            .await
            .unwrap();
        let accepted = listener.accept().await;
        for nonsense in [
            &b"\xff\xff\xff\xff\xff\xff"[..],
            b"\0\0\0\x04\0\x03",
            b"\0",
            b"\0\0\0\x03\0\x03\x63",
        ] {
            let (mut send, _recv) = connection.open_bi().await.unwrap();
            send.write_bytes(bytes::Bytes::copy_from_slice(nonsense))
                .await
                .unwrap();
            send.finish().await.unwrap();
            let (_send, mut recv) = accepted.accept_bi().await.unwrap();
            assert!(recv.recv::<Request>().await.is_err());
        }
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.send(&Request::Inventory).await.unwrap();
        let (_send, mut recv) = accepted.accept_bi().await.unwrap();
        assert_eq!(recv.recv::<Request>().await.unwrap(), Request::Inventory);
    }
    still_serves(&listener, &site.operator()).await;
}

#[tokio::test]
async fn sessions_are_bounded_and_the_one_too_many_is_told() {
    let site = Installation::new();
    let listener = listen(site.agent("h")).await;
    let operator = site.operator();
    let mut sessions = vec![];
    for _ in 0..MAX_SESSIONS {
        let dialled = connect(listener.local_addr(), &operator, UdpMode::Only)
            .await
            .unwrap();
        sessions.push((dialled, listener.accept().await));
    }
    let error = connect(listener.local_addr(), &operator, UdpMode::Auto)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("as many sessions as it may"),
        "{error}"
    );
    let (dialled, accepted) = sessions.pop().unwrap();
    dialled.close(CloseCode::Done, "");
    accepted.closed().await;
    drop(accepted);
    connect(listener.local_addr(), &operator, UdpMode::Auto)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_refused() {
    let site = Installation::new();
    let (log, _guard) = Log::start();
    let listener = listen(site.agent("h")).await;
    let stream = TcpStream::connect(listener.local_addr()).await.unwrap();
    let mut config = common::middle::trusting_anybody();
    config.alpn_protocols = vec![gantry_protocol::ALPN_SESSION.to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut tls = connector
        .connect("agent".try_into().unwrap(), stream)
        .await
        .unwrap();
    let error = tls.read_u8().await.unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    log.wait_for("sent no certificates").await;
    still_serves(&listener, &site.operator()).await;
}
