//! This module owns what is seen of the network while scripts run: a socket that gets the packets of `lo`, and what the resolver is
//! asked.

use std::collections::BTreeSet;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeSpec;

use super::filter::{self, MAX_PACKET_LEN};
use super::names::{Names, Question};
use super::network::{HOST, HOST_V6};
use super::packet::{Attempt, Way};
use super::resolver::{DNS, Resolver};
use super::trace::{Trace, shown};
use super::{Finding, Line, What, process};

/// Names below it are the cluster's own.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Reverse look-ups: of addresses that nobody has.
const REVERSE: &str = ".arpa";

/// Bytes of packets that wait to be looked at, with what the kernel notes about each.
const QUEUE_LEN: usize = 64 << 20;
/// Packets that are looked at in a row.
const MAX_PACKETS: usize = 1024;
/// How often in a row: none of those that wait takes less than 256 bytes.
const MAX_ROWS: usize = QUEUE_LEN / 256 / MAX_PACKETS;
/// Most findings that are listed.
const MAX_FINDINGS: usize = 1000;

/// What is seen of the network.
pub(super) struct Watch {
    packets: OwnedFd,
    /// Packets that found no place in the queue, as far as the kernel has told; it counts anew after the largest number.
    lost: u32,
    resolver: Resolver,
    names: Names,
    /// Names that are the cluster's own.
    own: Vec<String>,
    seen: BTreeSet<(String, What)>,
    pub(super) findings: Vec<Finding>,
    /// Findings beyond [`MAX_FINDINGS`] are not listed.
    pub(super) left_out: bool,
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
        setsockopt(&packets, sockopt::RxqOvfl, &1)?;
        setsockopt(&packets, sockopt::RcvBufForce, &QUEUE_LEN)?;
        filter::attach(&packets)?;
        Ok(Self {
            packets,
            lost: 0,
            resolver: Resolver::begin()?,
            names: Names::default(),
            own: own.to_vec(),
            seen: BTreeSet::new(),
            findings: Vec::new(),
            left_out: false,
        })
    }

    /// What becomes readable when there is something to see.
    pub(super) fn handles(&self) -> Vec<BorrowedFd<'_>> {
        let mut handles = vec![self.packets.as_fd()];
        handles.extend(self.resolver.handles());
        handles
    }

    /// Looks at all that is left of `script`, when none of its processes is; gives how many packets were lost since the last time.
    pub(super) fn finish(&mut self, script: &str, trace: &mut Trace) -> io::Result<u32> {
        let before = self.lost;
        for _ in 0..MAX_ROWS {
            if !self.look(script, trace, &mut |_| Ok(()))? {
                break;
            }
        }
        // The kernel tells with a packet how many were lost before it.
        self.resolver.send_mark()?;
        self.look(script, trace, &mut |_| Ok(()))?;
        Ok(self.lost.wrapping_sub(before))
    }

    /// Looks at what was seen since the last time, while `script` runs, and says whether there were any packets. `trace` is brought
    /// up to date by `update`, between the packets and whose they are: what a line sends is sent after the line is told.
    pub(super) fn look(
        &mut self,
        script: &str,
        trace: &mut Trace,
        update: &mut dyn FnMut(&mut Trace) -> io::Result<()>,
    ) -> io::Result<bool> {
        let seen = self.packets()?;
        let any = !seen.is_empty();
        update(trace)?;
        for (time, packet) in seen {
            let Some(attempt) = Attempt::read(&packet) else {
                continue;
            };
            if self.is_own(attempt.address) {
                continue;
            }
            let what = match attempt.way {
                Way::Tcp(port) => What::Connects(self.peer(attempt.address, Some(port))),
                Way::Udp(port, _) => What::Sends(self.peer(attempt.address, Some(port))),
                Way::Ping => What::Pings(self.peer(attempt.address, None)),
            };
            self.find(script, what, trace.at(time), &|| None);
            if let Way::Udp(DNS, question) = attempt.way
                && let Some(question) = Question::read(question)
                && !self.is_own_name(&question.name)
            {
                let what = What::Resolves(shown(&question.name));
                self.find(script, what, trace.at(time), &|| None);
            }
        }
        self.answer(script, trace)?;
        Ok(any)
    }

    /// What a script was seen doing that no packet tells.
    pub(super) fn found(&mut self, script: &str, what: What, line: Option<&Line>) {
        self.find(script, what, line, &|| None);
    }

    fn packets(&mut self) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let mut packets = Vec::new();
        while packets.len() < MAX_PACKETS {
            let mut packet = [0; MAX_PACKET_LEN];
            let mut parts = [IoSliceMut::new(&mut packet)];
            let mut control = cmsg_space!(TimeSpec, u32);
            let handle = self.packets.as_raw_fd();
            let received = match recvmsg::<()>(handle, &mut parts, Some(&mut control), MsgFlags::empty()) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(packets),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut time = None;
            for message in received.cmsgs()? {
                match message {
                    ControlMessageOwned::ScmTimestampns(at) => time = Some(micros(at)),
                    ControlMessageOwned::RxqOvfl(lost) => self.lost = lost,
                    _ => {}
                }
            }
            let len = received.bytes;
            packets.push((time.unwrap_or_else(now), packet[..len].to_vec()));
        }
        Ok(packets)
    }

    fn answer(&mut self, script: &str, trace: &Trace) -> io::Result<()> {
        for asked in self.resolver.questions()? {
            let name = &asked.question.name;
            let address = if self.own.contains(name) {
                Some(HOST)
            } else if self.is_own_name(name) || name.ends_with(REVERSE) {
                None
            } else {
                // It waits for its answer, so it is still there.
                let asks = || process::that_sends_from(asked.way, asked.port);
                self.find(script, What::Resolves(shown(name)), trace.at(now()), &asks);
                Some(self.names.address(name))
            };
            self.resolver.answer(&asked, address);
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

    /// Lists what is not listed yet; only then `process` is asked, which takes its time.
    fn find(&mut self, script: &str, what: What, line: Option<&Line>, process: &dyn Fn() -> Option<String>) {
        let found = (script.to_owned(), what);
        if self.seen.contains(&found) {
            return;
        }
        if self.findings.len() == MAX_FINDINGS {
            self.left_out = true;
            return;
        }
        let what = found.1.clone();
        self.seen.insert(found);
        self.findings.push(Finding {
            script: script.to_owned(),
            line: line.cloned(),
            process: process(),
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
