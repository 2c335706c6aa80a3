//! The files of CAs: what each is called, reading and writing them.

use std::fs;
use std::io;
use std::path::Path;

use gantry_system::files::sync_dir;
use rcgen::KeyPair;

use super::{AuthorityError, Ca, failed_on, write};
use crate::identity::{IdentityError, KEY_MODE, PUBLIC_MODE, pem, read_certificate, read_key};

/// The first CA's files have no number.
fn numbered(number: u32, before: &str, after: &str) -> String {
    match number {
        1 => format!("{before}{after}"),
        _ => format!("{before}-{number}{after}"),
    }
}

pub(super) fn certificate_file(number: u32) -> String {
    numbered(number, "ca", ".pem")
}

pub(super) fn key_file(number: u32) -> String {
    numbered(number, "ca", ".key.pem")
}

pub(super) fn list_file(number: u32) -> String {
    numbered(number, "crl", ".der")
}

pub(super) fn cross_file(number: u32) -> String {
    numbered(number, "cross", ".pem")
}

pub(super) fn remove(path: &Path) -> Result<(), AuthorityError> {
    match fs::remove_file(path) {
        Ok(()) => {
            let dir = path.parent().unwrap_or(path);
            sync_dir(dir).map_err(|error| failed_on("sync", dir, error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed_on("remove", path, error)),
    }
}

impl Ca {
    /// Writes key and certificate; the certificate last.
    pub(super) fn write(&self, dir: &Path, number: u32) -> Result<(), AuthorityError> {
        write(
            &dir.join(key_file(number)),
            pem("PRIVATE KEY", self.key.secret_pkcs8_der()).as_bytes(),
            KEY_MODE,
        )?;
        write(
            &dir.join(certificate_file(number)),
            pem("CERTIFICATE", &self.certificate).as_bytes(),
            PUBLIC_MODE,
        )
    }

    pub(super) fn read(dir: &Path, number: u32) -> Result<Self, IdentityError> {
        Ok(Self {
            certificate: read_certificate(&dir.join(certificate_file(number)))?,
            key: read_key(&dir.join(key_file(number)))?,
        })
    }

    pub(super) fn key_pair(&self) -> Result<KeyPair, AuthorityError> {
        super::key_pair(&self.key)
    }
}
