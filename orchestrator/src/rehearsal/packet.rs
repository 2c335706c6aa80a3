//! A packet → what it is the beginning of, if it is one. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// An echo request of ICMP (RFC 792) and of ICMPv6 (RFC 4443): protocol, type.
const ECHO_V4: (u8, u8) = (1, 8);
const ECHO_V6: (u8, u8) = (58, 128);
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const UDP_HEADER_LEN: usize = 8;
const IPV6_HEADER_LEN: usize = 40;
/// Headers between that of IPv6 and what is carried (RFC 8200): hop-by-hop, routing, destination options.
const BETWEEN: [u8; 3] = [0, 43, 60];
/// Most of them that are passed over.
const MAX_BETWEEN: usize = 4;

/// The first packet to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// Who is to be reached.
    pub address: IpAddr,
    /// How.
    pub way: Way<'a>,
}

/// How somebody is to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'a> {
    /// A connection to this port.
    Tcp(u16),
    /// A datagram to this port, and what is in it.
    Udp(u16, &'a [u8]),
    /// A question whether it is there.
    Ping,
}

impl<'a> Attempt<'a> {
    /// Reads a packet that begins with the header of IPv4 or IPv6. None for what belongs to something that was begun before.
    #[must_use]
    pub fn read(packet: &'a [u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::in_v4(packet),
            6 => Self::in_v6(packet),
            _ => None,
        }
    }

    fn in_v4(packet: &'a [u8]) -> Option<Self> {
        let header_len = usize::from(packet[0] & 0x0f) * 4;
        if header_len < 20 {
            return None;
        }
        let header = packet.get(..header_len)?;
        // Of what was cut in pieces the first one says all.
        if u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0 {
            return None;
        }
        let address = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
        let way = Way::read(header[9], &packet[header_len..], ECHO_V4)?;
        Some(Self {
            address: address.into(),
            way,
        })
    }

    fn in_v6(packet: &'a [u8]) -> Option<Self> {
        let header = packet.get(..IPV6_HEADER_LEN)?;
        let address: [u8; 16] = header[24..40].try_into().ok()?;
        let (mut protocol, mut carried) = (header[6], &packet[IPV6_HEADER_LEN..]);
        for _ in 0..MAX_BETWEEN {
            if !BETWEEN.contains(&protocol) {
                break;
            }
            protocol = *carried.first()?;
            let len = (usize::from(*carried.get(1)?) + 1) * 8;
            carried = carried.get(len..)?;
        }
        let way = Way::read(protocol, carried, ECHO_V6)?;
        Some(Self {
            address: Ipv6Addr::from(address).into(),
            way,
        })
    }
}

impl<'a> Way<'a> {
    fn read(protocol: u8, carried: &'a [u8], echo: (u8, u8)) -> Option<Self> {
        let port = || Some(u16::from_be_bytes([*carried.get(2)?, *carried.get(3)?]));
        match protocol {
            TCP if carried.get(13)? & (SYN | ACK) == SYN => Some(Self::Tcp(port()?)),
            UDP => Some(Self::Udp(port()?, carried.get(UDP_HEADER_LEN..)?)),
            _ if (protocol, *carried.first()?) == echo => Some(Self::Ping),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, carried: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 10];
        packet.extend([203, 0, 113, 7]);
        packet.extend(carried);
        packet
    }

    fn tcp(flags: u8) -> Vec<u8> {
        let mut header = vec![0; 20];
        header[2..4].copy_from_slice(&443u16.to_be_bytes());
        header[13] = flags;
        header
    }

    #[test]
    fn a_connection_is_told_by_its_first_packet() {
        let packet = v4(TCP, &tcp(SYN));
        let attempt = Attempt::read(&packet).unwrap();
        assert_eq!(attempt.address, IpAddr::from([203, 0, 113, 7]));
        assert_eq!(attempt.way, Way::Tcp(443));
        for flags in [SYN | ACK, ACK, 0x04] {
            assert_eq!(Attempt::read(&v4(TCP, &tcp(flags))), None);
        }
        let mut piece = packet.clone();
        piece[7] = 1;
        assert_eq!(Attempt::read(&piece), None);
    }

    #[test]
    fn datagrams_and_pings_are_told_by_any() {
        let packet = v4(UDP, b"\0\x35\0\x7b\0\x0a\0\0hi");
        assert_eq!(Attempt::read(&packet).unwrap().way, Way::Udp(123, b"hi"));
        assert_eq!(Attempt::read(&v4(1, &[8, 0, 0, 0])).unwrap().way, Way::Ping);
        assert_eq!(Attempt::read(&v4(1, &[0, 0, 0, 0])), None, "an answer");
    }

    #[test]
    fn headers_of_ipv6_are_passed_over() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 28, 0, 64];
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend("2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend([TCP, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend(tcp(SYN));
        let attempt = Attempt::read(&packet).unwrap();
        assert_eq!(attempt.address, "2001:db8::7".parse::<IpAddr>().unwrap());
        assert_eq!(attempt.way, Way::Tcp(443));
        for end in 0..packet.len() - 6 {
            assert_eq!(Attempt::read(&packet[..end]), None, "{end}");
        }
    }
}
