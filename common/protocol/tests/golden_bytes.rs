//! The bytes of every message of protocol version 1, as released: `golden/v1.txt`. A line that changes is a
//! protocol that broke; new messages add lines. `GANTRY_WRITE_GOLDEN=1` appends the new ones.

mod samples;

use std::collections::BTreeMap;
use std::path::Path;

use gantry_protocol::codec::{HEADER_LEN, body_len, decode_body, encode};
use gantry_protocol::{
    CodecError, EnrolmentAnswer, EnrolmentAsk, FetchReply, FetchRequest, Hello, HelloReply, Message, Reply,
    Request, SnapshotPart, StepEvent,
};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_message_has_the_bytes_it_was_released_with() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1.txt");
    let mut text = std::fs::read_to_string(&path).unwrap_or_default();
    let golden: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, hex)| (name.to_owned(), hex.to_owned()))
        .collect();
    let samples = samples::all();
    for (name, frame) in &samples {
        match golden.get(*name) {
            Some(released) => assert_eq!(&hex(frame), released, "{name} changed"),
            None if std::env::var_os("GANTRY_WRITE_GOLDEN").is_some() => {
                text.push_str(&format!("{name} {}\n", hex(frame)));
            }
            None => panic!("{name} has no released bytes: run with GANTRY_WRITE_GOLDEN=1 once"),
        }
    }
    for name in golden.keys() {
        assert!(
            samples.iter().any(|(sample, _)| sample == name),
            "{name} was released and is gone"
        );
    }
    if std::env::var_os("GANTRY_WRITE_GOLDEN").is_some() {
        std::fs::write(path, text).unwrap();
    }
}

/// Decodes a frame as the message its header names, and encodes it again.
fn again(frame: &[u8]) -> Result<Vec<u8>, CodecError> {
    fn one<M: Message>(frame: &[u8]) -> Result<Vec<u8>, CodecError> {
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&frame[..HEADER_LEN]);
        // The length is the reader's affair: it reads that much and no more.
        body_len::<M>(header)?;
        encode(&decode_body::<M>(&frame[HEADER_LEN..])?)
    }
    match u16::from_be_bytes([frame[4], frame[5]]) {
        Hello::KIND => one::<Hello>(frame),
        HelloReply::KIND => one::<HelloReply>(frame),
        Request::KIND => one::<Request>(frame),
        Reply::KIND => one::<Reply>(frame),
        StepEvent::KIND => one::<StepEvent>(frame),
        FetchRequest::KIND => one::<FetchRequest>(frame),
        FetchReply::KIND => one::<FetchReply>(frame),
        EnrolmentAsk::KIND => one::<EnrolmentAsk>(frame),
        EnrolmentAnswer::KIND => one::<EnrolmentAnswer>(frame),
        SnapshotPart::KIND => one::<SnapshotPart>(frame),
        found => Err(CodecError::UnexpectedKind { found, expected: 0 }),
    }
}

#[test]
fn every_sample_comes_back() {
    for (name, frame) in samples::all() {
        assert_eq!(again(&frame).as_ref(), Ok(&frame), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Bytes changed, cut off, put in or added: an error or a message, never a crash or a huge allocation.
    #[test]
    fn damaged_messages_are_refused_or_understood(
        sample in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..8),
    ) {
        let samples = samples::all();
        let mut frame = sample.get(&samples).1.clone();
        for (at, byte, kind) in changes {
            let at = HEADER_LEN + at.index(frame.len().max(HEADER_LEN + 1) - HEADER_LEN);
            match kind {
                0 if at < frame.len() => frame[at] = byte,
                1 => frame.truncate(at.max(HEADER_LEN)),
                2 if at <= frame.len() => frame.insert(at, byte),
                _ => frame.push(byte),
            }
        }
        if let Ok(bytes) = again(&frame) {
            // What was understood means the same when sent again.
            prop_assert_eq!(again(&bytes), Ok(bytes));
        }
    }

    /// A header alone announces lengths and kinds of any size.
    #[test]
    fn any_header_is_judged_before_its_body(header in any::<[u8; HEADER_LEN]>()) {
        if let Ok(len) = body_len::<Request>(header) {
            prop_assert!(len <= gantry_protocol::limits::MAX_MESSAGE_LEN);
        }
    }

    /// A text or list that announces more than there is does not get memory for it.
    #[test]
    fn announced_lengths_are_not_believed(len in 1..=u64::MAX) {
        let mut body = vec![1, 0, 0xfd];
        body.extend_from_slice(&len.to_le_bytes());
        prop_assert!(decode_body::<FetchReply>(&body).is_err());
        let mut body = vec![3, 1, 0xfd];
        body.extend_from_slice(&len.to_le_bytes());
        prop_assert!(decode_body::<StepEvent>(&body).is_err());
    }
}
