//! The registry's certificate: made on its host, trusted by that host's runtimes alone.
//!
//! The CA's key is thrown away once it has signed: nobody can ever make another certificate that these runtimes trust.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gantry_system::files;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_rustls::TlsAcceptor;

use super::settings::Settings;

/// How long CA and certificate hold. The key never leaves its host and vouches for nothing but the host's own loopback.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// A step finds a certificate too old this long before it ends.
const RENEW_BEFORE: Duration = Duration::from_secs(365 * 24 * 3600);
/// It begins this much in the past: a host's clock may be set back.
const BACKDATE: Duration = Duration::from_secs(24 * 3600);

/// What a certificate is for and until when: the file beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Issued {
    domain: String,
    /// Seconds since the epoch.
    ends_at: i64,
    /// The CA that signed it, PEM: what runtimes trust.
    pub(super) ca: String,
}

impl Issued {
    /// What the file at `path` says, if it still serves for `domain`.
    pub(super) fn read(path: &Path, domain: &str) -> Option<Self> {
        let issued: Self = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let soon = (OffsetDateTime::now_utc() + RENEW_BEFORE).unix_timestamp();
        (issued.domain == domain && issued.ends_at > soon).then_some(issued)
    }
}

/// Makes a certificate for the registry that `settings` describe. `path` is where to note it, last of all.
///
/// # Errors
/// When it cannot be made or written.
pub(super) fn issue(settings: &Settings, path: &Path) -> io::Result<Issued> {
    let now = OffsetDateTime::now_utc();
    let ends_at = now + LIFETIME;
    let params = |names: Vec<String>, name: &str| {
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = now - BACKDATE;
        params.not_after = ends_at;
        Ok::<_, io::Error>(params)
    };
    let ca_key = KeyPair::generate().map_err(io::Error::other)?;
    let mut ca = params(Vec::new(), "Gantry registry CA of this host")?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_certificate = ca.self_signed(&ca_key).map_err(io::Error::other)?;

    let key = KeyPair::generate().map_err(io::Error::other)?;
    let names = vec![settings.domain.clone(), "localhost".into(), "127.0.0.1".into()];
    let mut server = params(names, &settings.domain)?;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = server
        .signed_by(&key, &Issuer::new(ca, ca_key))
        .map_err(io::Error::other)?;

    files::write_atomically(&settings.key, key.serialize_pem().as_bytes(), 0o600)?;
    files::write_atomically(&settings.certificate, certificate.pem().as_bytes(), 0o644)?;
    let issued = Issued {
        domain: settings.domain.clone(),
        ends_at: ends_at.unix_timestamp(),
        ca: ca_certificate.pem(),
    };
    let text = serde_json::to_string_pretty(&issued).expect("it is plain data") + "\n";
    files::write_atomically(path, text.as_bytes(), 0o644)?;
    Ok(issued)
}

/// What answers TLS with the certificate of `settings`.
///
/// # Errors
/// When certificate or key cannot be read, or do not belong together.
pub(super) fn acceptor(settings: &Settings) -> io::Result<TlsAcceptor> {
    let certificates = CertificateDer::pem_file_iter(&settings.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(io::Error::other)?;
    // TLS 1.2 too: docker before 19.03 knows nothing newer.
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_serves_for_its_name_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            domain: "sea.hub".into(),
            port: 5000,
            rootfs: "/nowhere".into(),
            certificate: folder.path().join("server.crt"),
            key: folder.path().join("server.key"),
        };
        let note = folder.path().join("issued.json");
        let issued = issue(&settings, &note).unwrap();
        assert!(issued.ca.contains("BEGIN CERTIFICATE"));
        assert_eq!(Issued::read(&note, "sea.hub"), Some(issued));
        assert_eq!(Issued::read(&note, "other.hub"), None);
        acceptor(&settings).unwrap();
        let mode = std::fs::metadata(&settings.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(text.matches("PRIVATE KEY").count() <= 2, "one key is kept");
        }
    }

    #[test]
    fn a_certificate_that_ends_soon_is_as_good_as_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let ends_at = (OffsetDateTime::now_utc() + RENEW_BEFORE).unix_timestamp();
        let text = format!(r#"{{"domain":"sea.hub","ends_at":{ends_at},"ca":""}}"#);
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(Issued::read(file.path(), "sea.hub"), None);
    }
}
