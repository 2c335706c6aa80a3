//! Somebody between orchestrator and agent, who ends TLS on both sides.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use gantry_protocol::codec::{HEADER_LEN, body_len, decode_body, encode};
use gantry_protocol::{ALPN_ENROLMENT, EnrolmentAnswer, EnrolmentAsk, Message};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, RecvStream, SendStream, ServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

type Heard = Arc<Mutex<Vec<Result<EnrolmentAsk, EnrolmentAnswer>>>>;

/// Passes every enrolment message on, and remembers it.
pub(crate) struct Middle {
    pub(crate) addr: SocketAddr,
    heard: Heard,
}

impl Middle {
    pub(crate) async fn between(agent: SocketAddr) -> Self {
        let key = rcgen::generate_simple_self_signed(["middle".to_owned()]).unwrap();
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], der)
            .unwrap();
        tls.alpn_protocols = vec![ALPN_ENROLMENT.to_vec()];
        let server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let endpoint = Endpoint::server(server, "127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = endpoint.local_addr().unwrap();
        let heard = Heard::default();
        let record = Arc::clone(&heard);
        tokio::spawn(async move {
            let outer = endpoint.accept().await.unwrap().await.unwrap();
            let (mut to_orchestrator, mut from_orchestrator) = outer.accept_bi().await.unwrap();
            let inner = dial(agent).await;
            let (mut to_agent, mut from_agent) = inner.open_bi().await.unwrap();
            loop {
                let Some(ask) = pass_on::<EnrolmentAsk>(&mut from_orchestrator, &mut to_agent).await else {
                    break;
                };
                record.lock().unwrap().push(Ok(ask));
                let Some(answer) = pass_on::<EnrolmentAnswer>(&mut from_agent, &mut to_orchestrator).await
                else {
                    break;
                };
                record.lock().unwrap().push(Err(answer));
            }
            outer.closed().await;
        });
        Self { addr, heard }
    }

    pub(crate) fn heard(&self) -> Vec<Result<EnrolmentAsk, EnrolmentAnswer>> {
        self.heard.lock().unwrap().clone()
    }
}

async fn pass_on<M: Message>(from: &mut RecvStream, to: &mut SendStream) -> Option<M> {
    let mut header = [0; HEADER_LEN];
    from.read_exact(&mut header).await.ok()?;
    let mut body = vec![0; body_len::<M>(header).ok()?];
    from.read_exact(&mut body).await.ok()?;
    let message: M = decode_body(&body).ok()?;
    to.write_all(&encode(&message).unwrap()).await.ok()?;
    Some(message)
}

async fn dial(agent: SocketAddr) -> quinn::Connection {
    let mut tls = trusting_anybody();
    tls.alpn_protocols = vec![ALPN_ENROLMENT.to_vec()];
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint
        .connect_with(config, agent, "agent")
        .unwrap()
        .await
        .unwrap()
}

/// A client that believes any certificate and shows none.
pub(crate) fn trusting_anybody() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
