//! How large a datagram the way to a peer carries.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::sockopt;

use crate::limits::{MAX_UDP_PAYLOAD, MIN_UDP_PAYLOAD};

/// Bytes of an IPv4 and UDP header.
const IPV4_OVERHEAD: u32 = 28;
/// Bytes of an IPv6 and UDP header.
const IPV6_OVERHEAD: u32 = 48;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_carries_jumbo_frames() {
        assert_eq!(route_payload("127.0.0.1:9".parse().unwrap()), MAX_UDP_PAYLOAD);
        assert_eq!(
            route_payload("[::ffff:127.0.0.1]:9".parse().unwrap()),
            MAX_UDP_PAYLOAD
        );
    }
}
