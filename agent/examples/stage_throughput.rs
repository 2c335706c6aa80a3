//! Measures a stage between two processes: bytes per second, CPU seconds and memory of each side.
//!
//! ```text
//! stage_throughput prepare DIR TREE      makes certificates and one layer of everything below TREE, in DIR
//! stage_throughput agent DIR ADDR        waits at ADDR, stages once into DIR/agent, tells what it took
//! stage_throughput orchestrator DIR ADDR dials ADDR, serves until the agent is done, tells what it took
//! ```

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use gantry::session::fetches::{FetchServer, SentCounters};
use gantry_agent::staging::stage;
use gantry_model::LayerDescriptor;
use gantry_protocol::{CloseCode, TransferProgress};
use gantry_store::{LayerOptions, Store, layer_from_tree};
use gantry_transport::{Connection, DialOptions, Identity, Listener, ListenerOptions, UdpMode, dial};
use support::{HOST, Site};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const MB: f64 = 1e6;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["prepare", dir, tree] => prepare(dir.as_ref(), tree.as_ref()).await,
        ["agent", dir, addr] => agent(dir.as_ref(), addr.parse()?).await,
        ["orchestrator", dir, addr] => orchestrator(dir.as_ref(), addr.parse()?, UdpMode::Only).await,
        ["orchestrator", dir, addr, "tcp"] => orchestrator(dir.as_ref(), addr.parse()?, UdpMode::Never).await,
        _ => bail!("usage: stage_throughput prepare DIR TREE | agent DIR ADDR | orchestrator DIR ADDR [tcp]"),
    }
}

async fn prepare(dir: &Path, tree: &Path) -> anyhow::Result<()> {
    let site = Site::new().await;
    for (name, identity) in [
        ("operator-identity", &site.operator),
        ("agent-identity", &site.agent),
    ] {
        fs::create_dir_all(dir.join(name))?;
        identity.save(&dir.join(name))?;
    }
    let store = Store::open(&dir.join("orchestrator"))?;
    let started = Instant::now();
    let layer = layer_from_tree(&store, tree, &LayerOptions::default())?;
    fs::write(layer_file(dir), serde_json::to_vec(&layer)?)?;
    println!(
        "layer of {:.1} MB made in {:.2} s",
        layer.size as f64 / MB,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn agent(dir: &Path, addr: SocketAddr) -> anyhow::Result<()> {
    let layer: LayerDescriptor = serde_json::from_slice(&fs::read(layer_file(dir))?)?;
    let identity = Identity::load(&dir.join("agent-identity"))?;
    let listener = Listener::bind(addr, identity, ListenerOptions::default()).await?;
    let store = Store::open(&dir.join("agent"))?;
    let peer = listener.accept().await;
    let idle = Usage::now()?;
    let started = Instant::now();
    let progress = watch::Sender::new(TransferProgress::default());
    let outcome = stage(&store, &peer, &[layer], progress, CancellationToken::new()).await?;
    let took = started.elapsed().as_secs_f64();
    let used = Usage::now()?;
    let content = outcome.progress.total as f64;
    println!(
        "agent: {:.0} MB/s of content, {:.0} MB/s on the wire, {took:.2} s, {:.2} CPU s/GB, \
         {} KiB idle, {} KiB most",
        content / MB / took,
        outcome.progress.received as f64 / MB / took,
        (used.cpu - idle.cpu) / (content / 1e9),
        idle.resident_kib,
        used.peak_kib,
    );
    tell_path(&peer);
    peer.shut_down(CloseCode::Done, "measured").await;
    // This side has nothing to wait for; the process must not end before the peer has heard of it.
    listener.shut().await;
    Ok(())
}

async fn orchestrator(dir: &Path, addr: SocketAddr, udp: UdpMode) -> anyhow::Result<()> {
    let identity = Identity::load(&dir.join("operator-identity"))?;
    let options = DialOptions {
        expected: Some(HOST.into()),
        udp,
        ..DialOptions::default()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let connection = loop {
        match dial(addr, &identity, &options).await {
            Ok((connection, _)) => break connection,
            Err(error) if Instant::now() < deadline => tracing::debug!(%error, "not yet"),
            Err(error) => return Err(error.into()),
        }
    };
    let idle = Usage::now()?;
    let sent = SentCounters::default();
    let server = FetchServer::new(Store::open(&dir.join("orchestrator"))?);
    server.serve(connection.clone(), sent.clone()).await;
    let used = Usage::now()?;
    println!(
        "orchestrator: {:.0} MB sent, {:.2} CPU s/GB sent, {} KiB most",
        sent.chunk_bytes() as f64 / MB,
        (used.cpu - idle.cpu) / (sent.chunk_bytes() as f64 / 1e9),
        used.peak_kib,
    );
    tell_path(&connection);
    Ok(())
}

fn tell_path(connection: &Connection) {
    println!("    {:?} {:?}", connection.path(), connection.stats());
}

fn layer_file(dir: &Path) -> PathBuf {
    dir.join("layer.json")
}

/// What this process used so far.
struct Usage {
    cpu: f64,
    resident_kib: u64,
    peak_kib: u64,
}

impl Usage {
    fn now() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .context("no process name")?
            .1
            .split_whitespace()
            .collect();
        let ticks = |at: usize| fields[at].parse::<f64>();
        let status = fs::read_to_string("/proc/self/status")?;
        let kib = |name: &str| -> anyhow::Result<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .context("no such line")?;
            Ok(line.trim_matches([':', '\t', ' ', 'k', 'B']).parse()?)
        };
        // Fields 14 and 15 of proc(5), after the process name; a tick is 10 ms.
        Ok(Self {
            cpu: (ticks(11)? + ticks(12)?) / 100.0,
            resident_kib: kib("VmRSS")?,
            peak_kib: kib("VmHWM")?,
        })
    }
}
