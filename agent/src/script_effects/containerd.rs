//! Whether containerd answers: its gRPC server greets whoever connects, as every server of HTTP/2 does.
//!
//! More than the greeting would take an implementation of HTTP/2 in the agent, which is carried to every host. containerd listens
//! only when its plugins are loaded, so the greeting says as much.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Where containerd listens, and kubelet looks for it.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
/// What a client says first, with settings that are all as they are without it (RFC 9113, sections 3.4 and 6.5).
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Head of a frame: its length, type, flags and stream (RFC 9113, section 4.1).
const HEAD_LEN: usize = 9;
/// Type of the frame that a server says first.
const SETTINGS: u8 = 4;

/// Connects to containerd at `socket`, and waits for its greeting.
///
/// # Errors
/// When nothing answers, or something that speaks no HTTP/2.
pub(super) async fn ask(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(GREETING).await?;
    let mut head = [0; HEAD_LEN];
    stream.read_exact(&mut head).await?;
    let (kind, stream_id) = (head[3], &head[5..]);
    if kind == SETTINGS && stream_id == [0; 4] {
        return Ok(());
    }
    let said = head.escape_ascii();
    Err(io::Error::other(format!("it speaks no gRPC: `{said}`")))
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// What becomes of a question to a server that says this.
    async fn answered(greeting: &'static [u8]) -> io::Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("containerd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; GREETING.len()];
            stream.read_exact(&mut asked).await.unwrap();
            assert_eq!(asked, GREETING);
            stream.write_all(greeting).await.unwrap();
        };
        tokio::join!(ask(&socket), serve).0
    }

    #[tokio::test]
    async fn a_server_of_grpc_greets() {
        // Six bytes of settings: at most 250 streams (grpc-go).
        answered(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\xfa").await.unwrap();
    }

    #[tokio::test]
    async fn what_speaks_no_grpc_is_no_containerd() {
        let error = answered(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap_err();
        assert_eq!(error.to_string(), "it speaks no gRPC: `HTTP/1.1 `");
        let error = answered(b"").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
