//! This module owns the [`IdentityKeeper`]: who this agent is, on disk and for new connections.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use gantry_transport::{IdentityError, Listener, Trust};

use crate::image_keys::{ImageKeys, ImageKeysError};

/// The agent's identity while it serves sessions.
#[derive(Debug)]
pub struct IdentityKeeper {
    folder: PathBuf,
    listener: Arc<Listener>,
    /// Held while a list is taken: two at once must not end with the older one.
    taking: Mutex<()>,
}

impl IdentityKeeper {
    /// Keeps the identity that `listener` uses and that lies in `folder`.
    #[must_use]
    pub fn new(folder: &Path, listener: Arc<Listener>) -> Self {
        Self {
            folder: folder.to_owned(),
            listener,
            taking: Mutex::new(()),
        }
    }

    /// A request (DER) for a new certificate for this agent's key.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn signing_request(&self) -> Result<Vec<u8>, IdentityError> {
        self.listener.identity().signing_request()
    }

    /// Takes a new certificate (DER): durable first, then shown to whoever connects.
    ///
    /// # Errors
    /// When it is not for this agent, our CA did not sign it, or it cannot be written.
    pub fn take_certificate(&self, certificate: &[u8]) -> Result<(), IdentityError> {
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = self.listener.identity().with_certificate(certificate)?;
        newer.save(&self.folder)?;
        self.listener.replace_identity(newer);
        Ok(())
    }

    /// Takes other CAs and their revocation lists (PEM) to trust: durable first, then heeded; connections of those who are
    /// trusted no longer are closed. Gives the CAs' names.
    ///
    /// # Errors
    /// When this agent's own certificate is of none of them, no CA that it trusts vouches for a new one, a list is older than the
    /// present one, or they cannot be written.
    pub fn trust(&self, authorities: &[u8]) -> Result<String, IdentityError> {
        let trust = Trust::read(authorities)?;
        let names = trust.names().collect::<Vec<_>>().join(" and ");
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = self.listener.identity().with_trust(trust)?;
        newer.save(&self.folder)?;
        self.listener.replace_identity(newer);
        Ok(names)
    }

    /// Drops those of `keys` whose bringers this agent does not trust any more, or whose certificates have ended; gives how many.
    ///
    /// # Errors
    /// When their file cannot be read or written.
    pub fn keep_image_keys(&self, keys: &ImageKeys) -> Result<usize, ImageKeysError> {
        keys.keep_trusted(self.listener.identity().trust(), SystemTime::now())
    }

    /// Takes a revocation list (DER): durable first, then heeded; connections of those it names are closed.
    ///
    /// # Errors
    /// When our CA did not sign it, it is older than the present one, or it cannot be written.
    pub fn revoke(&self, crl: &[u8]) -> Result<(), IdentityError> {
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = self.listener.identity().with_crl(crl)?;
        newer.save(&self.folder)?;
        self.listener.replace_identity(newer);
        Ok(())
    }
}
