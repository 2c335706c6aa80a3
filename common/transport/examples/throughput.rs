//! How fast bytes go from one process to another: memory to nowhere, over the transport as it is.
//!
//! ```text
//! throughput init DIR                        identities for both sides
//! throughput listen DIR ADDR                 receives, prints what it cost
//! throughput send DIR ADDR MIB STREAMS udp|tcp
//! ```
//!
//! Run the two sides in two network namespaces joined by a veth of the MTU in question.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gantry_protocol::{CloseCode, Request};
use gantry_transport::{
    Authority, Connection, DialOptions, Identity, Listener, ListenerOptions, Role, UdpMode, dial,
};
use rcgen::{CertificateParams, KeyPair};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    let threads = std::env::var("THREADS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2);
    let runtime = match threads {
        1 => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
        threads => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()?,
    };
    runtime.block_on(run())
}

async fn run() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["init", dir] => init(Path::new(dir)),
        ["listen", dir, addr] => listen(Path::new(dir), addr).await,
        ["send", dir, addr, mib, streams, way] => {
            let udp = if way == "tcp" {
                UdpMode::Never
            } else {
                UdpMode::Only
            };
            send(Path::new(dir), addr, mib.parse()?, streams.parse()?, udp).await
        }
        _ => Err("see the text at the top of examples/throughput.rs".into()),
    }
}

fn init(dir: &Path) -> Outcome {
    let authority = Authority::open_or_create(&dir.join("pki"))?;
    authority
        .issue_operator("bench", Role::Operator)?
        .save(&dir.join("operator"))?;
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    let issued = authority.sign_agent(request.der(), "bench")?;
    let agent = dir.join("agent");
    std::fs::create_dir_all(&agent)?;
    std::fs::write(agent.join("key.pem"), key.serialize_pem())?;
    std::fs::write(
        agent.join("cert.pem"),
        pem::encode(&pem::Pem::new("CERTIFICATE", issued.der)),
    )?;
    std::fs::copy(dir.join("pki/ca.pem"), agent.join("ca.pem"))?;
    Ok(())
}

async fn listen(dir: &Path, addr: &str) -> Outcome {
    let identity = Identity::load(&dir.join("agent"))?;
    let listener = Listener::bind(addr.parse()?, identity, ListenerOptions::default()).await?;
    loop {
        let connection = listener.accept().await;
        let cpu = cpu_seconds();
        let mut tasks = vec![];
        while let Ok((_, mut recv)) = connection.accept_bi().await {
            tasks.push(tokio::spawn(async move {
                let mut bytes = 0;
                let _: Option<Request> = recv.recv_or_end().await.ok().flatten();
                while let Ok(Some(chunk)) = recv.read_chunk(1 << 20).await {
                    bytes += chunk.len() as u64;
                }
                bytes
            }));
        }
        let mut bytes = 0;
        for task in tasks {
            bytes += task.await?;
        }
        #[allow(clippy::cast_precision_loss, reason = "figures for people")]
        let gb = bytes as f64 / 1e9;
        eprintln!(
            "   received {gb:.2} GB, {:.2} CPU s/GB, {}",
            (cpu_seconds() - cpu) / gb,
            about(&connection)
        );
    }
}

async fn send(dir: &Path, addr: &str, mib: u64, streams: u64, udp: UdpMode) -> Outcome {
    let identity = Identity::load(&dir.join("operator"))?;
    let options = DialOptions {
        udp,
        timeout: Duration::from_secs(5),
        ..DialOptions::default()
    };
    let (connection, _) = dial(addr.parse()?, &identity, &options).await?;
    let piece = Bytes::from(vec![7; 1 << 20]);
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let mut tasks = vec![];
    for _ in 0..streams {
        let (connection, piece) = (connection.clone(), piece.clone());
        tasks.push(tokio::spawn(async move {
            let (mut send, mut recv) = connection.open_bi().await?;
            send.send(&Request::Inventory).await?;
            for _ in 0..mib / streams {
                send.write_bytes(piece.clone()).await?;
            }
            send.finish().await?;
            // The other side drops its half when it has everything.
            let _ = recv.read_chunk(1).await;
            send.delivered().await;
            Ok::<_, gantry_transport::StreamError>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let gb = ((mib / streams * streams) << 20) as f64 / 1e9;
    println!(
        "{:.0} MB/s, {:.2} CPU s/GB, {}",
        gb * 1e3 / seconds,
        cpu / gb,
        about(&connection)
    );
    connection.shut_down(CloseCode::Done, "").await;
    Ok(())
}

fn about(connection: &Connection) -> String {
    let stats = connection.stats();
    format!(
        "{} mtu {} lost {} datagrams per send {}",
        connection.path(),
        stats.mtu,
        stats.lost_packets,
        stats.datagrams_per_send
    )
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u32 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|text| text.parse::<u32>().ok())
        .sum();
    f64::from(ticks) / 100.0
}
