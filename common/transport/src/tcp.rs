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

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use gantry_protocol::CloseCode;
use gantry_protocol::limits::MAX_OPEN_STREAMS;
use socket2::{SockRef, TcpKeepalive};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::closed::Closed;
use crate::connection::ConnectionStats;
use crate::limits::{IDLE_TIMEOUT, KEEP_ALIVE, MAX_REASON_LEN, MAX_TCP_STREAMS};
use crate::streams::{RecvStream, SendStream, StreamError};

/// Receive windows of all streams together: yamux wants 256 KiB for each, and bulk streams grow into the rest.
const RECEIVE_WINDOW: usize = MAX_TCP_STREAMS * (256 << 10) + (16 << 20);
/// Payload of one yamux frame: four TLS records, so that other streams get their turn.
const FRAME_PAYLOAD: usize = 64 << 10;
/// Most bytes given by one read.
const READ_ROOM: usize = 256 << 10;
/// How long the closing side waits for the other to close too.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// First byte on the stream that carries close notices.
const NOTICE_STREAM: u8 = 0xC1;

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
        let driver = Driver {
            connection,
            commands: commands_rx,
            opening: None,
            inbound: inbound_tx,
            first: None,
            side,
            closing: false,
            orphaned: false,
        };
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

/// One half of a stream. yamux keeps a waker for each direction, so that the halves may share it behind a lock.
#[derive(Debug)]
pub(crate) struct TcpStream {
    session: Arc<Session>,
    stream: Arc<Mutex<Option<yamux::Stream>>>,
}

impl TcpStream {
    /// Polls the stream; none when this side gave it up.
    fn poll_with<T>(
        &self,
        context: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut yamux::Stream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<Option<io::Result<T>>> {
        match self
            .stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            Some(stream) => poll(Pin::new(stream), context).map(Some),
            None => Poll::Ready(None),
        }
    }

    async fn ended(&self) -> StreamError {
        if self.session.lives().await {
            StreamError::Ended(CloseCode::NotNeeded)
        } else {
            StreamError::Closed(self.session.closed().await)
        }
    }

    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let written = std::future::poll_fn(|context| {
                self.poll_with(context, |stream, context| stream.poll_write(context, bytes))
            });
            match written.await {
                Some(Ok(written)) => {
                    self.session.sent.fetch_add(written as u64, Ordering::Relaxed);
                    bytes = &bytes[written..];
                }
                Some(Err(_)) | None => return Err(self.ended().await),
            }
        }
        Ok(())
    }

    pub(crate) async fn finish(&self) -> Result<(), StreamError> {
        let closed = std::future::poll_fn(|context| {
            self.poll_with(context, |stream, context| stream.poll_close(context))
        });
        match closed.await {
            Some(Ok(())) | None => Ok(()),
            Some(Err(_)) => Err(self.ended().await),
        }
    }

    /// Finishes without waiting, for a half that is dropped.
    pub(crate) fn finish_in_background(&self) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        if self
            .poll_with(&mut context, |stream, context| stream.poll_close(context))
            .is_ready()
        {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let half = Self {
                session: Arc::clone(&self.session),
                stream: Arc::clone(&self.stream),
            };
            runtime.spawn(async move { half.finish().await });
        }
    }

    pub(crate) async fn read(&self, max: usize) -> Result<Option<Bytes>, StreamError> {
        let mut room = vec![0; max.clamp(1, READ_ROOM)];
        let read = std::future::poll_fn(|context| {
            self.poll_with(context, |stream, context| {
                let read = std::task::ready!(stream.poll_read_into(context, &mut room))?;
                Poll::Ready(Ok(read))
            })
        });
        match read.await {
            Some(Ok((0, true))) if self.session.lives().await => Ok(None),
            Some(Ok((0, true)) | Err(_)) => Err(StreamError::Closed(self.session.closed().await)),
            Some(Ok((0, false))) => Ok(None),
            Some(Ok((read, _))) => {
                self.session.received.fetch_add(read as u64, Ordering::Relaxed);
                room.truncate(read);
                Ok(Some(room.into()))
            }
            None => Err(StreamError::Ended(CloseCode::NotNeeded)),
        }
    }

    /// Drops the stream, which tells the peer that it is over unless both ends were finished.
    pub(crate) fn abandon(&self) {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Reading, and whether the stream is closed both ways, in one step.
trait PollReadInto {
    fn poll_read_into(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<(usize, bool)>>;
}

impl PollReadInto for yamux::Stream {
    fn poll_read_into(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<(usize, bool)>> {
        let read = std::task::ready!(self.as_mut().poll_read(context, room))?;
        Poll::Ready(Ok((read, self.is_closed())))
    }
}

/// What the connection's task owns.
struct Driver<T> {
    connection: yamux::Connection<Compat<T>>,
    commands: mpsc::Receiver<Command>,
    opening: Option<oneshot::Sender<Result<yamux::Stream, yamux::ConnectionError>>>,
    inbound: mpsc::Sender<yamux::Stream>,
    /// Where the first inbound stream goes on the accepting side: it carries the close notices.
    first: Option<oneshot::Sender<yamux::Stream>>,
    side: Side,
    closing: bool,
    /// No handle is left; the connection closes.
    orphaned: bool,
}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Driver<T> {
    /// Makes progress; ready when the connection is over, with what ended it.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<yamux::ConnectionError>> {
        loop {
            if self.closing {
                return self.connection.poll_close(context).map(Result::err);
            }
            if self.opening.is_none() && !self.orphaned {
                match self.commands.poll_recv(context) {
                    Poll::Ready(Some(Command::Open(answer))) => self.opening = Some(answer),
                    Poll::Ready(Some(Command::AreYouThere(answer))) => {
                        let _ = answer.send(());
                        continue;
                    }
                    Poll::Ready(None) => self.orphaned = true,
                    Poll::Pending => {}
                }
            }
            if self.opening.is_some()
                && let Poll::Ready(stream) = self.connection.poll_new_outbound(context)
                && let Some(answer) = self.opening.take()
            {
                let _ = answer.send(stream);
                continue;
            }
            match self.connection.poll_next_inbound(context) {
                Poll::Ready(Some(Ok(stream))) => {
                    if let Some(first) = self.first.take() {
                        let _ = first.send(stream);
                    } else {
                        // A peer that opens more than is accepted sees the excess reset.
                        let _ = self.inbound.try_send(stream);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(error)),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The connection's task: drives yamux beside the stream of close notices, until either ends it.
async fn run<T>(
    mut driver: Driver<T>,
    notice: watch::Receiver<Option<Closed>>,
    closed: watch::Sender<Option<Closed>>,
) where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (first_tx, first_rx) = oneshot::channel();
    match driver.side {
        Side::Accepted => driver.first = Some(first_tx),
        Side::Dialled => {
            let opened = std::future::poll_fn(|context| driver.connection.poll_new_outbound(context)).await;
            if let Ok(stream) = opened {
                let _ = first_tx.send(stream);
            }
        }
    }
    let side = driver.side;
    let mut notices = std::pin::pin!(exchange_notices(first_rx, side, notice, closed.clone()));
    let mut noticed = false;
    let ended = std::future::poll_fn(|context| {
        if !noticed && notices.as_mut().poll(context).is_ready() {
            noticed = true;
            driver.closing = true;
        }
        driver.poll(context)
    })
    .await;
    closed.send_if_modified(|closed| {
        let first = closed.is_none();
        if first {
            *closed = Some(match ended {
                Some(error) => from_yamux(error),
                None => Closed::lost("the peer closed the connection without saying why"),
            });
        }
        first
    });
}

/// Carries close notices both ways; returns when the connection is to be closed.
async fn exchange_notices(
    stream: oneshot::Receiver<yamux::Stream>,
    side: Side,
    mut notice: watch::Receiver<Option<Closed>>,
    closed: watch::Sender<Option<Closed>>,
) {
    let orphaned = "every handle is gone";
    let mut local = async move || match notice.wait_for(Option::is_some).await {
        Ok(notice) => notice
            .clone()
            .unwrap_or_else(|| Closed::local(CloseCode::Done, "")),
        Err(_) => Closed::local(CloseCode::Done, orphaned),
    };
    let stream = tokio::select! {
        stream = stream => stream,
        notice = local() => {
            closed.send_replace(Some(notice));
            return;
        }
    };
    // The connection ended before it began; its task says how.
    let Ok(stream) = stream else {
        return std::future::pending().await;
    };
    let (mut read, mut write) = stream.split();
    // yamux tells the peer of a stream with its first bytes.
    if side == Side::Dialled && write.write_all(&[NOTICE_STREAM]).await.is_err() {
        return std::future::pending().await;
    }
    let theirs = async {
        if side == Side::Accepted {
            let mut mark = [0];
            read.read_exact(&mut mark).await?;
            if mark != [NOTICE_STREAM] {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        read_notice(&mut read).await
    };
    let mut theirs = std::pin::pin!(theirs);
    tokio::select! {
        notice = local() => {
            let code = notice.code.unwrap_or(CloseCode::Done);
            let text = notice.reason.clone();
            closed.send_replace(Some(notice));
            if write_notice(&mut write, code, &text).await.is_ok() {
                // Closing at once could make the kernel throw the notice away with unread bytes.
                let _ = tokio::time::timeout(CLOSE_TIME, theirs).await;
            }
        }
        notice = &mut theirs => match notice {
            Ok(notice) => {
                closed.send_replace(Some(notice));
            }
            // The stream broke: either the connection did, and its task says how, or the peer is no Gantry.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                closed.send_replace(Some(Closed::lost("the peer does not speak Gantry's protocol over TCP")));
            }
            Err(_) => std::future::pending().await,
        }
    }
}

async fn write_notice(
    write: &mut (impl AsyncWrite + Unpin),
    code: CloseCode,
    reason: &str,
) -> io::Result<()> {
    let reason = &reason.as_bytes()[..reason.len().min(MAX_REASON_LEN)];
    let mut bytes = (code as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&u16::try_from(reason.len()).unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(reason);
    write.write_all(&bytes).await?;
    write.close().await
}

async fn read_notice(read: &mut (impl AsyncRead + Unpin)) -> io::Result<Closed> {
    let mut header = [0; 6];
    read.read_exact(&mut header).await?;
    let code = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if len > MAX_REASON_LEN {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut reason = vec![0; len];
    read.read_exact(&mut reason).await?;
    Ok(Closed::peer(code.into(), &reason))
}

fn from_yamux(error: yamux::ConnectionError) -> Closed {
    match error {
        yamux::ConnectionError::Io(error) => from_io(&error),
        yamux::ConnectionError::Decode(error) => from_decode(error),
        other => Closed::lost(other),
    }
}

fn from_decode(error: yamux::FrameDecodeError) -> Closed {
    match error {
        yamux::FrameDecodeError::Io(error) => from_io(&error),
        other => Closed::lost(other),
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
