//! Agents of before a request was made: what they do not understand is told as that.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry::commands::known_steps;
use gantry::plan::preflight::{self, Check};
use gantry::plan::{Mark, PLAN_VERSION, Plan, PlannedStep, Purpose, Wave};
use gantry::session::{AgentSession as _, DialSettings, Dialer, SessionError, Sessions as _};
use gantry_model::{
    CommandMoment, CommandOrigin, Digest, ExitCode, ImageEvidence, ShellCommand, Step, StepAction,
};
use gantry_protocol::CloseCode;
use gantry_store::Store;
use gantry_transport::{Authority, Connection, Identity, Listener, ListenerOptions, Role, UdpMode};

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

/// An agent of this version and a session with it, as the orchestrator makes one.
struct Older {
    listener: Listener,
    dialer: Dialer,
    folder: tempfile::TempDir,
}

impl Older {
    async fn new(udp: UdpMode, version: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(&folder.path().join("pki")).unwrap();
        let options = ListenerOptions {
            program: version.to_owned(),
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
        Self {
            listener,
            dialer,
            folder,
        }
    }

    /// Does with the next message what agents of before do with one that they cannot decode. The connection stays.
    async fn does_not_understand(&self) -> Connection {
        let connection = self.listener.accept().await;
        let (mut send, mut receive) = connection.accept_bi().await.unwrap();
        let header = receive.read_exact(4).await.unwrap();
        assert!(!header.is_empty());
        send.reset(CloseCode::Protocol);
        connection
    }
}

#[tokio::test]
async fn an_agent_that_does_not_know_a_request_is_named_with_its_version() {
    for (udp, path) in [(UdpMode::Only, "quic"), (UdpMode::Never, "tcp")] {
        let older = Older::new(udp, "0.0.9").await;
        let evidence = ImageEvidence {
            name: "demo:v1".parse().unwrap(),
            manifest: b"{}".to_vec(),
            index: None,
            signatures: Vec::new(),
        };
        let ask = async {
            let session = older.dialer.session(HOST).await.unwrap();
            assert_eq!(session.path(), path);
            session.verify_image(&evidence).await.unwrap_err()
        };
        // A connection that is gone is one.
        let (error, _connection) = tokio::join!(ask, older.does_not_understand());
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
        drop(older.folder);
    }
}

#[tokio::test]
async fn an_agent_that_takes_no_keys_for_images_says_so_and_answers_the_next_question() {
    let older = Older::new(UdpMode::Only, "0.0.9").await;
    let ask = async {
        let session = older.dialer.session(HOST).await.unwrap();
        session.bring_image_key("a key".into()).await.unwrap_err()
    };
    let (error, connection) = tokio::join!(ask, older.does_not_understand());
    assert!(matches!(error, SessionError::NotUnderstood { .. }), "{error}");
    assert!(connection.close_reason().is_none());
}

/// A plan with this step alone.
fn plan(action: StepAction, mark: Mark) -> Plan {
    let (title, step) = (
        action.title(),
        Step {
            action,
            after: Vec::new(),
        },
    );
    Plan {
        version: PLAN_VERSION,
        purpose: Purpose::ReplaceCa,
        cluster: "demo".parse().unwrap(),
        image: None,
        kubernetes: None,
        hosts: Vec::new(),
        waves: vec![Wave {
            title: "new CA".into(),
            keep_going: false,
            steps: vec![PlannedStep {
                host: HOST,
                id: step.id(),
                title,
                mark,
                reason: String::new(),
                step,
            }],
        }],
    }
}

#[tokio::test]
async fn an_agent_that_does_not_know_a_step_is_named_before_the_plan_begins() {
    let older = Older::new(UdpMode::Only, "0.0.9").await;
    let newer = || StepAction::MakeClusterCa {
        cluster: "demo".parse().unwrap(),
        replaces: Digest::of(b""),
    };
    // Neither what every agent knows is asked about, nor what is done.
    for plan in [
        plan(StepAction::RemoveUnusedLayers, Mark::Change),
        plan(newer(), Mark::Done),
    ] {
        assert_eq!(known_steps::unknown(&plan, &older.dialer).await, []);
    }
    let plan = plan(newer(), Mark::Add);
    let (found, _connection) = tokio::join!(
        known_steps::unknown(&plan, &older.dialer),
        older.does_not_understand()
    );
    let [finding] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!((finding.check, finding.host), (Check::Agent, HOST));
    assert!(
        finding
            .message
            .contains("version 0.0.9, does not understand the step \"new cluster CA\""),
        "{}",
        finding.message
    );
    assert_eq!(preflight::exit_code(&found), ExitCode::Preflight);
    drop(older.folder);
}

fn plugin(when: CommandMoment) -> StepAction {
    StepAction::RunShellCommand(ShellCommand {
        cluster: "demo".parse().unwrap(),
        origin: CommandOrigin::Plugin("hello".into()),
        when,
        text: "true".into(),
        env: BTreeMap::new(),
        time_limit_s: 1,
    })
}

/// Agents of before knew commands, and not every moment.
#[tokio::test]
async fn every_moment_that_agents_of_before_do_not_know_is_asked_about() {
    let older = Older::new(UdpMode::Only, "0.0.9").await;
    let known = plan(plugin(CommandMoment::AfterJoin), Mark::Add);
    assert_eq!(known_steps::unknown(&known, &older.dialer).await, []);
    for when in [CommandMoment::AfterRollback, CommandMoment::BeforeScaleUp] {
        let older = Older::new(UdpMode::Only, "0.0.9").await;
        let plan = plan(plugin(when), Mark::Add);
        let (found, _connection) = tokio::join!(
            known_steps::unknown(&plan, &older.dialer),
            older.does_not_understand()
        );
        assert_eq!(found.len(), 1, "{when:?}");
    }
}

/// What comes after is as much as there is no way back from.
#[tokio::test]
async fn a_step_of_a_later_plan_is_asked_about_before_the_first_one_begins() {
    let older = Older::new(UdpMode::Only, "0.0.9").await;
    let plan = plan(StepAction::RemoveUnusedLayers, Mark::Change);
    let withdraw = StepAction::WithdrawClusterCa {
        cluster: "demo".parse().unwrap(),
        ca: Digest::of(b""),
        authorities: Vec::new(),
    };
    let later = [(
        HOST,
        Step {
            action: withdraw,
            after: Vec::new(),
        },
    )];
    let (found, _connection) = tokio::join!(
        known_steps::unknown_of(&plan, &later, &older.dialer),
        older.does_not_understand()
    );
    let [finding] = &found[..] else {
        panic!("{found:?}");
    };
    assert!(finding.message.contains("withdraw new CA"), "{}", finding.message);
}
