//! This module owns which packets the kernel keeps for who looks at them: what goes on after a connection was begun says nothing new,
//! and would push out what does. A program of BPF in its first form (the kernel's `Documentation/networking/filter.rst`).

use std::io;
use std::os::fd::AsFd;

use socket2::{SockFilter, SockRef};

/// Longest beginning of a packet that is kept, in bytes: any question of DNS is in it.
pub(super) const MAX_PACKET_LEN: usize = 1024;

// linux/bpf_common.h, linux/filter.h
const LOAD_BYTE: u16 = 0x30;
const LOAD_TWO: u16 = 0x28;
const LOAD_BYTE_BEHIND_HEADER: u16 = 0x50;
/// Four times the lower half of a byte: the length of a header of IPv4.
const LOAD_HEADER_LEN: u16 = 0xb1;
const AND: u16 = 0x54;
const IF_EQUAL: u16 = 0x15;
const IF_ANY: u16 = 0x45;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
/// Where the kernel has what it knows about a packet: there, which way it goes.
const WAY: u32 = 0xffff_f000 + 4;
const OUTGOING: u32 = 4;

const TCP: u32 = 6;
const SYN_AND_ACK: u32 = 0x12;
const SYN: u32 = 0x02;
/// Where jumps lead to.
const IPV4: u8 = 9;
const FLAGS: u8 = 15;
const KEEP: u8 = 17;
const PASS: u8 = 18;

/// Attaches the program to `socket`, whose packets begin with the header of IPv4 or IPv6.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn attach(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).attach_filter(&program())
}

/// Kept is what goes in here and is neither TCP nor the first packet of a connection. All packets of `lo` go out and in.
fn program() -> Vec<SockFilter> {
    let to = |from: u8, place: u8| place - from - 1;
    [
        (LOAD_BYTE, 0, 0, WAY),
        (IF_EQUAL, to(1, PASS), 0, OUTGOING),
        (LOAD_BYTE, 0, 0, 0),
        (AND, 0, 0, 0xf0),
        (IF_EQUAL, to(4, IPV4), 0, 0x40),
        // IPv6. TCP lies behind its header, or behind others, which are kept.
        (LOAD_BYTE, 0, 0, 6),
        (IF_EQUAL, 0, to(6, KEEP), TCP),
        (LOAD_BYTE, 0, 0, 40 + 13),
        (JUMP, 0, 0, to(8, FLAGS).into()),
        // IPv4. Pieces of a packet are kept.
        (LOAD_BYTE, 0, 0, 9),
        (IF_EQUAL, 0, to(10, KEEP), TCP),
        (LOAD_TWO, 0, 0, 6),
        (IF_ANY, to(12, KEEP), 0, 0x1fff),
        (LOAD_HEADER_LEN, 0, 0, 0),
        (LOAD_BYTE_BEHIND_HEADER, 0, 0, 13),
        (AND, 0, 0, SYN_AND_ACK),
        (IF_EQUAL, to(16, KEEP), to(16, PASS), SYN),
        (RETURN, 0, 0, MAX_PACKET_LEN as u32),
        (RETURN, 0, 0, 0),
    ]
    .into_iter()
    .map(|(code, if_so, if_not, value)| SockFilter::new(code, if_so, if_not, value))
    .collect()
}
