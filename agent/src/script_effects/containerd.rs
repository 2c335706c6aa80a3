//! Whether containerd answers, by its gRPC API: one call, of a message without fields.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use super::answer;
use crate::https::SHORT_ANSWER_LEN;

/// Where containerd listens, and kubelet looks for it.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
/// What is asked (containerd, `api/services/version/v1/version.proto`).
const VERSION: &str = "http://localhost/containerd.services.version.v1.Version/Version";
/// An empty message behind its prefix: not compressed, no bytes (gRPC over HTTP/2, "Length-Prefixed-Message").
const NO_FIELDS: &[u8] = &[0; 5];
/// What a call that went well ends with.
const OK: &[u8] = b"0";

/// Asks containerd at `socket` for its version.
///
/// # Errors
/// When it does not answer, or refuses.
pub(super) async fn ask(socket: &Path) -> io::Result<()> {
    let stream = UnixStream::connect(socket).await?;
    let (mut requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // How it ends is seen by the request.
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let request = Request::post(VERSION)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .body(Full::new(Bytes::from_static(NO_FIELDS)))
        .map_err(io::Error::other)?;
    let answer = requests.send_request(request).await.map_err(io::Error::other)?;
    let (head, body) = answer.into_parts();
    if head.status != StatusCode::OK {
        return Err(answer::other(head.status.as_u16(), b""));
    }
    let body = Limited::new(body, SHORT_ANSWER_LEN).collect().await;
    let body = body.map_err(io::Error::other)?;
    // Where there is no message, the head is the end, too.
    let end = body.trailers().unwrap_or(&head.headers);
    outcome(end)
}

fn outcome(end: &HeaderMap) -> io::Result<()> {
    let status = end.get("grpc-status").map(HeaderValue::as_bytes);
    if status == Some(OK) {
        return Ok(());
    }
    let word = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or(b"none")).into_owned();
    let message = end.get("grpc-message").map(HeaderValue::as_bytes);
    let (status, message) = (word(status), word(message));
    Err(io::Error::other(format!(
        "it answers with gRPC status {status}, message {message}"
    )))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::Response;
    use hyper::body::{Frame, Incoming};
    use hyper::server::conn::http2 as server;
    use hyper::service::service_fn;
    use tokio::net::UnixListener;

    use super::*;

    /// What becomes of a question to a server of gRPC that ends the call so.
    async fn asked(status: &'static str) -> io::Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("containerd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let serve = service_fn(move |request: Request<Incoming>| async move {
            assert_eq!(
                request.uri().path(),
                "/containerd.services.version.v1.Version/Version"
            );
            let message = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(&message[..], NO_FIELDS);
            let mut end = HeaderMap::new();
            end.insert("grpc-status", status.parse().unwrap());
            // Field 1: "1.7".
            let answer = Bytes::from_static(b"\0\0\0\0\x05\x0a\x031.7");
            let frames = [Ok::<_, Infallible>(Frame::data(answer)), Ok(Frame::trailers(end))];
            Ok::<_, Infallible>(Response::new(StreamBody::new(stream::iter(frames))))
        });
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let server = server::Builder::new(TokioExecutor::new());
            drop(server.serve_connection(TokioIo::new(stream), serve).await);
        });
        let answer = ask(&socket).await;
        server.abort();
        answer
    }

    #[tokio::test]
    async fn containerd_tells_its_version_or_why_it_does_not() {
        asked("0").await.unwrap();
        let error = asked("12").await.unwrap_err().to_string();
        assert_eq!(error, "it answers with gRPC status 12, message none");
    }

    #[tokio::test]
    async fn what_speaks_no_grpc_is_no_containerd() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("containerd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let close = async { drop(listener.accept().await.unwrap()) };
        let (answer, ()) = tokio::join!(ask(&socket), close);
        answer.unwrap_err();
    }
}
