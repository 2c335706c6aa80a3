//! This module owns whom we trust and as whom we come: TLS settings for one registry (docker's and the containers tools'
//! `certs.d`, containers-certs.d(5)).

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::RegistryError;
use crate::limits::MAX_FILE_LEN;

/// The settings for a registry whose certificates lie in the first of `folders` that exists. `insecure` accepts any
/// certificate.
pub(crate) fn client_config(folders: &[PathBuf], insecure: bool) -> Result<ClientConfig, RegistryError> {
    let provider = Arc::new(ring::default_provider());
    let found = match folders.iter().find(|folder| folder.is_dir()) {
        Some(folder) => Found::read(folder)?,
        None => Found::default(),
    };
    let mut roots = RootCertStore::empty();
    // What is broken in the machine's own list is left out, as every program does.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for (path, certificate) in found.authorities {
        let added = roots.add(certificate);
        added.map_err(|error| {
            wrong(
                &path,
                format!("it holds a certificate that is not valid: {error}"),
            )
        })?;
    }
    let verifier: Arc<dyn ServerCertVerifier> = if insecure || roots.is_empty() {
        Arc::new(Unverified {
            provider: provider.clone(),
            insecure,
        })
    } else {
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        built.map_err(|error| RegistryError::Credentials(format!("cannot verify certificates: {error}")))?
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RegistryError::Credentials(format!("cannot speak TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match found.identity {
        None => Ok(config.with_no_client_auth()),
        Some((path, chain, key)) => {
            let config = config.with_client_auth_cert(chain, key);
            config.map_err(|error| wrong(&path, format!("its key cannot be used: {error}")))
        }
    }
}

/// What a folder of certificates holds: `*.crt` are authorities, `NAME.cert` with `NAME.key` is who we are.
#[derive(Default)]
struct Found {
    authorities: Vec<(PathBuf, CertificateDer<'static>)>,
    identity: Option<(PathBuf, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Found {
    fn read(folder: &Path) -> Result<Self, RegistryError> {
        let mut found = Self::default();
        let entries = fs::read_dir(folder).map_err(|error| wrong(folder, error.to_string()))?;
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => {
                    let certificates = certificates(&path)?;
                    found
                        .authorities
                        .extend(certificates.into_iter().map(|one| (path.clone(), one)));
                }
                Some("cert") if found.identity.is_none() => {
                    let key_path = path.with_extension("key");
                    let key = PrivateKeyDer::from_pem_slice(&read(&key_path)?)
                        .map_err(|_| wrong(&key_path, "there is no private key in it".to_owned()))?;
                    found.identity = Some((path.clone(), certificates(&path)?, key));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(wrong(
            path,
            "it is not a file of certificates in PEM form".to_owned(),
        )),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE_LEN).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| wrong(path, error.to_string()))
}

fn wrong(path: &Path, reason: String) -> RegistryError {
    RegistryError::Config {
        path: path.to_owned(),
        place: String::new(),
        reason,
    }
}

/// Looks at no certificate: for registries that were called insecure. Where nobody is trusted at all it says so.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
    insecure: bool,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.insecure {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::UnknownIssuer,
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
