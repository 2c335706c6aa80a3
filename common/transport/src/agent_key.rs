//! This module owns [`AgentKey`]: a host's private key, which never leaves it.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use gantry_system::files::write_atomically;
use rcgen::KeyPair;
use ring::digest::{SHA256, digest};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::certificate::hex;
use crate::identity::{IdentityError, KEY_FILE, KEY_MODE, pem, read_key};

/// The key an agent makes on its first start, before it has a certificate. Cheap to clone.
#[derive(Clone)]
pub struct AgentKey(Arc<KeyPair>);

impl AgentKey {
    /// A new key that is nowhere on disk.
    ///
    /// # Errors
    /// When the system's random numbers fail.
    pub fn generate() -> Result<Self, IdentityError> {
        let pair =
            KeyPair::generate().map_err(|error| IdentityError(format!("cannot make a key: {error}")))?;
        Ok(Self(Arc::new(pair)))
    }

    /// Reads `key.pem` in `dir`, or makes it (mode 0600).
    ///
    /// # Errors
    /// When the file is there but is no key, or cannot be written.
    pub fn load_or_create(dir: &Path) -> Result<Self, IdentityError> {
        let path = dir.join(KEY_FILE);
        if path.exists() {
            return Self::from_der(read_key(&path)?);
        }
        let key = Self::generate()?;
        fs::create_dir_all(dir).map_err(|error| IdentityError::file("create", dir, error))?;
        write_atomically(
            &path,
            pem("PRIVATE KEY", key.0.serialized_der()).as_bytes(),
            KEY_MODE,
        )
        .map_err(|error| IdentityError::file("write", &path, error))?;
        Ok(key)
    }

    pub(crate) fn from_der(key: PrivatePkcs8KeyDer<'static>) -> Result<Self, IdentityError> {
        let pair = KeyPair::try_from(&PrivateKeyDer::Pkcs8(key))
            .map_err(|error| IdentityError(format!("the key cannot be used: {error}")))?;
        Ok(Self(Arc::new(pair)))
    }

    /// SHA-256 of the public key, lower-case hex: what people compare.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        use rcgen::PublicKeyData as _;
        hex(digest(&SHA256, &self.0.subject_public_key_info()).as_ref())
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.0
    }

    pub(crate) fn der(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialized_der().to_vec())
    }
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentKey({})", self.fingerprint())
    }
}
