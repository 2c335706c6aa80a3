//! The whole agent in one process, enrolled and spoken to over real QUIC on the loopback.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use gantry::session::fetches::{FetchServer, SentCounters};
use gantry_agent::config::Config;
use gantry_agent::enrolment;
use gantry_agent::run::run_until;
use gantry_model::{
    ClusterName, Digest, HostsEntry, Inventory, LayerDescriptor, Step, StepAction, StepOutcome,
};
use gantry_protocol::{Message, RefusalKind, Reply, Request, StepEvent};
use gantry_signing::{KeyKind, SigningKey};
use gantry_store::{Descriptor, Image, ImageConfig, NewImage};
use gantry_transport::{Authority, Connection, DialOptions, Identity, Role, Token, UdpMode, dial, enrol};
use support::{Book, TestStore, layer, noise, store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const HOST: &str = "127.0.0.1";

/// An agent that runs, and the authority that enrolled it.
struct Bed {
    folder: tempfile::TempDir,
    authority: Authority,
    config: Config,
    stop: CancellationToken,
    agent: JoinHandle<anyhow::Result<()>>,
}

impl Bed {
    /// An agent that was started without a certificate, given a token, and enrolled, all without a restart.
    async fn enrolled() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = Config {
            listen: free_port(),
            root: path("gantry"),
            token_file: path("token"),
            policy_file: path("policy.json"),
            hosts_file: path("hosts"),
            sealer_data: path("sealer"),
            ..Config::default()
        };
        fs::write(&config.hosts_file, "127.0.0.1 localhost\n").unwrap();
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        fs::write(&config.policy_file, policy).unwrap();
        let authority = Authority::open_or_create(&path("pki")).unwrap();
        let stop = CancellationToken::new();
        let agent = tokio::spawn(run_until(config.clone(), stop.clone()));
        let bed = Self {
            folder,
            authority,
            config,
            stop,
            agent,
        };
        let token = Token::create(Duration::from_secs(60));
        enrolment::drop_token(&bed.config.token_file, &token.to_string()).unwrap();
        let book = Book::with(token.record(1));
        let enrolled = until(async || {
            enrol(
                bed.config.listen,
                HOST,
                &book,
                &bed.authority,
                &DialOptions::default(),
            )
            .await
            .ok()
        });
        assert_eq!(enrolled.await.name, HOST);
        let reader = bed.identity(Role::Reader);
        until(async || bed.try_dial(&reader).await).await;
        bed
    }

    fn identity(&self, role: Role) -> Identity {
        self.authority.issue_operator("ann", role).unwrap()
    }

    async fn try_dial(&self, identity: &Identity) -> Option<Connection> {
        let options = DialOptions {
            expected: Some(HOST.into()),
            udp: UdpMode::Only,
            ..DialOptions::default()
        };
        dial(self.config.listen, identity, &options)
            .await
            .ok()
            .map(|(connection, _)| connection)
    }

    async fn connect(&self, role: Role) -> Connection {
        self.try_dial(&self.identity(role)).await.unwrap()
    }

    /// Ends the agent as SIGTERM does and starts another one over the same files.
    async fn restart(&mut self) {
        self.stop.cancel();
        (&mut self.agent).await.unwrap().unwrap();
        self.stop = CancellationToken::new();
        self.agent = tokio::spawn(run_until(self.config.clone(), self.stop.clone()));
        let reader = self.identity(Role::Reader);
        until(async || self.try_dial(&reader).await).await;
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind((HOST, 0)).unwrap().local_addr().unwrap()
}

/// The first thing `look` gives; half a minute at most.
async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found)
        .await
        .expect("it should have come by now")
}

async fn ask(connection: &Connection, request: Request) -> (Reply, gantry_transport::RecvStream) {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.send(&request).await.unwrap();
    send.finish().await.unwrap();
    (receive.recv().await.unwrap(), receive)
}

async fn inventory(connection: &Connection) -> Inventory {
    match ask(connection, Request::Inventory).await.0 {
        Reply::Inventory(inventory) => *inventory,
        other => panic!("an inventory, not {other:?}"),
    }
}

async fn rest<M: Message>(mut stream: gantry_transport::RecvStream) -> Vec<M> {
    let mut messages = vec![];
    while let Some(message) = stream.recv_or_end().await.unwrap() {
        messages.push(message);
    }
    messages
}

/// Every event of a step.
async fn run(connection: &Connection, action: StepAction) -> Vec<StepEvent> {
    let (reply, stream) = ask(
        connection,
        Request::Run(Step {
            action,
            after: vec![],
        }),
    )
    .await;
    assert_eq!(reply, Reply::Accepted);
    rest(stream).await
}

fn finished(events: &[StepEvent]) -> &StepOutcome {
    match events.last() {
        Some(StepEvent::Finished(outcome)) => outcome,
        other => panic!("the last event is Finished, not {other:?}"),
    }
}

fn demo() -> ClusterName {
    "demo".parse().unwrap()
}

fn image() -> (TestStore, Vec<LayerDescriptor>) {
    let images = store();
    let layers = vec![
        layer(
            &images.store,
            &[
                ("scripts/init.sh", b"echo hello\n".to_vec()),
                ("bin/tool", noise(1, 3 << 20)),
            ],
        ),
        layer(&images.store, &[("etc/daemon.json", b"{}".to_vec())]),
    ];
    (images, layers)
}

fn stage(layers: &[LayerDescriptor]) -> StepAction {
    StepAction::Stage {
        image: Digest::of(b"image"),
        layers: layers.to_vec(),
    }
}

fn serve(images: &TestStore, connection: &Connection) -> SentCounters {
    let sent = SentCounters::default();
    let (server, connection, counted) = (
        FetchServer::new(images.store.clone()),
        connection.clone(),
        sent.clone(),
    );
    tokio::spawn(async move { server.serve(connection, counted).await });
    sent
}

const DONE: StepOutcome = StepOutcome::Done { generation: None };

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolled_agent_reports_its_host_and_has_used_up_its_token() {
    let bed = Bed::enrolled().await;
    let inventory = inventory(&bed.connect(Role::Reader).await).await;
    assert_eq!(inventory.agent_version, env!("CARGO_PKG_VERSION"));
    assert!(inventory.facts.memory > 0 && inventory.layers.is_empty() && inventory.steps.is_empty());
    assert!(!bed.config.token_file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn staged_layers_arrive_once_and_are_not_sent_again() {
    let mut bed = Bed::enrolled().await;
    let (images, layers) = image();
    let operator = bed.connect(Role::Operator).await;
    let sent = serve(&images, &operator);
    let events = run(&operator, stage(&layers)).await;
    assert_eq!(events[0], StepEvent::Started);
    assert!(events.iter().any(|event| matches!(event, StepEvent::Progress(_))));
    assert_eq!(finished(&events), &DONE);
    assert!(sent.chunk_bytes() > 3 << 20);
    let before = sent.chunk_bytes();
    assert_eq!(
        run(&operator, stage(&layers)).await,
        [StepEvent::AlreadyDone, StepEvent::Finished(DONE)]
    );
    assert_eq!(sent.chunk_bytes(), before);
    bed.restart().await;
    let reader = bed.connect(Role::Reader).await;
    let inventory = inventory(&reader).await;
    assert_eq!(inventory.layers.len(), 2);
    assert_eq!(inventory.steps[0].outcome, Some(DONE));
}

/// The image of these layers, by the name `demo:v1`.
fn in_store(images: &TestStore, layers: &[LayerDescriptor]) -> Image {
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let image = NewImage {
        config,
        layers: layers.iter().map(Descriptor::of_chunked_layer).collect(),
        annotations: [].into(),
    };
    let held = images.store.share().unwrap();
    images
        .store
        .add_image(held, &"demo:v1".parse().unwrap(), &image)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hosts_own_policy_does_not_accept_is_not_even_asked_for() {
    let mut bed = Bed::enrolled().await;
    let (images, layers) = image();
    let image = in_store(&images, &layers);
    let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let public = bed.folder.path().join("release.pub");
    fs::write(&public, key.verification_key().to_pem()).unwrap();
    let policy = format!(
        r#"{{"default": [{{"type": "sigstoreSigned", "keyPath": "{}"}}]}}"#,
        public.display()
    );
    fs::write(&bed.config.policy_file, policy).unwrap();
    let action = StepAction::Stage {
        image: image.manifest_digest,
        layers: layers.clone(),
    };
    let refused = async |operator: &Connection, request: Request, said: &str| {
        let (reply, _) = ask(operator, request).await;
        let Reply::Refused(refusal) = reply else {
            panic!("refused, and not {reply:?}");
        };
        assert_eq!(refusal.kind, RefusalKind::Untrusted, "{refusal}");
        assert!(refusal.message.contains(said), "{refusal}");
    };
    let step = |action: &StepAction| Step {
        action: action.clone(),
        after: vec![],
    };
    let shown = || {
        images
            .store
            .accepted(&"demo:v1".parse().unwrap(), &image)
            .unwrap()
    };
    let operator = bed.connect(Role::Operator).await;
    let sent = serve(&images, &operator);
    // Nothing was shown; what was shown is not signed; then it is.
    refused(&operator, Request::Run(step(&action)), "none were shown").await;
    let request = Request::VerifyImage { image: shown() };
    refused(&operator, request, "it is not signed").await;
    refused(&operator, Request::Run(step(&action)), "none were shown").await;
    let signature = key.sign(image.manifest_digest, "demo").unwrap();
    images
        .store
        .add_signature(&image.manifest_digest, &signature)
        .unwrap();
    let request = Request::VerifyImage { image: shown() };
    assert_eq!(ask(&operator, request).await.0, Reply::Done);
    // That it knows a step is not that it may be done.
    let request = Request::Knows { step: step(&action) };
    assert_eq!(ask(&operator, request).await.0, Reply::Done);
    // Other layers under the digest of the signed image.
    let other = StepAction::Stage {
        image: image.manifest_digest,
        layers: layers[..1].to_vec(),
    };
    refused(&operator, Request::Run(step(&other)), "not those of image").await;
    assert_eq!(sent.chunk_bytes(), 0);
    assert_eq!(finished(&run(&operator, action.clone()).await), &DONE);

    // Also what is here already, when nobody shows why it may be.
    bed.restart().await;
    let operator = bed.connect(Role::Operator).await;
    refused(&operator, Request::Run(step(&action)), "none were shown").await;
    let request = Request::VerifyImage { image: shown() };
    let (reply, _) = ask(&bed.connect(Role::Reader).await, request).await;
    assert!(matches!(reply, Reply::Refused(refusal) if refusal.kind == RefusalKind::Forbidden));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_an_orchestrator_brings_counts_as_long_as_its_certificate() {
    let mut bed = Bed::enrolled().await;
    let (images, layers) = image();
    let image = in_store(&images, &layers);
    let keys = bed.config.image_keys();
    let policy = format!(
        r#"{{"default": [{{"type": "sigstoreSigned", "keyPath": "{}"}}]}}"#,
        keys.display()
    );
    fs::write(&bed.config.policy_file, policy).unwrap();
    let (own, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let (others, _) = SigningKey::generate(KeyKind::Ed25519).unwrap();
    let signature = own.sign(image.manifest_digest, "demo").unwrap();
    images
        .store
        .add_signature(&image.manifest_digest, &signature)
        .unwrap();
    let shown = || Request::VerifyImage {
        image: images
            .store
            .accepted(&"demo:v1".parse().unwrap(), &image)
            .unwrap(),
    };
    let key = |key: &SigningKey| Request::ImageKey {
        key: key.verification_key().to_pem(),
    };
    let refused = async |connection: &Connection, request: Request, kind: RefusalKind, said: &str| {
        let (reply, _) = ask(connection, request).await;
        let Reply::Refused(refusal) = reply else {
            panic!("refused, and not {reply:?}");
        };
        assert_eq!(refusal.kind, kind, "{refusal}");
        assert!(refusal.message.contains(said), "{refusal}");
    };
    let (fired, boss) = (bed.identity(Role::Operator), bed.identity(Role::Operator));
    let first = bed.try_dial(&fired).await.unwrap();
    let second = bed.try_dial(&boss).await.unwrap();
    let reader = bed.connect(Role::Reader).await;
    refused(&reader, key(&own), RefusalKind::Forbidden, "operator").await;
    let nothing = Request::ImageKey { key: "no key".into() };
    refused(&first, nothing, RefusalKind::Invalid, "not a key").await;
    assert!(!keys.exists());
    // No key is there yet.
    refused(&first, shown(), RefusalKind::Untrusted, "no image is accepted").await;
    assert_eq!(ask(&second, key(&others)).await.0, Reply::Done);
    refused(
        &first,
        shown(),
        RefusalKind::Untrusted,
        "its signature is not by key",
    )
    .await;
    assert_eq!(ask(&first, key(&own)).await.0, Reply::Done);
    assert_eq!(ask(&first, shown()).await.0, Reply::Done);
    // Whoever brought it is not believed any more, and neither is what he signed.
    let crl = bed.authority.revoke(fired.serial()).unwrap();
    assert_eq!(ask(&second, Request::Revocations { crl }).await.0, Reply::Done);
    refused(
        &second,
        shown(),
        RefusalKind::Untrusted,
        "its signature is not by key",
    )
    .await;
    assert_eq!(ask(&second, key(&own)).await.0, Reply::Done);
    assert_eq!(ask(&second, shown()).await.0, Reply::Done);

    // Keys that cannot be dropped are no success, and whoever brought them is not trusted all the same.
    let brought = fs::read_to_string(&keys).unwrap();
    fs::write(&keys, brought.replacen("\nM", "\n!", 1)).unwrap();
    let crl = bed.authority.revoke(boss.serial()).unwrap();
    let third = bed.connect(Role::Operator).await;
    let revoked = || Request::Revocations { crl: crl.clone() };
    refused(
        &third,
        revoked(),
        RefusalKind::Internal,
        "by whose keys it accepts images was not",
    )
    .await;
    assert!(bed.try_dial(&boss).await.is_none());
    fs::write(&keys, &brought).unwrap();
    assert_eq!(ask(&third, revoked()).await.0, Reply::Done);
    assert!(!keys.exists());
    // As an agent leaves them that was killed in between.
    fs::write(&keys, &brought).unwrap();
    bed.restart().await;
    assert!(!keys.exists());
    // Without anything being asked for, they end with their certificates.
    let third = bed.connect(Role::Operator).await;
    assert_eq!(ask(&third, key(&own)).await.0, Reply::Done);
    assert_eq!(ask(&third, shown()).await.0, Reply::Done);
    let brought = fs::read_to_string(&keys).unwrap();
    let line = brought.lines().find(|line| line.starts_with("Ends: ")).unwrap();
    fs::write(&keys, brought.replace(line, "Ends: 2020-01-01T00:00:00Z")).unwrap();
    refused(&third, shown(), RefusalKind::Untrusted, "no image is accepted").await;
    assert!(!keys.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_goes_on_where_a_lost_connection_stopped_it() {
    let bed = Bed::enrolled().await;
    let images = store();
    let layers = vec![layer(&images.store, &[("large", noise(7, 64 << 20))])];
    let first = bed.connect(Role::Operator).await;
    let sent_first = serve(&images, &first);
    let (_, mut events) = ask(
        &first,
        Request::Run(Step {
            action: stage(&layers),
            after: vec![],
        }),
    )
    .await;
    while !matches!(events.recv().await.unwrap(), StepEvent::Progress(progress) if progress.written > 8 << 20)
    {
    }
    first.close(gantry_protocol::CloseCode::Done, "gone");
    let second = bed.connect(Role::Operator).await;
    let sent_second = serve(&images, &second);
    until(async || {
        let (reply, stream) = ask(
            &second,
            Request::Run(Step {
                action: stage(&layers),
                after: vec![],
            }),
        )
        .await;
        assert_eq!(reply, Reply::Accepted);
        // The first request may attach to the stage that is just ending.
        (finished(&rest(stream).await) == &DONE).then_some(())
    })
    .await;
    let whole = gantry_store::ChunkSource::open(&images.store, &layers[0].digest)
        .unwrap()
        .toc()
        .compressed_len();
    assert!(
        sent_second.chunk_bytes() <= whole - (8 << 20),
        "{} of {whole}",
        sent_second.chunk_bytes()
    );
    assert!(sent_first.chunk_bytes() + sent_second.chunk_bytes() < whole + whole / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_may_look_and_not_touch() {
    let bed = Bed::enrolled().await;
    let reader = bed.connect(Role::Reader).await;
    let step = Step {
        action: StepAction::RemoveUnusedLayers,
        after: vec![],
    };
    for request in [Request::Run(step.clone()), Request::Cancel { step: step.id() }] {
        let Reply::Refused(refusal) = ask(&reader, request).await.0 else {
            panic!("a reader must be refused")
        };
        assert_eq!(refusal.kind, RefusalKind::Forbidden);
        assert!(refusal.message.contains("operator"), "{refusal}");
    }
    assert!(inventory(&reader).await.steps.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_operator_is_turned_away_from_then_on() {
    let bed = Bed::enrolled().await;
    let (fired, boss) = (bed.identity(Role::Operator), bed.identity(Role::Operator));
    let open = bed.try_dial(&fired).await.unwrap();
    let crl = bed.authority.revoke(fired.serial()).unwrap();
    let connection = bed.try_dial(&boss).await.unwrap();
    assert_eq!(
        ask(&connection, Request::Revocations { crl }).await.0,
        Reply::Done
    );
    open.closed().await;
    assert!(bed.try_dial(&fired).await.is_none());
    assert!(bed.try_dial(&boss).await.is_some());
    let Reply::Refused(refusal) = ask(&connection, Request::Revocations { crl: vec![1, 2] }).await.0 else {
        panic!("that is no list")
    };
    assert_eq!(refusal.kind, RefusalKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_is_replaced_without_cutting_a_session_and_holds_after_a_restart() {
    let mut bed = Bed::enrolled().await;
    let old = bed.identity(Role::Operator);
    let stays = bed.try_dial(&old).await.unwrap();
    let both = bed.authority.begin_rotation().unwrap();
    let new = both.issue_operator("ann", Role::Operator).unwrap();
    let connection = bed.try_dial(&new).await.unwrap();
    let trust = |trust: gantry_transport::Trust| Request::Trust {
        authorities: trust.to_pem(),
    };
    let refused = |reply: Reply| match reply {
        Reply::Refused(refusal) => refusal.message,
        other => panic!("{other:?}"),
    };
    let early = refused(ask(&connection, trust(both.trust_in_new().unwrap())).await.0);
    assert!(
        early.contains("no CA that is trusted here vouches for"),
        "{early}"
    );
    assert_eq!(
        ask(&connection, trust(both.trust().unwrap())).await.0,
        Reply::Done
    );
    let Reply::SigningRequest(request) = ask(&connection, Request::SigningRequest).await.0 else {
        panic!("a signing request was due")
    };
    let der = both.sign_agent(&request, HOST).unwrap().der;
    assert_eq!(
        ask(&connection, Request::Certificate { der }).await.0,
        Reply::Done
    );
    assert!(stays.close_reason().is_none(), "both CAs are trusted");
    assert!(bed.try_dial(&old).await.is_some());

    let dropping = both.drop_replaced().unwrap();
    assert_eq!(
        ask(&connection, trust(dropping.trust().unwrap())).await.0,
        Reply::Done
    );
    stays.closed().await;
    assert!(bed.try_dial(&old).await.is_none());
    assert!(connection.close_reason().is_none(), "this one is of the new CA");
    let again = refused(
        ask(
            &connection,
            Request::Trust {
                authorities: String::new(),
            },
        )
        .await
        .0,
    );
    assert!(again.contains("it has none"), "{again}");
    bed.authority = dropping;
    bed.restart().await;
    assert!(bed.try_dial(&new).await.is_some() && bed.try_dial(&old).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_entries_are_written_watched_and_removed() {
    let bed = Bed::enrolled().await;
    let operator = bed.connect(Role::Operator).await;
    let entry = HostsEntry {
        address: "10.77.0.1".parse().unwrap(),
        names: vec!["sea.hub".into()],
    };
    let write = StepAction::WriteHostsEntries {
        cluster: demo(),
        entries: vec![entry],
    };
    assert_eq!(
        run(&operator, write.clone()).await,
        [StepEvent::Started, StepEvent::Finished(DONE)]
    );
    let drift = async || ask(&operator, Request::Drift { cluster: demo() }).await.0;
    assert_eq!(drift().await, Reply::Drift(vec![]));
    fs::write(&bed.config.hosts_file, "127.0.0.1 localhost\n").unwrap();
    assert_eq!(
        drift().await,
        Reply::Drift(vec!["hosts entries: the block is gone".into()])
    );
    assert_eq!(finished(&run(&operator, write).await), &DONE);
    let remove = StepAction::RemoveHostsEntries { cluster: demo() };
    assert_eq!(finished(&run(&operator, remove).await), &DONE);
    assert_eq!(
        fs::read_to_string(&bed.config.hosts_file).unwrap(),
        "127.0.0.1 localhost\n"
    );
    assert_eq!(
        finished(&run(&operator, StepAction::ForgetCluster { cluster: demo() }).await),
        &DONE
    );
    assert!(inventory(&operator).await.steps.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_do_not_share_a_root() {
    let bed = Bed::enrolled().await;
    let error = run_until(bed.config.clone(), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("another gantry-agent"), "{error}");
}

/// Needs the right to mount; the mounts of these tests are taken down with their cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_rootfs_is_assembled_from_staged_layers_and_removed_without_a_trace() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let bed = Bed::enrolled().await;
    let (images, layers) = image();
    let operator = bed.connect(Role::Operator).await;
    serve(&images, &operator);
    let assemble = StepAction::AssembleRootfs {
        cluster: demo(),
        image: Digest::of(b"image"),
        layers: layers.iter().map(|layer| layer.digest).collect(),
    };
    let StepOutcome::Failed(reason) = finished(&run(&operator, assemble.clone()).await).clone() else {
        panic!("nothing is staged")
    };
    assert!(reason.contains("stage the image first"), "{reason}");
    run(&operator, stage(&layers)).await;
    let generation = StepOutcome::Done {
        generation: Some(gantry_model::GenerationId(1)),
    };
    assert_eq!(finished(&run(&operator, assemble.clone()).await), &generation);
    assert_eq!(run(&operator, assemble).await[0], StepEvent::AlreadyDone);
    for rootfs in ["gantry/data/demo/rootfs", "sealer/demo/rootfs"] {
        assert_eq!(
            fs::read_to_string(bed.path(rootfs).join("scripts/init.sh")).unwrap(),
            "echo hello\n"
        );
        assert_eq!(
            fs::read_to_string(bed.path(rootfs).join("etc/daemon.json")).unwrap(),
            "{}"
        );
    }
    assert_eq!(
        ask(&operator, Request::Drift { cluster: demo() }).await.0,
        Reply::Drift(vec![])
    );
    assert_eq!(
        inventory(&operator).await.current,
        [(demo(), gantry_model::GenerationId(1))]
    );
    assert_eq!(
        finished(&run(&operator, StepAction::RemoveUnusedLayers).await),
        &DONE
    );
    assert_eq!(inventory(&operator).await.layers.len(), 2);
    for action in [
        StepAction::RemoveRootfs { cluster: demo() },
        StepAction::RemoveUnusedLayers,
    ] {
        assert_eq!(finished(&run(&operator, action).await), &DONE);
    }
    let after = inventory(&operator).await;
    assert!(after.layers.is_empty() && after.generations.is_empty() && after.current.is_empty());
    assert!(!bed.path("sealer").exists() && !bed.path("gantry/data/demo").exists());
}
