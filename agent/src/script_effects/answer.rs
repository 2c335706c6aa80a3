//! One question over HTTP/1.1, on a connection that is not kept.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use crate::https::SHORT_ANSWER_LEN;

/// Longest part of an answer that is shown.
const MAX_SHOWN: usize = 200;

/// What the server at the other end of `stream`, which knows itself as `host`, answers to `GET path`: a status and a text.
///
/// # Errors
/// When it does not answer, or says more than it should.
pub(super) async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
) -> io::Result<(u16, Bytes)> {
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // How it ends is seen by the request.
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, "gantry-agent")
        .header(ACCEPT, "*/*")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = requests.send_request(request).await.map_err(io::Error::other)?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), SHORT_ANSWER_LEN);
    Ok((status, body.collect().await.map_err(io::Error::other)?.to_bytes()))
}

/// An answer that is none: the server is there, and says something else than what was hoped for.
pub(super) fn other(status: u16, body: &[u8]) -> io::Error {
    let body = String::from_utf8_lossy(body);
    let line = body.lines().next().unwrap_or_default().trim();
    let line: String = line.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
    io::Error::other(if line.is_empty() {
        format!("it answers with status {status}")
    } else {
        format!("it answers with status {status}: {line}")
    })
}
