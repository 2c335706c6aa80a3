//! UDP sockets for QUIC: large buffers, read back; bounded segmentation; strangers' datagrams counted.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime, UdpPoller};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{MAX_UDP_DATAGRAM, MAX_UDP_PAYLOAD, MIN_UDP_PAYLOAD, SOCKET_BUFFER};
use crate::strangers::Strangers;

/// Bytes of an IPv4 and UDP header.
const IPV4_OVERHEAD: u32 = 28;
/// Bytes of an IPv6 and UDP header.
const IPV6_OVERHEAD: u32 = 48;

/// A bound UDP socket and what the kernel granted it.
#[derive(Debug)]
pub(crate) struct UdpPort {
    pub(crate) socket: UdpSocket,
    /// Bytes the kernel holds for us, as it counts what was asked for: half of what it reports.
    pub(crate) receive_buffer: usize,
}

/// Binds a UDP socket with buffers as large as the kernel gives.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<UdpPort> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Root may go beyond net.core.rmem_max; others get as much as that allows.
    if sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER).is_err() {
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    }
    if sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER).is_err() {
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
    }
    let receive_buffer = socket.recv_buffer_size()? / 2;
    if receive_buffer < SOCKET_BUFFER / 4 {
        tracing::debug!(
            granted = receive_buffer,
            asked = SOCKET_BUFFER,
            "the kernel grants small UDP buffers: bulk transfers are slower; raise net.core.rmem_max or run as root"
        );
    }
    socket.bind(&addr.into())?;
    socket.set_nonblocking(true)?;
    Ok(UdpPort {
        socket: socket.into(),
        receive_buffer,
    })
}

/// The largest UDP payload worth trying towards `peer`: what the route's interface carries, within our bounds.
pub(crate) fn route_payload(peer: SocketAddr) -> u16 {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let mtu = route_mtu(peer).unwrap_or(1500);
    let overhead = if peer.is_ipv4() {
        IPV4_OVERHEAD
    } else {
        IPV6_OVERHEAD
    };
    let payload = mtu.saturating_sub(overhead).min(u32::from(MAX_UDP_PAYLOAD));
    u16::try_from(payload)
        .unwrap_or(MAX_UDP_PAYLOAD)
        .max(MIN_UDP_PAYLOAD)
}

/// The kernel's answer: the MTU of the route a connected socket takes. Nothing is sent.
fn route_mtu(peer: SocketAddr) -> io::Result<u32> {
    if peer.is_ipv4() {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(peer)?;
        Ok(sockopt::ip_mtu(&socket)?)
    } else {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket.connect(peer)?;
        Ok(sockopt::ipv6_mtu(&socket)?)
    }
}

/// A socket for quinn.
pub(crate) fn for_quinn(
    socket: UdpSocket,
    payload: u16,
    strangers: Option<Arc<Strangers>>,
) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let inner = TokioRuntime.wrap_udp_socket(socket)?;
    Ok(Arc::new(BoundedSegments {
        inner,
        segments: MAX_UDP_DATAGRAM / usize::from(payload),
        strangers,
    }))
}

/// Keeps a batch of segments below the largest datagram.
///
/// quinn sends ten segments in one call. With jumbo frames that is more than 65,507 bytes, the kernel refuses
/// the call, quinn takes it for a loss and its black-hole detection drops the packet size to 1200 bytes.
struct BoundedSegments {
    inner: Arc<dyn AsyncUdpSocket>,
    segments: usize,
    strangers: Option<Arc<Strangers>>,
}

impl fmt::Debug for BoundedSegments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BoundedSegments({:?}, at most {})", self.inner, self.segments)
    }
}

impl AsyncUdpSocket for BoundedSegments {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.inner.poll_recv(context, bufs, meta))?;
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
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments().min(self.segments).max(1)
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
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
    fn buffers_are_read_back_and_the_loopback_carries_jumbo_frames() {
        let port = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(port.receive_buffer > 0);
        assert_eq!(route_payload("127.0.0.1:9".parse().unwrap()), MAX_UDP_PAYLOAD);
        assert_eq!(
            route_payload("[::ffff:127.0.0.1]:9".parse().unwrap()),
            MAX_UDP_PAYLOAD
        );
    }

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
