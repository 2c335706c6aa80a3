//! UDP sockets for QUIC: large buffers, read back; full batches of segments; strangers' datagrams counted.
//!
//! `route` says how large a datagram may be, `batch` gathers those that leave together, `quic_socket` is what
//! quinn sends and receives through.

mod batch;
mod quic_socket;
mod route;

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::SOCKET_BUFFER;

pub(crate) use quic_socket::for_quinn;
pub(crate) use route::route_payload;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granted_buffers_are_read_back() {
        let port = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(port.receive_buffer > 0);
    }
}
