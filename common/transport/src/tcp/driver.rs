//! The task of one TCP connection: drives yamux and its close notices.

use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::compat::Compat;

use super::notice::exchange_notices;
use super::{Command, Side, from_io};
use crate::closed::Closed;

/// What the connection's task owns.
pub(super) struct Driver<T> {
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
    pub(super) const fn new(
        connection: yamux::Connection<Compat<T>>,
        commands: mpsc::Receiver<Command>,
        inbound: mpsc::Sender<yamux::Stream>,
        side: Side,
    ) -> Self {
        Self {
            connection,
            commands,
            opening: None,
            inbound,
            first: None,
            side,
            closing: false,
            orphaned: false,
        }
    }

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
pub(super) async fn run<T>(
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
