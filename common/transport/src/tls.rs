//! TLS settings of both sides: TLS 1.3 only, ring only, no tickets, no early data.
//!
//! Tickets are off because a resumed session skips the certificate check, and a revocation has to work at once.
//! Early data is off because it can be replayed.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::identity::Identity;
use crate::verify::{AgentVerifier, OperatorVerifier, Verdict};
use gantry_protocol::ALPN_SESSION;

/// The one crypto provider, AES-128-GCM first: the fastest of the three everywhere it was measured.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}

/// The name sent to the server. Agents are told apart by the name in their certificate, not by this.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::try_from("gantry-agent").expect("a plain DNS label")
}

/// The dialling side of a session.
pub(crate) fn session_client(
    identity: &Identity,
    expected: Option<String>,
    verdict: &Verdict,
) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let verifier = AgentVerifier {
        identity: identity.clone(),
        expected,
        verdict: verdict.clone(),
        algorithms: provider.signature_verification_algorithms,
    };
    client(
        provider,
        Arc::new(verifier),
        Some((identity.chain(), identity.key())),
        ALPN_SESSION,
    )
}

/// The listening side of a session.
pub(crate) fn session_server(identity: &Identity, verdict: &Verdict) -> Result<ServerConfig, rustls::Error> {
    let provider = provider();
    let verifier = OperatorVerifier {
        identity: identity.clone(),
        verdict: verdict.clone(),
        algorithms: provider.signature_verification_algorithms,
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(identity.chain(), identity.key())?;
    Ok(hardened(config, ALPN_SESSION))
}

/// A client with any verifier and, if given, a certificate.
pub(crate) fn client(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
    certificate: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    alpn: &[u8],
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match certificate {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// What every server here has in common.
pub(crate) fn hardened(mut config: ServerConfig, alpn: &[u8]) -> ServerConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config
}

/// The same settings for QUIC.
pub(crate) fn quic_client(config: ClientConfig) -> Result<QuicClientConfig, String> {
    QuicClientConfig::try_from(config).map_err(|error| error.to_string())
}

/// The same settings for QUIC.
pub(crate) fn quic_server(config: ServerConfig) -> Result<QuicServerConfig, String> {
    QuicServerConfig::try_from(config).map_err(|error| error.to_string())
}

/// Label of the TLS exporter that enrolment binds its proofs to.
pub(crate) const EXPORTER_LABEL: &[u8] = b"EXPORTER-gantry-enrolment";

/// 32 bytes both ends of a TLS connection know and nobody else does.
pub(crate) fn exporter<Data>(connection: &rustls::ConnectionCommon<Data>) -> Option<[u8; 32]> {
    connection
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""))
        .ok()
}
