//! This module owns [`Authority`]: the CA under `orchestrator/pki`.

use std::path::Path;
use std::time::SystemTime;

use crate::identity::{Identity, Role};

/// Why the authority cannot do something.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AuthorityError(String);

/// The certificate authority of one installation. Files in its folder: `ca.key.pem` (0600), `ca.pem`,
/// `crl.der`, `issued.jsonl`.
#[derive(Debug)]
pub struct Authority {}

/// A certificate the authority signed.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// DER.
    pub der: Vec<u8>,
    /// Serial number, lower-case hex.
    pub serial: String,
    /// When it ends.
    pub not_after: SystemTime,
}

impl Authority {
    /// Opens the authority in `dir`, or creates it there.
    pub fn open_or_create(_dir: &Path) -> Result<Self, AuthorityError> {
        todo!()
    }
    /// Opens the authority in `dir`.
    pub fn open(_dir: &Path) -> Result<Self, AuthorityError> {
        todo!()
    }
    /// Makes a key and certificate for a person or program; `role` is operator or reader.
    pub fn issue_operator(&self, _name: &str, _role: Role) -> Result<Identity, AuthorityError> {
        todo!()
    }
    /// Signs an agent's request (DER) for the host `host`, whatever names and uses the request asks for.
    pub fn sign_agent(&self, _csr: &[u8], _host: &str) -> Result<IssuedCertificate, AuthorityError> {
        todo!()
    }
    /// Adds a serial number (hex) to the revocation list and returns the new list (DER).
    pub fn revoke(&self, _serial: &str) -> Result<Vec<u8>, AuthorityError> {
        todo!()
    }
    /// The current revocation list (DER).
    pub fn crl(&self) -> Result<Vec<u8>, AuthorityError> {
        todo!()
    }
    /// The CA's certificate (DER).
    pub fn certificate(&self) -> &[u8] {
        todo!()
    }
}
