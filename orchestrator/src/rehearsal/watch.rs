//! This module owns what is seen of the network while scripts run: a socket that gets every packet of `lo`, and a resolver that
//! answers every name.

use std::collections::BTreeSet;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeSpec;

use super::names::{Names, Question};
use super::network::{HOST, HOST_V6};
use super::packet::{Attempt, Way};
use super::process;
use super::trace::{Trace, shown};
use super::{Finding, Line, What};

/// Where scripts find the resolver.
pub(super) const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
const DNS: u16 = 53;
/// Names below it are the cluster's own.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Reverse look-ups: of addresses that nobody has.
const REVERSE: &str = ".arpa";

/// Longest beginning of a packet that is looked at, in bytes: any question of DNS is in it.
const MAX_PACKET_LEN: usize = 1024;
/// Bytes of packets that wait to be looked at.
const QUEUE_LEN: usize = 8 << 20;
/// Packets that are looked at in a row.
const MAX_PACKETS: usize = 1024;
/// Most findings that are listed.
const MAX_FINDINGS: usize = 1000;

/// What is seen of the network.
pub(super) struct Watch {
    packets: OwnedFd,
    resolver: UdpSocket,
    names: Names,
    /// Names that are the cluster's own.
    own: Vec<String>,
    seen: BTreeSet<(String, What)>,
    pub(super) findings: Vec<Finding>,
    /// Findings beyond [`MAX_FINDINGS`] are not listed.
    pub(super) left_out: bool,
    /// The resolver was asked over TCP, where it does not answer.
    pub(super) asked_over_tcp: bool,
}

impl Watch {
    /// Begins to look, in this process's own network namespace. Names in `own` are the cluster's.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub(super) fn begin(own: &[String]) -> io::Result<Self> {
        let packets = socket(
            AddressFamily::Packet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::EthAll,
        )?;
        setsockopt(&packets, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&packets, sockopt::RcvBufForce, &QUEUE_LEN)?;
        let resolver = UdpSocket::bind((RESOLVER, DNS))?;
        resolver.set_nonblocking(true)?;
        Ok(Self {
            packets,
            resolver,
            names: Names::default(),
            own: own.to_vec(),
            seen: BTreeSet::new(),
            findings: Vec::new(),
            left_out: false,
            asked_over_tcp: false,
        })
    }

    /// What becomes readable when there is something to see.
    pub(super) fn handles(&self) -> [BorrowedFd<'_>; 2] {
        [self.packets.as_fd(), self.resolver.as_fd()]
    }

    /// Looks at all that was seen since the last time, while `script` runs. `trace` is brought up to date by `update`, between
    /// the packets and whose they are: what a line sends is sent after the line is told.
    pub(super) fn look(
        &mut self,
        script: &str,
        trace: &mut Trace,
        update: &mut dyn FnMut(&mut Trace) -> io::Result<()>,
    ) -> io::Result<()> {
        let seen = self.packets()?;
        update(trace)?;
        for (time, packet) in seen {
            let Some(attempt) = Attempt::read(&packet) else {
                continue;
            };
            if self.is_own(attempt.address) {
                let is_resolver = attempt.address == IpAddr::V4(RESOLVER);
                self.asked_over_tcp |= is_resolver && attempt.way == Way::Tcp(DNS);
                continue;
            }
            let what = match attempt.way {
                Way::Tcp(port) => What::Connects(self.peer(attempt.address, Some(port))),
                Way::Udp(port, _) => What::Sends(self.peer(attempt.address, Some(port))),
                Way::Ping => What::Pings(self.peer(attempt.address, None)),
            };
            self.find(script, what, trace.at(time), None);
            if let Way::Udp(DNS, question) = attempt.way
                && let Some(question) = Question::read(question)
                && !self.is_own_name(&question.name)
            {
                self.find(
                    script,
                    What::Resolves(shown(&question.name)),
                    trace.at(time),
                    None,
                );
            }
        }
        self.answer(script, trace)
    }

    /// What a script was seen doing that no packet tells.
    pub(super) fn found(&mut self, script: &str, what: What, line: Option<&Line>) {
        self.find(script, what, line, None);
    }

    fn packets(&self) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let mut packets = Vec::new();
        while packets.len() < MAX_PACKETS {
            let mut packet = [0; MAX_PACKET_LEN];
            let mut parts = [IoSliceMut::new(&mut packet)];
            let mut control = cmsg_space!(TimeSpec);
            let handle = self.packets.as_raw_fd();
            let received = match recvmsg::<()>(handle, &mut parts, Some(&mut control), MsgFlags::empty()) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(packets),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let time = received.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::ScmTimestampns(time) => Some(micros(time)),
                _ => None,
            });
            let len = received.bytes;
            packets.push((time.unwrap_or_else(now), packet[..len].to_vec()));
        }
        Ok(packets)
    }

    fn answer(&mut self, script: &str, trace: &Trace) -> io::Result<()> {
        for _ in 0..MAX_PACKETS {
            let mut message = [0; MAX_PACKET_LEN];
            let (len, from) = match self.resolver.recv_from(&mut message) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Somebody who asked went away without waiting for the answer.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            };
            let Some(question) = Question::read(&message[..len]) else {
                continue;
            };
            let address = if self.own.contains(&question.name) {
                Some(HOST)
            } else if self.is_own_name(&question.name) || question.name.ends_with(REVERSE) {
                None
            } else {
                // It waits for its answer, so it is still there.
                let asks = process::that_sends_from(from.port());
                self.find(
                    script,
                    What::Resolves(shown(&question.name)),
                    trace.at(now()),
                    asks,
                );
                Some(self.names.address(&question.name))
            };
            // Whoever asked may be gone.
            let _ = self.resolver.send_to(&question.answer(address), from);
        }
        Ok(())
    }

    fn is_own(&self, address: IpAddr) -> bool {
        let is_everybody = address == IpAddr::V4(Ipv4Addr::BROADCAST) || address.is_multicast();
        is_everybody
            || address.is_loopback()
            || address.is_unspecified()
            || [IpAddr::V4(HOST), IpAddr::V6(HOST_V6)].contains(&address)
    }

    /// Whether the container image `image` is one of the cluster's own registry.
    pub(super) fn is_of_cluster(&self, image: &str) -> bool {
        let registry = image.split('/').next().unwrap_or_default();
        self.is_own_name(registry.split(':').next().unwrap_or_default())
    }

    fn is_own_name(&self, name: &str) -> bool {
        name.is_empty()
            || self.own.iter().any(|own| own == name)
            || name == "localhost"
            || name
                .strip_suffix(CLUSTER_DOMAIN)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    fn peer(&self, address: IpAddr, port: Option<u16>) -> String {
        let name = match address {
            IpAddr::V4(address) => self.names.name(address),
            IpAddr::V6(_) => None,
        };
        match (name, port) {
            (Some(name), Some(port)) => format!("{}:{port}", shown(name)),
            (Some(name), None) => shown(name),
            (None, Some(port)) => SocketAddr::new(address, port).to_string(),
            (None, None) => address.to_string(),
        }
    }

    fn find(&mut self, script: &str, what: What, line: Option<&Line>, process: Option<String>) {
        if !self.seen.insert((script.to_owned(), what.clone())) {
            return;
        }
        if self.findings.len() == MAX_FINDINGS {
            self.left_out = true;
            self.seen.remove(&(script.to_owned(), what));
            return;
        }
        self.findings.push(Finding {
            script: script.to_owned(),
            line: line.cloned(),
            process,
            what,
        });
    }
}

fn micros(time: TimeSpec) -> u64 {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0) / 1000
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
