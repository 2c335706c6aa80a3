//! Agents of before a request was made: what they do not understand is told as that.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry::session::{AgentSession as _, DialSettings, Dialer, SessionError, Sessions as _};
use gantry_model::{ExitCode, ImageEvidence};
use gantry_protocol::CloseCode;
use gantry_store::Store;
use gantry_transport::{Authority, Identity, Listener, ListenerOptions, Role, UdpMode};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An agent's identity by this CA, made of an operator's key.
fn agent(authority: &Authority, folder: &std::path::Path) -> Identity {
    let key = authority.issue_operator("for-its-key", Role::Operator).unwrap();
    let issued = authority
        .sign_agent(&key.signing_request().unwrap(), &HOST.to_string())
        .unwrap();
    key.save(folder).unwrap();
    let certificate = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        STANDARD.encode(issued.der)
    );
    fs::write(folder.join("cert.pem"), certificate).unwrap();
    Identity::load(folder).unwrap()
}

#[tokio::test]
async fn an_agent_that_does_not_know_a_request_is_named_with_its_version() {
    for (udp, path) in [(UdpMode::Only, "quic"), (UdpMode::Never, "tcp")] {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(&folder.path().join("pki")).unwrap();
        let options = ListenerOptions {
            program: "0.0.9".to_owned(),
            ..ListenerOptions::default()
        };
        let agent = agent(&authority, &folder.path().join("agent"));
        let listener = Listener::bind((HOST, 0).into(), agent, options).await.unwrap();
        let settings = DialSettings {
            port: listener.local_addr().port(),
            udp,
            timeout: Duration::from_secs(5),
        };
        let operator = authority.issue_operator("alice", Role::Operator).unwrap();
        let names = BTreeMap::from([(HOST, HOST.to_string())]);
        let store = Store::open(&folder.path().join("root")).unwrap();
        let dialer = Dialer::new(operator, settings, names, store);
        let evidence = ImageEvidence {
            name: "demo:v1".parse().unwrap(),
            manifest: b"{}".to_vec(),
            index: None,
            signatures: Vec::new(),
        };
        let ask = async {
            let session = dialer.session(HOST).await.unwrap();
            assert_eq!(session.path(), path);
            session.verify_image(&evidence).await.unwrap_err()
        };
        let answer = async {
            let connection = listener.accept().await;
            let (mut send, mut receive) = connection.accept_bi().await.unwrap();
            // As agents of before do with a message that they cannot decode.
            let header = receive.read_exact(4).await.unwrap();
            assert!(!header.is_empty());
            send.reset(CloseCode::Protocol);
            // The connection stays.
            connection
        };
        let (error, connection) = tokio::join!(ask, answer);
        assert!(
            matches!(&error, SessionError::NotUnderstood { version, .. } if version == "0.0.9"),
            "{path}: {error}"
        );
        let text = error.to_string();
        assert!(
            text.contains("version 0.0.9") && text.contains("install the package gantry-agent"),
            "{text}"
        );
        assert!(!error.heals());
        assert_eq!(error.exit_code(), ExitCode::Failed);

        // A connection that is gone is one.
        drop(connection);
        drop(listener);
    }
}
