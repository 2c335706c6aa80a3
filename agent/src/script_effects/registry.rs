//! Whether a registry serves where its name leads to on this host, by the base of its API.
//!
//! Over TLS, or without where the server speaks none: both are an image's to choose. Whom runtimes trust is their matter.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::answer;
use crate::any_certificate;
use crate::hosts_file::HostsFile;

/// What is asked (OCI distribution specification, "Determining Support").
const BASE: &str = "/v2/";

/// Where `domain` leads to on this host.
///
/// # Errors
/// When it leads nowhere.
pub(super) fn address(hosts_file: &HostsFile, domain: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(ip) = domain.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found = hosts_file.address(domain).map_err(|error| error.to_string())?;
    let ip = found.ok_or_else(|| format!("the registry's name {domain} is not in the hosts file"))?;
    Ok(SocketAddr::new(ip, port))
}

/// Asks the registry at `address` whether it serves.
///
/// # Errors
/// When it does not answer, or what answers is no registry.
pub(super) async fn ask(address: SocketAddr) -> io::Result<()> {
    let connector = TlsConnector::from(Arc::new(any_certificate::client(&[&TLS12, &TLS13])));
    let name = ServerName::from(address.ip());
    let stream = TcpStream::connect(address).await?;
    let host = address.to_string();
    let (status, body) = match connector.connect(name, stream).await {
        Ok(stream) => answer::get(stream, &host, BASE).await?,
        // It is there, and speaks TLS to those it knows.
        Err(error) if any_certificate::is_alert(&error) => return Ok(()),
        Err(_) => answer::get(TcpStream::connect(address).await?, &host, BASE).await?,
    };
    match status {
        // One that asks who is there serves, too.
        200 | 401 => Ok(()),
        _ => Err(answer::other(status, &body)),
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::crypto::ring;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// What becomes of a question to a server that answers so, over TLS where it has it.
    async fn asked(tls: Option<TlsAcceptor>, answer: &'static str) -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                match &tls {
                    Some(tls) => {
                        let mut stream = tls.accept(stream).await.unwrap();
                        stream.read_exact(&mut [0; 8]).await.unwrap();
                        say(&mut stream, answer).await;
                    }
                    None => {
                        // As servers without TLS take what is no request.
                        let mut question = [0; 8];
                        stream.read_exact(&mut question).await.unwrap();
                        let answer = if &question == b"GET /v2/" {
                            answer
                        } else {
                            "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
                        };
                        say(&mut stream, answer).await;
                    }
                }
            }
        });
        let answer = ask(address).await;
        server.abort();
        answer
    }

    async fn say(stream: &mut (impl AsyncWrite + Unpin), answer: &str) {
        // Whoever asked may have gone.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    /// A server with a certificate of nobody's.
    fn tls(versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsAcceptor {
        let issued = rcgen::generate_simple_self_signed(["sea.hub".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    const SERVES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

    #[tokio::test]
    async fn a_registry_serves_over_tls_of_any_version_or_without() {
        asked(None, SERVES).await.unwrap();
        for version in [&TLS12, &TLS13] {
            asked(Some(tls(&[version])), SERVES).await.unwrap();
        }
        let login = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
        asked(Some(tls(&[&TLS13])), login).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_registry_is_named_by_its_answer() {
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot here\n";
        let error = asked(None, answer).await.unwrap_err().to_string();
        assert_eq!(error, "it answers with status 404: not here");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = ask(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn its_name_leads_where_the_hosts_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        std::fs::write(&path, "10.0.0.7 sea.hub\n").unwrap();
        let hosts = HostsFile::new(&path);
        assert_eq!(
            address(&hosts, "sea.hub", 5000).unwrap().to_string(),
            "10.0.0.7:5000"
        );
        assert_eq!(
            address(&hosts, "10.0.0.8", 443).unwrap().to_string(),
            "10.0.0.8:443"
        );
        let error = address(&hosts, "other.hub", 5000).unwrap_err();
        assert!(error.contains("other.hub is not in the hosts file"), "{error}");
    }
}
