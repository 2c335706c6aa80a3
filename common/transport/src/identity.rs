//! This module owns [`Identity`] (who this program is) and [`PeerIdentity`] (who the other side proved to be).

use std::path::Path;
use std::time::SystemTime;

/// What a certificate allows its holder to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// May change hosts.
    Operator,
    /// May look.
    Reader,
    /// Runs on a host.
    Agent,
}

/// Who the other side of a connection proved to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its name: an operator's, or the address a host was enrolled by.
    pub name: String,
    /// What its certificate allows.
    pub role: Role,
    /// Serial number of the certificate, lower-case hex: what a revocation names.
    pub serial: String,
}

/// Why an identity cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IdentityError(String);

/// Certificate, key, the CA's certificate and its revocation list. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity {}

impl Identity {
    /// Reads `key.pem`, `cert.pem`, `ca.pem` and, if there is one, `crl.der` in `dir`.
    pub fn load(_dir: &Path) -> Result<Self, IdentityError> {
        todo!()
    }
    /// Whether `dir` holds a certificate.
    pub fn exists(_dir: &Path) -> bool {
        todo!()
    }
    /// Writes all four files, each atomically; the key is readable by its owner only.
    pub fn save(&self, _dir: &Path) -> Result<(), IdentityError> {
        todo!()
    }
    /// The name in the certificate.
    pub fn name(&self) -> &str {
        todo!()
    }
    /// The role in the certificate.
    pub fn role(&self) -> Role {
        todo!()
    }
    /// The certificate's serial number, lower-case hex.
    pub fn serial(&self) -> &str {
        todo!()
    }
    /// When the certificate ends.
    pub fn not_after(&self) -> SystemTime {
        todo!()
    }
    /// This identity with another revocation list (DER), which the CA must have signed and which must not be
    /// older than the present one.
    pub fn with_crl(&self, _crl: &[u8]) -> Result<Self, IdentityError> {
        todo!()
    }
    /// Whether the revocation list names this serial number (lower-case hex).
    pub fn is_revoked(&self, _serial: &str) -> bool {
        todo!()
    }
}

/// The key an agent makes on its first start, before it has a certificate. Cheap to clone.
#[derive(Clone)]
pub struct AgentKey {}

impl AgentKey {
    /// Reads `key.pem` in `dir`, or makes it (mode 0600).
    pub fn load_or_create(_dir: &Path) -> Result<Self, IdentityError> {
        todo!()
    }
    /// SHA-256 of the public key, lower-case hex: what people compare.
    pub fn fingerprint(&self) -> String {
        todo!()
    }
}
