//! What scripts send in a rehearsal.

use std::net::Ipv4Addr;

use gantry::rehearsal::names::Question;
use gantry::rehearsal::packet::{Attempt, Way};

use crate::Target;

/// Packets, with what is in datagrams.
pub(crate) const PACKET: Target = Target {
    name: "packet",
    seeds: || {
        let v4 = |protocol: u8, carried: &[u8]| {
            let mut packet = vec![
                0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 10, 203, 0, 113, 7,
            ];
            packet.extend(carried);
            packet
        };
        let mut v6 = vec![0x60, 0, 0, 0, 0, 28, 0, 64];
        v6.extend([0x20; 32]);
        v6.extend([6, 0, 0, 0, 0, 0, 0, 0]);
        v6.extend([0, 1, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 80, 2, 0, 0, 0, 0, 0, 0]);
        vec![
            v4(
                6,
                &[0, 1, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 80, 2, 0, 0, 0, 0, 0, 0],
            ),
            v4(17, b"\0\x35\0\x35\0\x10\0\0hello"),
            v4(1, &[8, 0, 0, 0]),
            v6,
        ]
    },
    run: |data| {
        if let Some(attempt) = Attempt::read(data)
            && let Way::Udp(_, carried) = attempt.way
        {
            assert!(carried.len() < data.len());
            let _ = Question::read(carried);
        }
    },
};

/// Questions of DNS, and their answers.
pub(crate) const QUESTION: Target = Target {
    name: "question",
    seeds: || {
        vec![
            b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\0\x07Example\x03com\0\0\x01\0\x01".to_vec(),
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x01a\0\0\x1c\0\x01\0\0\x29\x10\0\0\0\0\0\0\0".to_vec(),
        ]
    },
    run: |data| {
        let Some(question) = Question::read(data) else {
            return;
        };
        assert!(question.name.chars().count() <= 255);
        for address in [None, Some(Ipv4Addr::LOCALHOST)] {
            let answer = question.answer(address);
            // What resolvers take without asking again over TCP (RFC 1035, section 4.2.1).
            assert!(answer.len() <= 512 && answer[..2] == data[..2]);
            assert_eq!(Question::read(&answer), None, "an answer is no question");
        }
    },
};
