//! This module owns [`Identity`] (who this program is) and [`PeerIdentity`] (who the other side proved to be).

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use gantry_system::files::write_atomically;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub use crate::agent_key::AgentKey;
pub use crate::certificate::Role;
use crate::certificate::{CertificateFacts, fingerprint};
use crate::trust::Trust;

pub(crate) const KEY_FILE: &str = "key.pem";
/// The CAs it trusts, with their revocation lists: one file, so that they change as one.
const TRUST_FILE: &str = "ca.pem";
/// Keys: their owner only.
pub(crate) const KEY_MODE: u32 = 0o600;
/// Certificates and lists: anybody may read them.
pub(crate) const PUBLIC_MODE: u32 = 0o644;

/// Who the other side of a connection proved to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its name: an operator's, or the address a host was enrolled by.
    pub name: String,
    /// What its certificate allows.
    pub role: Role,
    /// Serial number of the certificate, lower-case hex: what a revocation names.
    pub serial: String,
    /// Name of the CA that signed it.
    pub ca: String,
    /// When it ends.
    pub not_after: SystemTime,
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}

/// Why an identity cannot be read, written or used. One line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IdentityError(pub(crate) String);

impl IdentityError {
    pub(crate) fn file(doing: &str, path: &Path, error: impl fmt::Display) -> Self {
        Self(format!("cannot {doing} {}: {error}", path.display()))
    }
}

/// Certificate, key, and the CAs that others' certificates have to be of. Cheap to clone.
#[derive(Clone)]
pub struct Identity(Arc<Parts>);

struct Parts {
    key: PrivatePkcs8KeyDer<'static>,
    certificate: CertificateDer<'static>,
    facts: CertificateFacts,
    trust: Trust,
}

impl Identity {
    /// The file of the certificate in an identity's folder.
    pub const CERTIFICATE_FILE: &'static str = "cert.pem";

    /// Puts an identity together and checks that its parts belong together: the certificate is one of ours and
    /// is for this key.
    pub(crate) fn new(
        key: PrivatePkcs8KeyDer<'static>,
        certificate: CertificateDer<'static>,
        trust: Trust,
    ) -> Result<Self, IdentityError> {
        let facts = CertificateFacts::read(&certificate)
            .map_err(|reason| IdentityError(format!("the certificate is not one of Gantry's: {reason}")))?;
        let ours = AgentKey::from_der(key.clone_key())?.fingerprint();
        if ours != facts.fingerprint {
            return Err(IdentityError(format!(
                "the certificate of {} {} is for another key: expected {}, the key is {ours}",
                facts.role, facts.name, facts.fingerprint
            )));
        }
        Ok(Self(Arc::new(Parts {
            key,
            certificate,
            facts,
            trust,
        })))
    }

    /// Reads `key.pem`, `cert.pem` and `ca.pem` in `dir`.
    ///
    /// # Errors
    /// When a file cannot be read or is not what its name says, or the certificate is for another key.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let key = read_key(&dir.join(KEY_FILE))?;
        let certificate = read_certificate(&dir.join(Self::CERTIFICATE_FILE))?;
        let path = dir.join(TRUST_FILE);
        let trust = fs::read(&path).map_err(|error| IdentityError::file("read", &path, error))?;
        Trust::read(&trust)
            .and_then(|trust| Self::new(key, certificate, trust))
            .map_err(|error| IdentityError(format!("the identity in {} is damaged: {error}", dir.display())))
    }

    /// Whether `dir` holds a certificate.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        dir.join(Self::CERTIFICATE_FILE).exists()
    }

    /// Writes all files, each atomically; the key is readable by its owner only. The certificate comes last, so
    /// that [`Self::exists`] is true only when everything is there.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        fs::create_dir_all(dir).map_err(|error| IdentityError::file("create", dir, error))?;
        let write = |name: &str, bytes: &[u8], mode| {
            let path = dir.join(name);
            write_atomically(&path, bytes, mode).map_err(|error| IdentityError::file("write", &path, error))
        };
        write(
            KEY_FILE,
            pem("PRIVATE KEY", self.0.key.secret_pkcs8_der()).as_bytes(),
            KEY_MODE,
        )?;
        write(TRUST_FILE, self.0.trust.to_pem().as_bytes(), PUBLIC_MODE)?;
        write(
            Self::CERTIFICATE_FILE,
            pem("CERTIFICATE", &self.0.certificate).as_bytes(),
            PUBLIC_MODE,
        )
    }

    /// The name in the certificate.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.facts.name
    }

    /// The role in the certificate.
    #[must_use]
    pub fn role(&self) -> Role {
        self.0.facts.role
    }

    /// The certificate's serial number, lower-case hex.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.0.facts.serial
    }

    /// SHA-256 of the public key, lower-case hex: what people compare.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.0.facts.fingerprint
    }

    /// When the certificate begins to hold.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.0.facts.not_before
    }

    /// When the certificate ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.0.facts.not_after
    }

    /// Name of the CA that signed the certificate.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.0.facts.ca
    }

    /// The CAs it trusts.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.0.trust
    }

    /// This identity with another revocation list (DER).
    ///
    /// # Errors
    /// When a trusted CA did not sign it, or it is older than the present one.
    pub fn with_crl(&self, crl: &[u8]) -> Result<Self, IdentityError> {
        Ok(self.trusting(self.0.trust.with_list(crl)?))
    }

    /// This identity, trusting other CAs.
    ///
    /// # Errors
    /// When none of them signed its own certificate, which nobody would believe any more, no CA that is trusted now vouches
    /// for one that is not, or a revocation list is older than the present one.
    pub fn with_trust(&self, trust: Trust) -> Result<Self, IdentityError> {
        trust.may_follow(&self.0.trust)?;
        trust.signed(&self.0.certificate).map_err(|_| {
            IdentityError(format!(
                "the certificate of {} {} is of {}, which would be trusted no longer: it has to have a new certificate first",
                self.role(),
                self.name(),
                self.ca()
            ))
        })?;
        Ok(self.trusting(trust))
    }

    pub(crate) fn trusting(&self, trust: Trust) -> Self {
        Self(Arc::new(Parts {
            key: self.0.key.clone_key(),
            certificate: self.0.certificate.clone(),
            facts: self.0.facts.clone(),
            trust,
        }))
    }

    /// A request (DER) for a new certificate for this identity's key.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn signing_request(&self) -> Result<Vec<u8>, IdentityError> {
        let key = AgentKey::from_der(self.0.key.clone_key())?;
        let request = rcgen::CertificateParams::default().serialize_request(key.pair());
        request
            .map(|request| request.der().to_vec())
            .map_err(|error| IdentityError(format!("cannot make a signing request: {error}")))
    }

    /// This identity with another certificate (DER) for its key.
    ///
    /// # Errors
    /// When it is for another key, name or role, our CA did not sign it, or it does not hold now.
    pub fn with_certificate(&self, certificate: &[u8]) -> Result<Self, IdentityError> {
        let der = CertificateDer::from(certificate.to_vec());
        let newer = Self::new(self.0.key.clone_key(), der, self.0.trust.clone())?;
        if (newer.role(), newer.name()) != (self.role(), self.name()) {
            return Err(IdentityError(format!(
                "the new certificate is for {} {}, this is {} {}",
                newer.role(),
                newer.name(),
                self.role(),
                self.name()
            )));
        }
        let signed = self.0.trust.signed(&newer.0.certificate);
        signed.map_err(|reason| IdentityError(format!("the new certificate cannot be used: {reason}")))?;
        let now = SystemTime::now();
        if !(newer.not_before()..newer.not_after()).contains(&now) {
            return Err(IdentityError(
                "the new certificate does not hold now: is the clock right?".into(),
            ));
        }
        Ok(newer)
    }

    /// Whether a revocation list names this serial number (lower-case hex).
    #[must_use]
    pub fn is_revoked(&self, serial: &str) -> bool {
        self.0.trust.revokes(serial)
    }

    /// Why a peer that was believed by `before` is believed no longer; none when it still is.
    pub(crate) fn refuses(&self, peer: &PeerIdentity, before: &Self) -> Option<String> {
        if self.is_revoked(&peer.serial) {
            return Some(format!("the certificate of {peer} is revoked"));
        }
        let knows = |identity: &Self| identity.0.trust.names().any(|name| name == peer.ca);
        (knows(before) && !knows(self))
            .then(|| format!("the certificate of {peer} is of {}, which was replaced", peer.ca))
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.0.key.clone_key())
    }

    pub(crate) fn private_key(&self) -> PrivatePkcs8KeyDer<'static> {
        self.0.key.clone_key()
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    /// What is shown to peers.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.0.trust.chain(&self.0.certificate)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Identity({} {}, serial {})",
            self.role(),
            self.name(),
            self.serial()
        )
    }
}

pub(crate) fn read_key(path: &Path) -> Result<PrivatePkcs8KeyDer<'static>, IdentityError> {
    PrivatePkcs8KeyDer::from_pem_file(path).map_err(|error| IdentityError::file("read the key", path, error))
}

pub(crate) fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, IdentityError> {
    let der = CertificateDer::from_pem_file(path)
        .map_err(|error| IdentityError::file("read the certificate", path, error))?;
    fingerprint(&der).map_err(|reason| IdentityError::file("read the certificate", path, reason))?;
    Ok(der)
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    pem::encode_config(
        &pem::Pem::new(label, der),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}
