//! This module owns the network of a rehearsal: one interface, `lo`, and every address there is leads to it.
//!
//! So whoever is reached is this host: the kernel itself refuses connections and datagrams at once, nothing waits, and all that
//! leaves a script passes by one place where it is seen. Told to the kernel by rtnetlink(7).

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// The addresses of the host in a rehearsal: for documentation, nobody has them (RFC 5737, RFC 3849).
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub(super) const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// Bits of the network that it is in.
const HOST_PREFIX: u8 = 24;
const HOST_V6_PREFIX: u8 = 64;

/// `lo` has this number in every network namespace.
const LOOPBACK: i32 = 1;

// linux/netlink.h
const REQUEST_AND_ACKNOWLEDGE: u16 = 0x1 | 0x4;
const CREATE: u16 = 0x400;
const MESSAGE_HEADER_LEN: usize = 16;
const ERROR: u16 = 2;
// linux/rtnetlink.h, linux/if_addr.h, linux/if.h
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const INTERFACE_UP: u32 = 1;
const ADDRESS: u16 = 1;
const LOCAL_ADDRESS: u16 = 2;
const NO_DUPLICATE_DETECTION: u8 = 2;
const OUT_INTERFACE: u16 = 4;
const PREFERRED_SOURCE: u16 = 7;
const STATIC: u8 = 4;

/// Settings of this network: pings stay without an answer, for nobody is there, and IPv6 is there wherever the kernel has it.
const SETTINGS: [(&str, &str); 4] = [
    ("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1"),
    ("/proc/sys/net/ipv6/icmp/echo_ignore_all", "1"),
    ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0"),
    ("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "0"),
];

/// Which addresses a route leads to.
#[derive(Debug, Clone, Copy)]
enum Route {
    /// To this host: table `local`, scope `host`.
    Local,
    /// What scripts see that look for the interface that leads outside: table `main`, scope `link`.
    Default,
}

/// Makes the network, in this process's own network namespace. Says whether IPv6 is there, too.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn make() -> io::Result<bool> {
    for (setting, value) in SETTINGS {
        // Kernels without IPv6 have none of its settings.
        let _ = fs::write(setting, value);
    }
    let mut kernel = Kernel::open()?;
    kernel.ask(NEW_LINK, &link_up())?;
    for family in [IpAddr::V4(HOST), IpAddr::V6(HOST_V6)] {
        let made = kernel
            .ask(NEW_ADDRESS, &address(family))
            .and_then(|()| kernel.ask(NEW_ROUTE, &route(family, Route::Local)))
            .and_then(|()| kernel.ask(NEW_ROUTE, &route(family, Route::Default)));
        match made {
            Ok(()) => {}
            Err(_) if family.is_ipv6() => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// A socket of rtnetlink.
struct Kernel {
    socket: std::os::fd::OwnedFd,
    sequence: u32,
}

impl Kernel {
    fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self { socket, sequence: 0 })
    }

    fn ask(&mut self, kind: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let len = u32::try_from(MESSAGE_HEADER_LEN + body.len()).map_err(io::Error::other)?;
        let mut message = len.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST_AND_ACKNOWLEDGE | CREATE).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.socket.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let len = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let code = answer[..len]
            .get(MESSAGE_HEADER_LEN..MESSAGE_HEADER_LEN + 4)
            .filter(|_| answer[4..6] == ERROR.to_ne_bytes())
            .and_then(|code| Some(i32::from_ne_bytes(code.try_into().ok()?)));
        match code {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(-code)),
            None => Err(io::Error::other("the kernel gave no answer about the network")),
        }
    }
}

/// `struct ifinfomsg`.
fn link_up() -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend(INTERFACE_UP.to_ne_bytes());
    body.extend(INTERFACE_UP.to_ne_bytes());
    body
}

/// `struct ifaddrmsg` and its attributes.
fn address(address: IpAddr) -> Vec<u8> {
    let prefix = if address.is_ipv4() {
        HOST_PREFIX
    } else {
        HOST_V6_PREFIX
    };
    let mut body = vec![family(address), prefix, NO_DUPLICATE_DETECTION, 0];
    body.extend(LOOPBACK.to_ne_bytes());
    attribute(&mut body, LOCAL_ADDRESS, &octets(address));
    attribute(&mut body, ADDRESS, &octets(address));
    body
}

/// `struct rtmsg` for all addresses there are, and its attributes.
fn route(source: IpAddr, route: Route) -> Vec<u8> {
    let (table, scope, kind) = match route {
        Route::Local => (255, 254, 2),
        Route::Default => (254, 253, 1),
    };
    let mut body = vec![family(source), 0, 0, 0, table, STATIC, scope, kind];
    body.extend([0; 4]);
    attribute(&mut body, OUT_INTERFACE, &LOOPBACK.to_ne_bytes());
    // Without it whoever is reached would be who reaches, too.
    attribute(&mut body, PREFERRED_SOURCE, &octets(source));
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(len.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    // All of them have a multiple of four bytes, as the kernel wants them.
    body.extend(value);
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    u8::try_from(family as i32).unwrap_or_default()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
