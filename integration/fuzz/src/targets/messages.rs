//! What a peer sends.

use gantry_protocol::codec::{HEADER_LEN, Message, body_len, decode_body, encode};
use gantry_protocol::{FetchReply, FetchRequest, Hello, HelloReply, Reply, Request};

use crate::Target;

/// A frame of the protocol: six bytes of header, a body.
pub(crate) const MESSAGE: Target = Target {
    name: "message",
    seeds: || {
        // `name HEX`, one a line.
        let golden = include_str!("../../../../common/protocol/tests/golden/v1.txt");
        let frames = golden.lines().filter_map(|line| line.rsplit_once(' '));
        frames.map(|(_, hex)| bytes(hex)).collect()
    },
    run: |data| {
        read::<Hello>(data);
        read::<HelloReply>(data);
        read::<Request>(data);
        read::<Reply>(data);
        read::<FetchRequest>(data);
        read::<FetchReply>(data);
    },
};

/// A frame that is read is written as it was.
fn read<M: Message>(data: &[u8]) {
    let Some((header, body)) = data.split_first_chunk::<HEADER_LEN>() else {
        return;
    };
    let Ok(len) = body_len::<M>(*header) else { return };
    let Some(body) = body.get(..len) else { return };
    if let Ok(message) = decode_body::<M>(body) {
        assert!(encode(&message).is_ok(), "what was read cannot be sent");
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.filter_map(byte).collect()
}
