//! Connections through a balancer to servers that answer its probes as API servers do.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::probe::{Health, Probe};
use super::{Settings, run};

/// The first byte of a TLS connection (RFC 8446, section 5.1: a record of the handshake).
const HANDSHAKE: u8 = 22;

/// Says over TLS that it is ready, or not; to everything else it answers with its name, and then with what it is sent.
struct Server {
    address: SocketAddr,
    /// What it says to `/readyz`.
    status: Arc<AtomicU16>,
    stop: CancellationToken,
}

impl Server {
    async fn called(name: u8) -> Self {
        Self::with(name, &[&TLS12, &TLS13]).await
    }

    async fn with(name: u8, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            status: Arc::new(AtomicU16::new(200)),
            stop: CancellationToken::new(),
        };
        let (status, stop) = (Arc::clone(&server.status), server.stop.clone());
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into(),
            )
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (status, tls) = (Arc::clone(&status), tls.clone());
                tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
                    let mut first = [0];
                    let _ = client.peek(&mut first).await;
                    if first == [HANDSHAKE] {
                        answer(tls.accept(client).await.unwrap(), &status).await;
                    } else {
                        echo(client, name).await;
                    }
                }));
            }
        }));
        server
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

async fn answer(mut client: impl AsyncRead + AsyncWrite + Unpin, status: &AtomicU16) {
    let mut request = Vec::new();
    while client.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let status = match status.load(Ordering::SeqCst) {
            404 if request.starts_with(b"GET /healthz ") => 200,
            status => status,
        };
        let answer = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 2\r\n\r\nok");
        client.write_all(answer.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        request.clear();
    }
}

async fn echo(mut client: TcpStream, name: u8) {
    let _ = client.read_u8().await;
    let _ = client.write_u8(name).await;
    let (mut read, mut write) = client.split();
    let _ = tokio::io::copy(&mut read, &mut write).await;
}

struct Balancer {
    address: SocketAddr,
    settings: std::path::PathBuf,
    _folder: tempfile::TempDir,
    _stop: DropGuard,
}

impl Balancer {
    async fn of(servers: &[&Server]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Free a moment ago; somebody else's by now is very unlikely.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, stop) = (free.local_addr().unwrap(), CancellationToken::new());
        drop(free);
        let balancer = Self {
            address,
            settings: folder.path().join("demo.json"),
            _folder: folder,
            _stop: stop.clone().drop_guard(),
        };
        balancer.lead_to(servers);
        let path = balancer.settings.clone();
        tokio::spawn(async move { run(&path, stop).await });
        balancer
    }

    fn lead_to(&self, servers: &[&Server]) {
        let settings = Settings {
            listen: self.address,
            backends: servers.iter().map(|server| server.address).collect(),
        };
        gantry_system::files::write_atomically(&self.settings, settings.to_text().as_bytes(), 0o644).unwrap();
    }

    /// A connection, and the letter by which its server names itself.
    async fn connect(&self) -> Option<(TcpStream, u8)> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        stream.write_u8(b'?').await.ok()?;
        let name = stream.read_u8().await.ok()?;
        Some((stream, name))
    }

    async fn until_it_leads_to(&self, wanted: u8) -> TcpStream {
        loop {
            match self.connect().await {
                Some((stream, name)) if name == wanted => return stream,
                _ => tokio::task::yield_now().await,
            }
        }
    }

    /// Until several connections in a row are led to `wanted`.
    async fn until_it_leads_only_to(&self, wanted: u8) {
        let mut in_a_row = 0;
        while in_a_row < 4 {
            let led = self.connect().await.is_some_and(|(_, name)| name == wanted);
            in_a_row = if led { in_a_row + 1 } else { 0 };
        }
    }
}

async fn echoes(stream: &mut TcpStream) -> bool {
    stream.write_u8(b'x').await.is_ok() && stream.read_u8().await.is_ok_and(|byte| byte == b'x')
}

#[tokio::test]
async fn connections_take_turns_and_a_server_that_ends_is_passed_over() {
    let (a, b) = (Server::called(b'a').await, Server::called(b'b').await);
    let balancer = Balancer::of(&[&a, &b]).await;
    drop(balancer.until_it_leads_to(b'a').await);
    drop(balancer.until_it_leads_to(b'b').await);
    a.stop.cancel();
    balancer.until_it_leads_only_to(b'b').await;
}

#[tokio::test]
async fn a_server_that_is_not_ready_gets_no_new_connections_until_it_is() {
    let (a, b) = (Server::called(b'a').await, Server::called(b'b').await);
    let balancer = Balancer::of(&[&a, &b]).await;
    let mut old = balancer.until_it_leads_to(b'a').await;
    a.says(500);
    balancer.until_it_leads_only_to(b'b').await;
    assert!(echoes(&mut old).await, "it may still end its work");
    a.says(200);
    drop(balancer.until_it_leads_to(b'a').await);
}

#[tokio::test]
async fn new_settings_cut_only_the_connections_of_who_is_gone() {
    let (a, b) = (Server::called(b'a').await, Server::called(b'b').await);
    let balancer = Balancer::of(&[&a]).await;
    let mut old = balancer.until_it_leads_to(b'a').await;
    balancer.lead_to(&[&a, &b]);
    let mut new = balancer.until_it_leads_to(b'b').await;
    assert!(echoes(&mut old).await && echoes(&mut new).await);
    balancer.lead_to(&[&b]);
    assert!(
        old.read_u8().await.is_err(),
        "its server is no longer one of them"
    );
    assert!(echoes(&mut new).await);
}

#[tokio::test]
async fn servers_that_tell_strangers_nothing_and_old_ones_are_ready_too() {
    let server = Server::called(b'a').await;
    let mut probe = Probe::new(server.address);
    for (status, ready) in [
        (200, true),
        (401, true),
        (403, true),
        (503, false),
        (404, true),
        (200, true),
    ] {
        server.says(status);
        assert_eq!(probe.ask().await == Health::Ready, ready, "{status}");
    }
    server.stop.cancel();
    // Its last connection may still be there for a moment; the port is not.
    while !matches!(probe.ask().await, Health::Silent(_)) {}
}

#[tokio::test]
async fn servers_of_any_version_of_tls_say_whether_they_are_ready() {
    for version in [&TLS12, &TLS13] {
        let server = Server::with(b'a', &[version]).await;
        let mut probe = Probe::new(server.address);
        assert_eq!(probe.ask().await, Health::Ready);
        server.says(500);
        assert_eq!(probe.ask().await, Health::NotReady("status 500".to_owned()));
    }
}
