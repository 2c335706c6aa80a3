//! Message ↔ bytes. The only file that knows bincode: it is no longer developed, and this is where it would be replaced.
//!
//! Frame: `u32` big-endian length of what follows, `u16` big-endian schema number, body. The body is bincode's
//! standard configuration with a limit; whatever is left over after decoding is an error.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::MAX_MESSAGE_LEN;
use crate::{
    EnrolmentAnswer, EnrolmentAsk, FetchReply, FetchRequest, Hello, HelloReply, Reply, Request, SnapshotPart,
    StepEvent,
};

/// Bytes before the body: length and schema number.
pub const HEADER_LEN: usize = 6;

/// Why bytes are not a message, or a message cannot become bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The length in the header is out of bounds.
    #[error("a message of {len} bytes was announced; at most {MAX_MESSAGE_LEN} are allowed")]
    TooLong {
        /// What was announced or would be sent.
        len: usize,
    },
    /// Another message was due.
    #[error("message kind {found} came where {expected} was due")]
    UnexpectedKind {
        /// Schema number found.
        found: u16,
        /// Schema number due.
        expected: u16,
    },
    /// The body is not this message.
    #[error("the body of message kind {kind} cannot be decoded: {reason}")]
    Malformed {
        /// Schema number.
        kind: u16,
        /// What bincode said.
        reason: String,
    },
}

/// A type that travels as one frame. The number is written before the body and never reused.
pub trait Message: Serialize + DeserializeOwned {
    /// The schema number.
    const KIND: u16;
}

impl Message for Hello {
    const KIND: u16 = 1;
}
impl Message for HelloReply {
    const KIND: u16 = 2;
}
impl Message for Request {
    const KIND: u16 = 3;
}
impl Message for Reply {
    const KIND: u16 = 4;
}
impl Message for StepEvent {
    const KIND: u16 = 5;
}
impl Message for FetchRequest {
    const KIND: u16 = 6;
}
impl Message for FetchReply {
    const KIND: u16 = 7;
}

impl Message for EnrolmentAsk {
    const KIND: u16 = 8;
}
impl Message for EnrolmentAnswer {
    const KIND: u16 = 9;
}
impl Message for SnapshotPart {
    const KIND: u16 = 10;
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_MESSAGE_LEN>()
}

/// The whole frame of `message`.
///
/// # Errors
/// When it would be longer than the limit.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; HEADER_LEN];
    bincode::serde::encode_into_std_write(message, &mut frame, config()).map_err(|error| {
        CodecError::Malformed {
            kind: M::KIND,
            reason: error.to_string(),
        }
    })?;
    let len = frame.len() - 4;
    if len > MAX_MESSAGE_LEN {
        return Err(CodecError::TooLong { len });
    }
    frame[..4].copy_from_slice(
        &u32::try_from(len)
            .map_err(|_| CodecError::TooLong { len })?
            .to_be_bytes(),
    );
    frame[4..HEADER_LEN].copy_from_slice(&M::KIND.to_be_bytes());
    Ok(frame)
}

/// The length of the body that follows a header of kind `M`.
///
/// # Errors
/// When the header announces too much or another kind.
pub fn body_len<M: Message>(header: [u8; HEADER_LEN]) -> Result<usize, CodecError> {
    let len = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let found = u16::from_be_bytes([header[4], header[5]]);
    if !(2..=MAX_MESSAGE_LEN).contains(&len) {
        return Err(CodecError::TooLong { len });
    }
    if found != M::KIND {
        return Err(CodecError::UnexpectedKind {
            found,
            expected: M::KIND,
        });
    }
    Ok(len - 2)
}

/// The message in `body`, which must be used up.
///
/// # Errors
/// When the body is malformed or longer than the message.
pub fn decode_body<M: Message>(body: &[u8]) -> Result<M, CodecError> {
    let malformed = |reason: String| CodecError::Malformed {
        kind: M::KIND,
        reason,
    };
    let (message, used) =
        bincode::serde::decode_from_slice(body, config()).map_err(|error| malformed(error.to_string()))?;
    if used == body.len() {
        Ok(message)
    } else {
        Err(malformed(format!("{} bytes left over", body.len() - used)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProtocolVersion;

    fn decode<M: Message>(frame: &[u8]) -> Result<M, CodecError> {
        let header: [u8; HEADER_LEN] = frame[..HEADER_LEN].try_into().unwrap();
        assert_eq!(body_len::<M>(header)?, frame.len() - HEADER_LEN);
        decode_body(&frame[HEADER_LEN..])
    }

    #[test]
    fn a_message_comes_back_as_it_went() {
        let hello = Hello {
            oldest: ProtocolVersion(1),
            newest: ProtocolVersion(2),
            program: "0.1.0".into(),
            clock_ms: 7,
        };
        assert_eq!(decode::<Hello>(&encode(&hello).unwrap()).unwrap(), hello);
    }

    #[test]
    fn left_over_bytes_another_kind_and_huge_lengths_are_refused() {
        let mut frame = encode(&Request::Inventory).unwrap();
        assert!(matches!(
            decode::<Reply>(&frame),
            Err(CodecError::UnexpectedKind { .. })
        ));
        frame.push(0);
        frame[3] += 1;
        assert!(matches!(
            decode::<Request>(&frame),
            Err(CodecError::Malformed { .. })
        ));
        let mut header = [0xff; HEADER_LEN];
        assert!(matches!(
            body_len::<Request>(header),
            Err(CodecError::TooLong { .. })
        ));
        header = [0; HEADER_LEN];
        assert!(matches!(
            body_len::<Request>(header),
            Err(CodecError::TooLong { .. })
        ));
    }
}
