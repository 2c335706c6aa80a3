//! This module owns [`TcpStream`]: one half of a yamux stream.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::io::{AsyncRead, AsyncWrite};
use gantry_protocol::CloseCode;

use super::Session;
use crate::streams::StreamError;

/// Most bytes given by one read.
const READ_ROOM: usize = 256 << 10;

/// One half of a stream. yamux keeps a waker for each direction, so that the halves may share it behind a lock.
#[derive(Debug)]
pub(crate) struct TcpStream {
    pub(super) session: Arc<Session>,
    pub(super) stream: Arc<Mutex<Option<yamux::Stream>>>,
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
        let closed = std::future::poll_fn(|context| self.poll_with(context, AsyncWrite::poll_close));
        match closed.await {
            Some(Ok(())) | None => Ok(()),
            Some(Err(_)) => Err(self.ended().await),
        }
    }

    /// Finishes without waiting, for a half that is dropped.
    pub(crate) fn finish_in_background(&self) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        if self.poll_with(&mut context, AsyncWrite::poll_close).is_ready() {
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
        let read = self.read_into(&mut room).await?;
        room.truncate(read);
        Ok((read > 0).then(|| room.into()))
    }

    /// Fills the front of `room`, which is not empty; how many bytes, 0 at the end.
    pub(crate) async fn read_into(&self, room: &mut [u8]) -> Result<usize, StreamError> {
        let read = std::future::poll_fn(|context| {
            self.poll_with(context, |stream, context| {
                let read = std::task::ready!(stream.poll_read_into(context, room))?;
                Poll::Ready(Ok(read))
            })
        });
        match read.await {
            Some(Ok((0, true))) if self.session.lives().await => Ok(0),
            Some(Ok((0, true)) | Err(_)) => Err(StreamError::Closed(self.session.closed().await)),
            Some(Ok((0, false))) => Ok(0),
            Some(Ok((read, _))) => {
                self.session.received.fetch_add(read as u64, Ordering::Relaxed);
                Ok(read)
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
