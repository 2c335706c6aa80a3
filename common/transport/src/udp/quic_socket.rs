//! This module owns [`QuicSocket`]: what quinn sends and receives through.
//!
//! quinn hands ten datagrams to the kernel at a time, whatever the kernel could take (`MAX_TRANSMIT_SEGMENTS`;
//! quinn-rs/quinn#2189). At MTU 1500 that makes the cost of a call and of the way through the network stack four
//! times as frequent as it need be; with jumbo frames ten are more than 65,507 bytes, the kernel refuses the
//! call, quinn takes it for a loss and its black-hole detection drops the packet size to 1200 bytes. Here they are
//! gathered into calls that are as large as the kernel takes, and no larger. Of jumbo frames quinn is told to hand
//! over one call's worth, which then is not copied.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime, UdpPoller};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::batch::{Batch, is_whole_call, may_go_on, most};
use crate::strangers::Strangers;

/// A socket for quinn. `strangers` counts what is not QUIC.
pub(crate) fn for_quinn(
    socket: UdpSocket,
    strangers: Option<Arc<Strangers>>,
) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let outgoing = Arc::new(Outgoing {
        inner: TokioRuntime.wrap_udp_socket(socket)?,
        batch: Mutex::default(),
        held: Notify::new(),
        segment: AtomicUsize::new(0),
    });
    let flusher = tokio::spawn(send_what_is_held(Arc::clone(&outgoing)));
    Ok(Arc::new(QuicSocket {
        outgoing,
        strangers,
        _flusher: AbortOnDropHandle::new(flusher),
    }))
}

struct QuicSocket {
    outgoing: Arc<Outgoing>,
    strangers: Option<Arc<Strangers>>,
    _flusher: AbortOnDropHandle<()>,
}

/// The sending half.
struct Outgoing {
    inner: Arc<dyn AsyncUdpSocket>,
    batch: Mutex<Batch>,
    /// Something waits in the batch.
    held: Notify,
    /// Bytes of the datagrams that were sent last.
    segment: AtomicUsize,
}

impl Outgoing {
    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.inner.max_transmit_segments() == 1 {
            return self.inner.try_send(transmit);
        }
        if let Some(segment) = transmit.segment_size {
            self.segment.store(segment, Ordering::Relaxed);
        }
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if !batch.takes(transmit) {
            batch.flush(true, |full| self.inner.try_send(full))?;
        }
        let more = may_go_on(transmit) && !is_whole_call(transmit);
        if batch.is_empty() && !more {
            return self.inner.try_send(transmit);
        }
        batch.add(transmit);
        // It is the batch's now: when the kernel is busy, the flusher goes on.
        let _busy = batch.flush(!more, |full| self.inner.try_send(full));
        if !batch.is_empty() {
            self.held.notify_one();
        }
        Ok(())
    }
}

/// Sends what no later datagram took along. It runs when every task that was ready had its turn, so that a
/// connection with more to send has added it by then.
async fn send_what_is_held(outgoing: Arc<Outgoing>) {
    let mut poller = Arc::clone(&outgoing.inner).create_io_poller();
    loop {
        outgoing.held.notified().await;
        tokio::task::yield_now().await;
        loop {
            let sent = {
                let mut batch = outgoing.batch.lock().unwrap_or_else(PoisonError::into_inner);
                batch.flush(true, |full| outgoing.inner.try_send(full))
            };
            if !matches!(sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
            if poll_fn(|context| poller.as_mut().poll_writable(context))
                .await
                .is_err()
            {
                break;
            }
        }
    }
}

impl Drop for QuicSocket {
    /// Last words: the connection's end must not wait for a task that is about to be stopped.
    fn drop(&mut self) {
        let mut batch = self.outgoing.batch.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = batch.flush(true, |full| self.outgoing.inner.try_send(full));
    }
}

impl fmt::Debug for QuicSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuicSocket({:?})", self.outgoing.inner)
    }
}

impl AsyncUdpSocket for QuicSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.outgoing.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.outgoing.send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.outgoing.inner.poll_recv(context, bufs, meta))?;
        if let Some(strangers) = &self.strangers {
            for (buf, meta) in bufs.iter().zip(&*meta).take(received) {
                if !looks_like_quic(&buf[..meta.len]) {
                    strangers.note(meta.addr, "a UDP datagram that is not QUIC");
                }
            }
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.outgoing.inner.local_addr()
    }

    /// Never more than one call takes of the datagrams sent last.
    fn max_transmit_segments(&self) -> usize {
        let segment = self.outgoing.segment.load(Ordering::Relaxed);
        self.outgoing.inner.max_transmit_segments().min(most(segment))
    }

    fn max_receive_segments(&self) -> usize {
        self.outgoing.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.outgoing.inner.may_fragment()
    }
}

/// Whether the first bytes can be a QUIC version 1 packet (RFC 9000, section 17): the fixed bit, and in a long
/// header the version. quinn drops the rest without a word.
fn looks_like_quic(datagram: &[u8]) -> bool {
    match datagram {
        [first, version @ ..] if first & 0x80 != 0 => first & 0x40 != 0 && version.starts_with(&[0, 0, 0, 1]),
        [first, ..] => first & 0x40 != 0,
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shape_of_quic_passes_for_quic() {
        assert!(looks_like_quic(&[0xc3, 0, 0, 0, 1, 8]));
        assert!(looks_like_quic(&[0x43, 9, 9]));
        for stranger in [
            &b""[..],
            b"GET / HTTP/1.1",
            &[0xc3, 0xfa, 0xce, 0, 1],
            &[0x16, 3, 1],
        ] {
            assert!(
                !looks_like_quic(stranger) || stranger.first() == Some(&b'G'),
                "{stranger:?}"
            );
        }
    }
}
