//! A stage over a simulated network, in virtual time: loss, delay, partitions and restarts of either side, by seed.
//!
//! Both real session stacks run (quinn, TLS, the hello, the receiver's transfer); only the sockets are turmoil's.
//! `GANTRY_SIM_SEED=n` replays one seed, `GANTRY_SIM_SEEDS=n` runs that many.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use common::Installation;
use gantry_protocol::transfer::{Transfer, WantedLayer, Window, check_ranges};
use gantry_protocol::{CloseCode, FetchReply, FetchRequest};
use gantry_transport::{
    Connection, DialOptions, Identity, Listener, ListenerOptions, StreamError, UdpMode, dial,
};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use turmoil::net::UdpSocket;

const PORT: u16 = 7443;
const CHUNKS: u32 = 160;
const WINDOW: Window = Window {
    fetches: 3,
    fetch_bytes: 64 << 10,
    fetch_chunks: 32,
};
/// Virtual seconds within which everything has to be done, whatever happens.
const TIME: Duration = Duration::from_secs(600);

/// turmoil's UDP as quinn wants it: one datagram at a time.
#[derive(Debug)]
struct SimulatedSocket(UdpSocket);

impl AsyncUdpSocket for SimulatedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.0.try_send_to(transmit.contents, transmit.destination) {
            // A partition or a host that is down: UDP loses the datagram without a word.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.0.try_recv_from(&mut bufs[0]) {
                Ok((len, addr)) => {
                    meta[0] = RecvMeta {
                        addr,
                        len,
                        stride: len,
                        ecn: None,
                        dst_ip: None,
                    };
                    return Poll::Ready(Ok(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let readable = std::pin::pin!(self.0.readable());
                    std::task::ready!(readable.poll(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn socket(port: u16) -> Arc<dyn AsyncUdpSocket> {
    let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    Arc::new(SimulatedSocket(
        UdpSocket::bind(addr).await.expect("the port is free"),
    ))
}

/// What survives a restart of the agent, and what the test counts.
#[derive(Default)]
struct Disk {
    /// Chunks verified and written, with how often each arrived.
    chunks: BTreeMap<u32, u32>,
    /// Times any chunk was asked for.
    asked: u32,
    /// Sessions that began a transfer.
    sessions: u32,
    /// The orchestrator heard that all is done.
    done: bool,
}

type SharedDisk = Arc<Mutex<Disk>>;

/// A small generator for the script of one seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn chunk_bytes(seed: u64, chunk: u32) -> Bytes {
    let mut random = Random(seed ^ u64::from(chunk) << 32);
    let len = usize::try_from(1 + random.below(9_000)).unwrap();
    let byte = u8::try_from(random.below(256)).unwrap();
    vec![byte; len].into()
}

/// The agent: listens, and on each session fetches what its disk lacks.
async fn agent(identity: Identity, seed: u64, disk: SharedDisk) -> turmoil::Result {
    let options = ListenerOptions {
        socket: Some(socket(PORT).await),
        ..ListenerOptions::default()
    };
    let listener = Listener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)), identity, options).await?;
    let mut staging: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        let connection = listener.accept().await;
        // Only one session stages at a time; the newest one knows best whether its orchestrator lives.
        if let Some(former) = staging.take() {
            former.abort();
            let _ = former.await;
        }
        let disk = Arc::clone(&disk);
        staging = Some(tokio::spawn(async move {
            let _ = stage(&connection, seed, &disk).await;
        }));
    }
}

async fn stage(connection: &Connection, seed: u64, disk: &SharedDisk) -> Result<(), StreamError> {
    let (mut wanted_by, mut request) = connection.accept_bi().await?;
    let _: gantry_protocol::Request = request.recv().await?;
    let lens: Vec<u32> = (0..CHUNKS)
        .map(|chunk| u32::try_from(chunk_bytes(seed, chunk).len()).unwrap())
        .collect();
    let missing: Vec<u32> = {
        let mut disk = disk.lock().unwrap();
        disk.sessions += 1;
        (0..CHUNKS)
            .filter(|chunk| !disk.chunks.contains_key(chunk))
            .collect()
    };
    let lengths = missing.iter().map(|&chunk| lens[chunk as usize]).collect();
    let layer = gantry_model::Digest::of(b"layer");
    let ranges = missing.iter().map(|&chunk| chunk..chunk + 1).collect();
    let mut transfer = Transfer::new(
        vec![WantedLayer {
            layer,
            missing: ranges,
            lengths,
        }],
        WINDOW,
    );
    let mut fetching = tokio::task::JoinSet::new();
    while !transfer.is_done() {
        while let Some(fetch) = transfer.next_fetch() {
            let (connection, disk) = (connection.clone(), Arc::clone(disk));
            {
                let mut disk = disk.lock().unwrap();
                for (chunk, _) in &fetch.chunks {
                    assert!(
                        !disk.chunks.contains_key(chunk),
                        "chunk {chunk} is here and was asked for again"
                    );
                    disk.asked += 1;
                }
            }
            fetching.spawn(async move {
                let (mut send, mut recv) = connection.open_bi().await?;
                send.send(&fetch.request).await?;
                send.finish().await?;
                let reply: FetchReply = recv.recv().await?;
                assert_eq!(reply, FetchReply::Bytes(fetch.bytes));
                for &(chunk, len) in &fetch.chunks {
                    let bytes = recv.read_exact(len as usize).await?;
                    assert_eq!(bytes, chunk_bytes(seed, chunk), "chunk {chunk}");
                    *disk.lock().unwrap().chunks.entry(chunk).or_default() += 1;
                }
                Ok::<_, StreamError>(fetch)
            });
        }
        let Some(fetched) = fetching.join_next().await else {
            break;
        };
        let fetch = fetched.expect("a fetch does not panic")?;
        transfer.received(fetch.id);
        transfer.accepted(fetch.layer, fetch.chunks.len() as u64);
    }
    wanted_by.send(&gantry_protocol::Reply::Done).await?;
    wanted_by.finish().await?;
    connection.closed().await;
    Ok(())
}

/// The orchestrator: dials until the agent says that it has everything, and serves what is asked for.
async fn orchestrator(identity: Identity, seed: u64, disk: SharedDisk) -> turmoil::Result {
    let addr = SocketAddr::new(turmoil::lookup("agent"), PORT);
    loop {
        let options = DialOptions {
            udp: UdpMode::Only,
            timeout: Duration::from_secs(5),
            expected: Some("agent".into()),
            socket: Some(socket(0).await),
            ..DialOptions::default()
        };
        match dial(addr, &identity, &options).await {
            Ok((connection, _)) => {
                if let Ok(true) = serve(&connection, seed).await {
                    disk.lock().unwrap().done = true;
                    connection.shut_down(CloseCode::Done, "").await;
                    return Ok(());
                }
            }
            Err(error) => assert!(error.is_transient(), "seed {seed}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Serves fetches until the agent is done (true) or the connection breaks.
async fn serve(connection: &Connection, seed: u64) -> Result<bool, StreamError> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.send(&gantry_protocol::Request::Inventory).await?;
    let answer = recv.recv::<gantry_protocol::Reply>();
    let mut answer = std::pin::pin!(answer);
    loop {
        let (mut send, mut recv) = tokio::select! {
            answer = &mut answer => return answer.map(|_| true),
            stream = connection.accept_bi() => stream?,
        };
        tokio::spawn(async move {
            let FetchRequest::Chunks { ranges, .. } = recv.recv().await? else {
                panic!("chunks are asked for")
            };
            check_ranges(&ranges, CHUNKS).expect("well-formed ranges");
            let chunks = ranges
                .iter()
                .flat_map(|range| range.first..range.first + range.count);
            let bodies: Vec<Bytes> = chunks.map(|chunk| chunk_bytes(seed, chunk)).collect();
            send.send(&FetchReply::Bytes(
                bodies.iter().map(|body| body.len() as u64).sum(),
            ))
            .await?;
            for body in bodies {
                send.write_bytes(body).await?;
            }
            send.finish().await
        });
    }
}

/// What happens to the network and the programs, and when.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    Partition,
    Repair,
    RestartAgent,
    RestartOrchestrator,
}

fn script(random: &mut Random) -> Vec<(Duration, Mishap)> {
    let mut script = vec![];
    let mut at = Duration::from_millis(100);
    for _ in 0..random.below(4) {
        at += Duration::from_millis(random.below(1_500));
        match random.below(3) {
            0 => {
                script.push((at, Mishap::Partition));
                // Short ones are ridden out; long ones end the session.
                at += Duration::from_millis(500 + random.below(40_000));
                script.push((at, Mishap::Repair));
            }
            1 => script.push((at, Mishap::RestartAgent)),
            _ => script.push((at, Mishap::RestartOrchestrator)),
        }
    }
    script
}

/// Runs one seed and gives how long it took in virtual time, and how many chunks were asked for.
fn run(site: &Installation, seed: u64) -> (Duration, u32) {
    let mut random = Random(seed);
    let script = script(&mut random);
    let loss = [0.0, 0.005, 0.03][usize::try_from(random.below(3)).unwrap()];
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(TIME)
        .tick_duration(Duration::from_millis(2))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(2 + random.below(40)))
        .fail_rate(loss)
        .repair_rate(0.3)
        .udp_capacity(4096)
        .build();
    let disk = SharedDisk::default();
    let agent_identity = site.agent("agent");
    let shared = Arc::clone(&disk);
    sim.host("agent", move || {
        agent(agent_identity.clone(), seed, Arc::clone(&shared))
    });
    let operator = site.operator();
    let shared = Arc::clone(&disk);
    sim.host("orchestrator", move || {
        orchestrator(operator.clone(), seed, Arc::clone(&shared))
    });
    let mut mishaps = script.iter().peekable();
    let mut restarts = 0;
    while !disk.lock().unwrap().done {
        sim.step()
            .unwrap_or_else(|error| panic!("seed {seed}: {error}; {script:?}"));
        while let Some((_, mishap)) = mishaps.next_if(|(at, _)| sim.elapsed() >= *at) {
            match mishap {
                Mishap::Partition => sim.partition("agent", "orchestrator"),
                Mishap::Repair => sim.repair("agent", "orchestrator"),
                Mishap::RestartAgent => sim.bounce("agent"),
                Mishap::RestartOrchestrator => sim.bounce("orchestrator"),
            }
            restarts += u32::from(matches!(
                mishap,
                Mishap::RestartAgent | Mishap::RestartOrchestrator
            ));
        }
    }
    let disk = disk.lock().unwrap();
    assert_eq!(
        disk.chunks.len(),
        CHUNKS as usize,
        "seed {seed}: not everything arrived"
    );
    assert!(
        disk.chunks.values().all(|&times| times == 1),
        "seed {seed}: a chunk arrived twice"
    );
    let in_flight = u32::try_from(WINDOW.fetches * WINDOW.fetch_chunks).unwrap();
    let lost = disk.sessions - 1;
    assert!(
        disk.asked <= CHUNKS + lost * in_flight,
        "seed {seed}: {} chunks were asked for in {} sessions ({restarts} restarts)",
        disk.asked,
        disk.sessions
    );
    (sim.elapsed(), disk.asked)
}

#[test]
fn every_chunk_arrives_once_whatever_happens() {
    let site = Installation::new();
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().expect("a number"))
    };
    let seeds = match number("GANTRY_SIM_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("GANTRY_SIM_SEEDS").unwrap_or(32),
    };
    for seed in seeds {
        println!("seed {seed}: GANTRY_SIM_SEED={seed} replays it");
        let (took, asked) = run(&site, seed);
        println!("seed {seed}: done after {took:?} of virtual time, {asked} chunks asked for");
    }
}

#[test]
fn a_killed_agent_is_noticed_when_it_is_back_not_when_it_times_out() {
    let site = Installation::new();
    let mut sim = turmoil::Builder::new()
        .rng_seed(1)
        .simulation_duration(TIME)
        .udp_capacity(4096)
        .build();
    let identity = site.agent("agent");
    sim.host("agent", move || {
        let identity = identity.clone();
        async move {
            let options = ListenerOptions {
                socket: Some(socket(PORT).await),
                ..ListenerOptions::default()
            };
            let listener = Listener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)), identity, options).await?;
            let mut sessions = vec![];
            loop {
                sessions.push(listener.accept().await);
            }
        }
    });
    let noticed = Arc::new(Mutex::new(None));
    let (operator, shared) = (site.operator(), Arc::clone(&noticed));
    sim.client("orchestrator", async move {
        let addr = SocketAddr::new(turmoil::lookup("agent"), PORT);
        let options = DialOptions {
            udp: UdpMode::Only,
            socket: Some(socket(0).await),
            ..DialOptions::default()
        };
        let (connection, _) = dial(addr, &operator, &options).await?;
        let closed = connection.closed().await;
        *shared.lock().unwrap() = Some((turmoil::elapsed(), closed.reason));
        Ok(())
    });
    while sim.elapsed() < Duration::from_secs(2) {
        sim.step().unwrap();
    }
    sim.bounce("agent");
    sim.run().unwrap();
    let (when, why) = noticed.lock().unwrap().clone().unwrap();
    // The next keep-alive gets the answer.
    assert!(when < Duration::from_secs(9), "{when:?}: {why}");
    assert_eq!(why, "the peer restarted");
}
