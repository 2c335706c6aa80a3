//! This module owns [`Answers`]: what etcd answers to a request that has several answers, one a line.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::EtcdError;
use crate::https::HttpsConnection;

/// Longest answer, in bytes. etcd hands out 32 KiB of a snapshot at a time.
const MAX_LINE_LEN: usize = 1 << 20;
/// How long a member may take for the next piece.
const PIECE_LIMIT: Duration = Duration::from_secs(30);

/// What a line says: an answer, or why there are no more.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line<T> {
    Result(T),
    Error(Failure),
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    message: String,
}

/// The answers to one request, as they come.
pub(super) struct Answers {
    address: SocketAddr,
    /// The answer ends with it.
    _connection: HttpsConnection,
    body: Incoming,
    /// What came and is no whole line yet.
    rest: BytesMut,
}

impl Answers {
    pub(super) fn new(address: SocketAddr, connection: HttpsConnection, body: Incoming) -> Self {
        Self {
            address,
            _connection: connection,
            body,
            rest: BytesMut::new(),
        }
    }

    /// The next answer; none at the end.
    ///
    /// # Errors
    /// When the member fails, falls silent or says something else.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, EtcdError> {
        let address = self.address;
        let mut searched = 0;
        loop {
            if let Some(end) = self.rest[searched..].iter().position(|&byte| byte == b'\n') {
                let line = self.rest.split_to(searched + end);
                self.rest.advance(1);
                return read(&line)
                    .map(Some)
                    .map_err(|reason| EtcdError::Refused { address, reason });
            }
            searched = self.rest.len();
            if searched > MAX_LINE_LEN {
                let reason = format!("an answer has more than {MAX_LINE_LEN} bytes");
                return Err(EtcdError::Refused { address, reason });
            }
            let silent = |source| EtcdError::Silent { address, source };
            let frame = timeout(PIECE_LIMIT, self.body.frame()).await.map_err(|_| {
                silent(io::Error::other(format!(
                    "nothing came for {} s",
                    PIECE_LIMIT.as_secs()
                )))
            })?;
            match frame {
                Some(frame) => {
                    let frame = frame.map_err(|error| silent(io::Error::other(error)))?;
                    self.rest
                        .extend_from_slice(&frame.into_data().unwrap_or_default());
                }
                None if self.rest.is_empty() => return Ok(None),
                None => return Err(silent(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

fn read<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    match serde_json::from_slice(line) {
        Ok(Line::Result(answer)) => Ok(answer),
        Ok(Line::Error(failure)) => Err(failure.message),
        Err(error) => Err(format!("its answer makes no sense: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_answer_or_the_reason_why_there_is_none() {
        let line = |text: &str| read::<serde_json::Value>(text.as_bytes());
        assert_eq!(line(r#"{"result":{"blob":"AA=="}}"#).unwrap()["blob"], "AA==");
        assert_eq!(
            line(r#"{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}"#),
            Err("etcdserver: no leader".into())
        );
        assert!(line("<html>").unwrap_err().contains("makes no sense"));
    }
}
