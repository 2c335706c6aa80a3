//! Whether docker answers, by its Engine API.

use std::io;
use std::path::Path;

use tokio::net::UnixStream;

use super::answer;

/// Where docker listens, and kubelet looks for it.
pub(super) const SOCKET: &str = "/run/docker.sock";
/// What is asked (Docker Engine API, "Ping"); every version has it.
const PING: &str = "/_ping";

/// Asks docker at `socket` whether it is there.
///
/// # Errors
/// When it does not answer, or says that it is not well.
pub(super) async fn ask(socket: &Path) -> io::Result<()> {
    let stream = UnixStream::connect(socket).await?;
    match answer::get(stream, "docker", PING).await? {
        (200, _) => Ok(()),
        (status, body) => Err(answer::other(status, &body)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// What becomes of a question to which somebody at the socket answers so.
    async fn asked(answer: &'static str) -> io::Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = [0; 16];
            stream.read_exact(&mut question).await.unwrap();
            assert_eq!(&question, b"GET /_ping HTTP/");
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        tokio::join!(ask(&socket), serve).0
    }

    #[tokio::test]
    async fn docker_says_that_it_is_there_or_what_it_lacks() {
        asked("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
            .await
            .unwrap();
        let error = asked("HTTP/1.1 500 Oh\r\nContent-Length: 12\r\n\r\nno disk\nleft").await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "it answers with status 500: no disk"
        );
        asked("SSH-2.0-OpenSSH_9.2\r\n").await.unwrap_err();
        let nobody = ask(Path::new("/nowhere/docker.sock")).await.unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::NotFound);
    }
}
