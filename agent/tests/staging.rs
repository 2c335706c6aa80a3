//! Layers on their way from an orchestrator's store to an agent's: whole, interrupted, lied about, without room.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use gantry::session::fetches::{FetchServer, SentCounters};
use gantry_agent::staging::{StageOutcome, StagingError, stage};
use gantry_model::{Digest, LayerDescriptor};
use gantry_protocol::{CloseCode, FetchReply, FetchRequest, Refusal, RefusalKind, TransferProgress};
use gantry_store::{ChunkSource, ReceiveError, Store};
use gantry_transport::{Connection, UdpMode};
use support::{Session, Site, TestStore, layer, noise, store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;

/// Stages `layers` over `session`, served by the orchestrator's own code.
async fn stage_from(
    from: &Store,
    to: &Store,
    session: &Session,
    layers: &[LayerDescriptor],
) -> (Result<StageOutcome, StagingError>, SentCounters) {
    let sent = SentCounters::default();
    let server = tokio::spawn({
        let (server, connection, sent) = (
            FetchServer::new(from.clone()),
            session.operator.clone(),
            sent.clone(),
        );
        async move { server.serve(connection, sent).await }
    });
    let progress = watch::Sender::new(TransferProgress::default());
    let result = stage(to, &session.agent, layers, progress, CancellationToken::new()).await;
    session.operator.close(CloseCode::Done, "");
    server.await.unwrap();
    (result, sent)
}

/// Two layers: large files, small ones, and something in common.
fn two_layers(store: &Store) -> [LayerDescriptor; 2] {
    let mut small: Vec<(String, Vec<u8>)> = (0..300)
        .map(|number| {
            (
                format!("etc/conf.d/{number}"),
                noise(number, 700 + number as usize),
            )
        })
        .collect();
    small.push(("etc/empty".into(), Vec::new()));
    let small: Vec<(&str, Vec<u8>)> = small
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.clone()))
        .collect();
    let large = [
        ("bin/kubelet", noise(1, 9 * MIB + 77)),
        ("bin/kubeadm", "text ".repeat(MIB).into_bytes()),
    ];
    [layer(store, &large), layer(store, &small)]
}

fn compressed(store: &Store, layer: &LayerDescriptor) -> u64 {
    ChunkSource::open(store, &layer.digest)
        .unwrap()
        .toc()
        .compressed_len()
}

fn assert_arrived(store: &Store, layers: &[LayerDescriptor]) {
    for layer in layers {
        assert!(store.has_layer(&layer.digest));
        assert_eq!(store.check_layer(&layer.digest).unwrap(), []);
    }
    assert_eq!(store.partial_layers().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_two_layers_arrives_and_travels_once() {
    let site = Site::new().await;
    for udp in [UdpMode::Only, UdpMode::Never] {
        let (from, to) = (store(), store());
        let layers = two_layers(&from.store);
        let wanted: u64 = layers.iter().map(|layer| compressed(&from.store, layer)).sum();

        let session = site.connect(udp).await;
        let (result, sent) = stage_from(&from.store, &to.store, &session, &layers).await;
        let outcome = result.unwrap();
        assert_eq!((outcome.present, outcome.staged), (0, 2));
        let progress = outcome.progress;
        assert_eq!((progress.wanted, progress.received), (wanted, wanted));
        assert_eq!(progress.written, progress.total);
        assert_eq!(sent.chunk_bytes(), wanted);
        assert_arrived(&to.store, &layers);

        let session = site.connect(udp).await;
        let (result, sent) = stage_from(&from.store, &to.store, &session, &layers).await;
        assert_eq!(
            result.unwrap(),
            StageOutcome {
                present: 2,
                ..StageOutcome::default()
            }
        );
        assert_eq!(sent.requests(), 0, "what is here is not asked for");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_on_the_host_is_refused_by_name_and_travels_with_the_next_stage() {
    let site = Site::new().await;
    let (from, to) = (store(), store());
    let layers = two_layers(&from.store);
    let stage_all = async || {
        let session = site.connect(UdpMode::Only).await;
        stage_from(&from.store, &to.store, &session, &layers).await
    };
    stage_all().await.0.unwrap();
    let kubelet = to.store.layer_dir(&layers[0].digest).join("bin/kubelet");
    let mut bytes = fs::read(&kubelet).unwrap();
    bytes[4 * MIB] ^= 1;
    fs::write(&kubelet, &bytes).unwrap();

    let (result, sent) = stage_all().await;
    let error = result.unwrap_err();
    assert!(matches!(error, StagingError::Damaged { .. }), "{error:?}");
    let name = format!("layer {}, bin/kubelet: its bytes", layers[0].digest.short());
    assert!(error.to_string().contains(&name), "{error}");
    assert_eq!(sent.requests(), 0);
    assert_eq!(fs::read(&kubelet).unwrap(), bytes, "nothing was done");

    let (result, sent) = stage_all().await;
    let outcome = result.unwrap();
    assert_eq!((outcome.present, outcome.staged), (1, 1));
    assert!(
        sent.chunk_bytes() <= MIB as u64 + 1024,
        "one chunk travels: {}",
        sent.chunk_bytes()
    );
    assert_arrived(&to.store, &layers);
    assert_eq!(stage_all().await.1.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_layer_has_does_not_travel() {
    let site = Site::new().await;
    let (from, to) = (store(), store());
    let kubelet = noise(1, 3 * MIB);
    let old = layer(
        &from.store,
        &[("bin/kubelet", kubelet.clone()), ("version", b"1".to_vec())],
    );
    let new = layer(
        &from.store,
        &[("bin/kubelet", kubelet.clone()), ("version", b"2".to_vec())],
    );
    let session = site.connect(UdpMode::Only).await;
    stage_from(&from.store, &to.store, &session, std::slice::from_ref(&old))
        .await
        .0
        .unwrap();

    let session = site.connect(UdpMode::Only).await;
    let (result, sent) = stage_from(&from.store, &to.store, &session, &[old, new.clone()]).await;
    let progress = result.unwrap().progress;
    assert!(sent.chunk_bytes() < 100, "{} bytes travelled", sent.chunk_bytes());
    assert_eq!(progress.reused + progress.written, progress.total);
    assert_eq!(
        fs::read(to.store.layer_dir(&new.digest).join("bin/kubelet")).unwrap(),
        kubelet
    );
}

/// Answers as an honest orchestrator does, but not more than `budget` bytes of chunks; then it says nothing more.
async fn serve_some(connection: Connection, store: Store, mut budget: usize) {
    let mut stuck = Vec::new();
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        let request = recv.recv::<FetchRequest>().await.unwrap();
        let answer = honest_answer(&store, &request);
        send.send(&FetchReply::Bytes(answer.len() as u64)).await.unwrap();
        let some = if matches!(request, FetchRequest::Toc { .. }) {
            answer.len()
        } else {
            budget.min(answer.len())
        };
        send.write_bytes(answer[..some].to_vec().into()).await.unwrap();
        if some == answer.len() {
            send.finish().await.unwrap();
        }
        if matches!(request, FetchRequest::Chunks { .. }) {
            budget -= some;
        }
        stuck.push(send);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_verified_before_a_lost_connection_is_not_sent_again() {
    const CHUNKS: usize = 40;
    let site = Site::new().await;
    let (from, to) = (store(), store());
    let layers = [layer(&from.store, &[("blob", noise(3, CHUNKS * MIB))])];
    let chunk = compressed(&from.store, &layers[0]) / CHUNKS as u64;
    let mut kept = 0;
    // In the middle of a chunk, between two fetches, with several of them open.
    for cut_after in [chunk / 2, 3 * chunk, 7 * chunk + 1, 20 * chunk] {
        let session = site.connect(UdpMode::Only).await;
        tokio::spawn(serve_some(
            session.operator.clone(),
            from.store.clone(),
            cut_after as usize,
        ));
        let (progress, mut told) = watch::channel(TransferProgress::default());
        let operator = session.operator.clone();
        let cut = tokio::spawn(async move {
            told.wait_for(|progress| progress.received == cut_after)
                .await
                .unwrap();
            operator.close(CloseCode::ShuttingDown, "the operator pressed Ctrl-C");
            told
        });
        let result = stage(
            &to.store,
            &session.agent,
            &layers,
            progress,
            CancellationToken::new(),
        )
        .await;
        let told = cut.await.unwrap();
        let Err(error @ StagingError::Interrupted { .. }) = result else {
            panic!("{result:?}")
        };
        assert!(error.is_interruption());
        assert!(error.to_string().contains("pressed Ctrl-C"), "{error}");

        let last = *told.borrow();
        assert_eq!(
            last.wanted,
            (CHUNKS - kept / MIB) as u64 * chunk,
            "only what is missing is asked for"
        );
        let whole_chunks = (cut_after / chunk) as usize;
        kept += whole_chunks * MIB;
        let partial = to.store.partial_layers().unwrap();
        assert_eq!(
            partial,
            [(layers[0].digest, kept as u64)],
            "every chunk that came whole is verified and durable"
        );
        assert!(!to.store.layer_dir(&layers[0].digest).exists());
    }
    let session = site.connect(UdpMode::Only).await;
    let (result, sent) = stage_from(&from.store, &to.store, &session, &layers).await;
    result.unwrap();
    assert_eq!(sent.chunk_bytes(), (CHUNKS - kept / MIB) as u64 * chunk);
    assert_arrived(&to.store, &layers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_stage_keeps_what_arrived() {
    let site = Site::new().await;
    let (from, to) = (store(), store());
    let layers = [layer(&from.store, &[("blob", noise(3, 24 * MIB))])];
    let session = site.connect(UdpMode::Only).await;
    tokio::spawn(serve_some(
        session.operator.clone(),
        from.store.clone(),
        5 * MIB + MIB / 2,
    ));
    let (progress, mut told) = watch::channel(TransferProgress::default());
    let cancel = CancellationToken::new();
    let canceller = cancel.clone();
    tokio::spawn(async move {
        let _ = told.wait_for(|progress| progress.written == 5 * MIB as u64).await;
        canceller.cancel();
    });
    let result = stage(&to.store, &session.agent, &layers, progress, cancel).await;
    assert!(matches!(result, Err(StagingError::Cancelled)), "{result:?}");
    assert_eq!(
        to.store.partial_layers().unwrap(),
        [(layers[0].digest, 5 * MIB as u64)]
    );
    assert!(session.agent.close_reason().is_none(), "the session lives on");
    let session = site.connect(UdpMode::Only).await;
    let (result, sent) = stage_from(&from.store, &to.store, &session, &layers).await;
    result.unwrap();
    assert!(sent.chunk_bytes() < 20 * MIB as u64);
    assert_arrived(&to.store, &layers);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stages_of_the_same_layer_send_it_once() {
    let site = Site::new().await;
    let (from, to) = (store(), store());
    let layers = two_layers(&from.store);
    let swapped = [layers[1].clone(), layers[0].clone()];
    let (one, other) = (
        site.connect(UdpMode::Only).await,
        site.connect(UdpMode::Only).await,
    );
    let ((first, first_sent), (second, second_sent)) = tokio::join!(
        stage_from(&from.store, &to.store, &one, &layers),
        stage_from(&from.store, &to.store, &other, &swapped),
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.staged + second.staged, 2);
    let wanted: u64 = layers.iter().map(|layer| compressed(&from.store, layer)).sum();
    assert_eq!(first_sent.chunk_bytes() + second_sent.chunk_bytes(), wanted);
    assert_arrived(&to.store, &layers);
}

/// What a server that is not ours answers; the bytes are those an honest one would send.
type Forge = dyn Fn(&FetchRequest, Vec<u8>) -> (FetchReply, Vec<u8>) + Send + Sync;

/// Chunks of this layer are answered only when so many bytes of content are in place.
type Held = (Digest, u64);

/// Answers fetches by `forge`, each stream for itself, until the connection ends.
async fn serve_forged(
    connection: Connection,
    store: Store,
    forge: Arc<Forge>,
    held: Option<Held>,
    told: watch::Receiver<TransferProgress>,
) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        let (store, forge, mut told) = (store.clone(), Arc::clone(&forge), told.clone());
        tokio::spawn(async move {
            let Ok(request) = recv.recv::<FetchRequest>().await else {
                return;
            };
            if let (Some((wait_for, bytes)), FetchRequest::Chunks { layer, .. }) = (held, &request)
                && *layer == wait_for
            {
                let _ = told.wait_for(|progress| progress.written >= bytes).await;
            }
            let honest = honest_answer(&store, &request);
            let (reply, bytes) = forge(&request, honest);
            let _ = send.send(&reply).await;
            let _ = send.write_bytes(bytes.into()).await;
            let _ = send.finish().await;
        });
    }
}

fn honest_answer(store: &Store, request: &FetchRequest) -> Vec<u8> {
    match request {
        FetchRequest::Toc { layer } => ChunkSource::open(store, layer).unwrap().toc_bytes().to_vec(),
        FetchRequest::Chunks { layer, ranges } => {
            let source = ChunkSource::open(store, layer).unwrap();
            let spans = ranges
                .iter()
                .flat_map(|range| source.span(range.first..range.first + range.count).unwrap());
            let mut bytes = Vec::new();
            for (offset, len) in spans {
                let mut piece = vec![0; len as usize];
                source.read_at(offset, &mut piece).unwrap();
                bytes.extend(piece);
            }
            bytes
        }
    }
}

async fn stage_forged(
    from: &TestStore,
    to: &TestStore,
    layers: &[LayerDescriptor],
    forge: impl Fn(&FetchRequest, Vec<u8>) -> (FetchReply, Vec<u8>) + Send + Sync + 'static,
) -> StagingError {
    stage_held(from, to, layers, None, forge).await
}

async fn stage_held(
    from: &TestStore,
    to: &TestStore,
    layers: &[LayerDescriptor],
    held: Option<Held>,
    forge: impl Fn(&FetchRequest, Vec<u8>) -> (FetchReply, Vec<u8>) + Send + Sync + 'static,
) -> StagingError {
    let session = Site::new().await.connect(UdpMode::Only).await;
    let (progress, told) = watch::channel(TransferProgress::default());
    let (operator, store) = (session.operator.clone(), from.store.clone());
    let server = tokio::spawn(serve_forged(operator, store, Arc::new(forge), held, told));
    let result = stage(
        &to.store,
        &session.agent,
        layers,
        progress,
        CancellationToken::new(),
    )
    .await;
    session.operator.close(CloseCode::Done, "");
    server.await.unwrap();
    result.unwrap_err()
}

fn bytes(answer: Vec<u8>) -> (FetchReply, Vec<u8>) {
    (FetchReply::Bytes(answer.len() as u64), answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_lies_is_named_and_the_other_layers_chunks_are_kept() {
    let (from, to) = (store(), store());
    let honest = layer(&from.store, &[("good", noise(1, 4 * MIB))]);
    let forged = layer(
        &from.store,
        &[("opt/first", noise(2, 100)), ("opt/second", noise(3, 2 * MIB))],
    );
    let lie_in = forged.digest;
    let layers = [honest.clone(), forged.clone()];
    let held = Some((forged.digest, 4 * MIB as u64));
    let error = stage_held(&from, &to, &layers, held, move |request, mut answer| {
        if matches!(request, FetchRequest::Chunks { layer, .. } if *layer == lie_in) {
            *answer.last_mut().unwrap() ^= 1;
        }
        bytes(answer)
    })
    .await;
    let StagingError::Receive(ReceiveError::Chunk {
        layer, file, chunk, ..
    }) = &error
    else {
        panic!("{error}")
    };
    assert_eq!((*layer, file.as_str(), *chunk), (forged.digest, "opt/second", 2));
    assert_eq!(error.kind(), RefusalKind::Invalid);
    assert!(
        !to.store.layer_dir(&forged.digest).exists(),
        "nothing of it appears"
    );
    let kept = to.store.has_layer(&honest.digest)
        || to
            .store
            .partial_layers()
            .unwrap()
            .contains(&(honest.digest, 4 * MIB as u64));
    assert!(kept, "the honest layer's chunks are kept");

    let session = Site::new().await.connect(UdpMode::Only).await;
    let layers = [honest, forged];
    stage_from(&from.store, &to.store, &session, &layers)
        .await
        .0
        .unwrap();
    assert_arrived(&to.store, &layers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_contents_that_lies_is_refused() {
    let (from, to) = (store(), store());
    let layers = [layer(&from.store, &[("file", noise(1, 100))])];
    let error = stage_forged(&from, &to, &layers, |_, mut answer| {
        answer[10] ^= 1;
        bytes(answer)
    })
    .await;
    assert!(
        matches!(error, StagingError::Receive(ReceiveError::Toc { .. })),
        "{error}"
    );
    assert_eq!(to.store.partial_layers().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_another_length_are_refused() {
    let (from, fresh) = (store(), [store(), store(), store()]);
    let layers = [layer(&from.store, &[("file", noise(1, 5000))])];
    let chunks = |request: &FetchRequest| matches!(request, FetchRequest::Chunks { .. });
    let announced = stage_forged(&from, &fresh[0], &layers, move |request, answer| {
        let more = u64::from(chunks(request));
        (FetchReply::Bytes(answer.len() as u64 + more), answer)
    });
    assert!(matches!(announced.await, StagingError::Protocol { .. }));
    let longer = stage_forged(&from, &fresh[1], &layers, move |request, mut answer| {
        let reply = FetchReply::Bytes(answer.len() as u64);
        answer.extend(vec![0; usize::from(chunks(request))]);
        (reply, answer)
    });
    assert!(matches!(longer.await, StagingError::Protocol { .. }));
    let shorter = stage_forged(&from, &fresh[2], &layers, move |request, mut answer| {
        let reply = FetchReply::Bytes(answer.len() as u64);
        answer.truncate(answer.len() - usize::from(chunks(request)));
        (reply, answer)
    });
    assert!(matches!(shorter.await, StagingError::Interrupted { .. }));
    assert!(fresh.iter().all(|to| !to.store.has_layer(&layers[0].digest)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_the_orchestrator_lacks_is_named() {
    let (from, to, other) = (store(), store(), store());
    let layers = [layer(&other.store, &[("file", noise(1, 100))])];
    let session = Site::new().await.connect(UdpMode::Only).await;
    let (result, _) = stage_from(&from.store, &to.store, &session, &layers).await;
    let Err(error @ StagingError::Refused { .. }) = result else {
        panic!("{result:?}")
    };
    assert!(
        error.to_string().contains(&layers[0].digest.to_string()),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_answered_are_refused_and_the_next_is_served() {
    let from = store();
    let layer = layer(&from.store, &[("file", noise(1, 100))]);
    let session = Site::new().await.connect(UdpMode::Only).await;
    let server = FetchServer::new(from.store.clone());
    let operator = session.operator.clone();
    let server = tokio::spawn(async move { server.serve(operator, SentCounters::default()).await });
    let range = |first, count| gantry_protocol::ChunkRange { first, count };
    let ask = async |layer: Digest, ranges: Vec<gantry_protocol::ChunkRange>| {
        let (mut send, mut recv) = session.agent.open_bi().await.unwrap();
        send.send(&FetchRequest::Chunks { layer, ranges }).await.unwrap();
        recv.recv::<FetchReply>().await.unwrap()
    };
    for ranges in [
        vec![],
        vec![range(0, 2)],
        vec![range(0, 1), range(0, 1)],
        vec![range(u32::MAX, 9)],
    ] {
        let reply = ask(layer.digest, ranges).await;
        assert!(
            matches!(
                reply,
                FetchReply::Refused(Refusal {
                    kind: RefusalKind::Invalid,
                    ..
                })
            ),
            "{reply:?}"
        );
    }
    let reply = ask(Digest::of(b"unknown"), vec![range(0, 1)]).await;
    assert!(matches!(reply, FetchReply::Refused(_)), "{reply:?}");
    let reply = ask(layer.digest, vec![range(0, 1)]).await;
    assert!(matches!(reply, FetchReply::Bytes(_)), "{reply:?}");
    session.agent.close(CloseCode::Done, "");
    let ended = tokio::time::timeout(Duration::from_secs(10), server).await;
    assert!(ended.unwrap().unwrap().by_peer);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_fit_alone_but_not_together_are_refused_before_the_first_chunk() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: only root can mount the small file system this needs");
        return;
    }
    let from = store();
    let layers = [
        layer(&from.store, &[("one", noise(1, 5 * MIB))]),
        layer(&from.store, &[("other", noise(2, 5 * MIB))]),
    ];
    let small = SmallDisk::mount("8m");
    let to = Store::open(small.0.path()).unwrap();
    let session = Site::new().await.connect(UdpMode::Only).await;
    let (result, sent) = stage_from(&from.store, &to, &session, &layers).await;
    let Err(error @ StagingError::NoSpace { needed, free, .. }) = result else {
        panic!("{result:?}")
    };
    assert!(needed >= 10 * MIB as u64 && free < 8 * MIB as u64, "{error}");
    assert_eq!(error.kind(), RefusalKind::NoSpace);
    assert_eq!(sent.chunk_bytes(), 0);
    // One of them still fits.
    let session = Site::new().await.connect(UdpMode::Only).await;
    let one = std::slice::from_ref(&layers[0]);
    stage_from(&from.store, &to, &session, one).await.0.unwrap();
    assert!(to.has_layer(&layers[0].digest));
}

/// A file system of a few MiB in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        rustix::mount::mount(
            "none",
            dir.path(),
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            Some(&*options),
        )
        .unwrap();
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}
