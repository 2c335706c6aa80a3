//! TLS over TCP: a [`Session`] offers what a QUIC connection does, by yamux.
//!
//! ```text
//! one task per connection       Session (clones of an Arc)
//!   drives yamux  ◀── commands ── open, close, are you there?
//!                 ─── inbound ──▶ accept
//!                 ─── closed ───▶ closed, close_reason
//! ```
//!
//! yamux has neither close codes nor reasons, so the dialling side's first stream is kept for them: a side that
//! closes writes one notice there, and the other answers by closing.

mod driver;
mod notice;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gantry_protocol::CloseCode;
use gantry_protocol::limits::MAX_OPEN_STREAMS;
use socket2::{SockRef, TcpKeepalive};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use self::driver::{Driver, run};
pub(crate) use self::stream::TcpStream;
use crate::closed::Closed;
use crate::connection::ConnectionStats;
use crate::limits::{IDLE_TIMEOUT, KEEP_ALIVE, MAX_TCP_STREAMS};
use crate::streams::{RecvStream, SendStream, StreamError};

/// Receive windows of all streams together: yamux wants 256 KiB for each, and bulk streams grow into the rest.
const RECEIVE_WINDOW: usize = MAX_TCP_STREAMS * (256 << 10) + (16 << 20);
/// Payload of one yamux frame: four TLS records, so that other streams get their turn.
const FRAME_PAYLOAD: usize = 64 << 10;

/// Which side this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Dialled,
    Accepted,
}

/// One TLS connection over TCP with streams.
#[derive(Debug)]
pub(crate) struct Session {
    remote: SocketAddr,
    exporter: [u8; 32],
    commands: mpsc::Sender<Command>,
    inbound: AsyncMutex<mpsc::Receiver<yamux::Stream>>,
    /// What `close` was called with.
    notice: watch::Sender<Option<Closed>>,
    closed: watch::Receiver<Option<Closed>>,
    sent: AtomicU64,
    received: AtomicU64,
}

#[derive(Debug)]
enum Command {
    Open(oneshot::Sender<Result<yamux::Stream, yamux::ConnectionError>>),
    AreYouThere(oneshot::Sender<()>),
}

/// Settings of a TCP socket: no delay for small messages, and dead peers noticed as fast as on QUIC.
pub(crate) fn configure(socket: &tokio::net::TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEP_ALIVE)
            .with_interval(KEEP_ALIVE),
    )?;
    socket.set_tcp_user_timeout(Some(IDLE_TIMEOUT))
}

impl Session {
    /// Starts a session on a TLS connection whose handshake is done from this side's view.
    pub(crate) fn start<T>(io: T, side: Side, remote: SocketAddr, exporter: [u8; 32]) -> Arc<Self>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_TCP_STREAMS);
        config.set_max_connection_receive_window(Some(RECEIVE_WINDOW));
        config.set_split_send_size(FRAME_PAYLOAD);
        let mode = match side {
            Side::Dialled => yamux::Mode::Client,
            Side::Accepted => yamux::Mode::Server,
        };
        let connection = yamux::Connection::new(io.compat(), config, mode);
        let (commands, commands_rx) = mpsc::channel(16);
        let (inbound_tx, inbound) = mpsc::channel(MAX_OPEN_STREAMS as usize);
        let (notice, notice_rx) = watch::channel(None);
        let (closed_tx, closed) = watch::channel(None);
        let driver = Driver::new(connection, commands_rx, inbound_tx, side);
        tokio::spawn(run(driver, notice_rx, closed_tx));
        Arc::new(Self {
            remote,
            exporter,
            commands,
            inbound: AsyncMutex::new(inbound),
            notice,
            closed,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        })
    }

    pub(crate) async fn open(self: &Arc<Self>) -> Result<(SendStream, RecvStream), StreamError> {
        let (tx, rx) = oneshot::channel();
        if self.commands.send(Command::Open(tx)).await.is_err() {
            return Err(StreamError::Closed(self.closed().await));
        }
        match rx.await {
            Ok(Ok(stream)) => Ok(self.halves(stream)),
            Ok(Err(yamux::ConnectionError::TooManyStreams)) => Err(StreamError::Ended(CloseCode::TooMany)),
            Ok(Err(_)) | Err(_) => Err(StreamError::Closed(self.closed().await)),
        }
    }

    pub(crate) async fn accept(self: &Arc<Self>) -> Result<(SendStream, RecvStream), StreamError> {
        let stream = self.inbound.lock().await.recv().await;
        match stream {
            Some(stream) => Ok(self.halves(stream)),
            None => Err(StreamError::Closed(self.closed().await)),
        }
    }

    fn halves(self: &Arc<Self>, stream: yamux::Stream) -> (SendStream, RecvStream) {
        let shared = Arc::new(Mutex::new(Some(stream)));
        let half = || TcpStream {
            session: Arc::clone(self),
            stream: Arc::clone(&shared),
        };
        (SendStream::tcp(half()), RecvStream::tcp(half()))
    }

    pub(crate) const fn exporter(&self) -> [u8; 32] {
        self.exporter
    }

    pub(crate) const fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.notice.send_if_modified(|notice| {
            let first = notice.is_none();
            if first {
                *notice = Some(Closed::local(code, reason));
            }
            first
        });
    }

    pub(crate) async fn closed(&self) -> Closed {
        let mut closed = self.closed.clone();
        match closed.wait_for(Option::is_some).await {
            Ok(closed) => closed
                .clone()
                .unwrap_or_else(|| Closed::lost("the connection ended")),
            Err(_) => Closed::lost("the connection ended"),
        }
    }

    pub(crate) fn close_reason(&self) -> Option<Closed> {
        self.closed.borrow().clone()
    }

    /// Waits until the task that drives the connection is done with it.
    pub(crate) async fn drained(&self) {
        self.commands.closed().await;
    }

    pub(crate) fn stats(&self) -> ConnectionStats {
        ConnectionStats {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            ..ConnectionStats::default()
        }
    }

    /// Whether the connection still lives; asked when a stream ended in a way that may mean either.
    async fn lives(&self) -> bool {
        let (tx, rx) = oneshot::channel();
        self.commands.send(Command::AreYouThere(tx)).await.is_ok() && rx.await.is_ok()
    }
}

/// What a TLS or TCP error says about the connection.
pub(crate) fn from_io(error: &io::Error) -> Closed {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::AlertReceived(alert)) => Closed::alert(*alert),
        Some(rustls::Error::NoApplicationProtocol) => Closed::other_protocol(),
        _ if error.kind() == io::ErrorKind::TimedOut => {
            Closed::lost(format_args!("nothing was heard for {} s", IDLE_TIMEOUT.as_secs()))
        }
        _ => Closed::lost(error),
    }
}
