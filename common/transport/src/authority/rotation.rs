//! This module owns the replacing of a CA by another, by overlap: first both are trusted and the new one signs, then
//! the old one is dropped.
//!
//! ```text
//! Settled ──begin──▶ Overlap ──drop──▶ Dropping ──finish──▶ Settled
//!   one CA            both are trusted   hosts are told        one CA
//! ```
//!
//! Where a rotation stands is one file that is written at once, after everything it speaks of. So whoever is killed
//! between two steps finds the one or the other. No step here asks a host: when the next one may come is for the
//! caller to know.

use std::fs;
use std::io;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyUsagePurpose, SerialNumber};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use super::files::{certificate_file, cross_file, key_file, list_file, remove};
use super::{
    Authority, AuthorityError, CA_LIFETIME, Ca, failed, failed_on, lifetime, lock, random_serial, write,
};
use crate::certificate::ca_name;
use crate::identity::{IdentityError, PUBLIC_MODE, pem, read_certificate, read_key};
use crate::trust::Trust;

const NOTE: &str = "rotation.json";

/// Where the replacing of a CA stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// There is one CA.
    Settled,
    /// Hosts are told to trust both CAs, and get certificates of the new one. Either's certificates hold.
    Overlap,
    /// Every host has a certificate of the new CA, and is told to trust no other. This orchestrator still knows the
    /// old one, until they all have heard.
    Dropping,
}

/// What the file says. CAs have numbers: the first is 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) signing: u32,
    pub(super) replaced: Option<Replacing>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replacing {
    pub(super) number: u32,
    pub(super) dropped: bool,
}

/// The CA that is being replaced.
pub(super) struct Replaced {
    pub(super) number: u32,
    pub(super) certificate: CertificateDer<'static>,
    /// In it, it vouches for the new one.
    cross: CertificateDer<'static>,
    /// Gone once it is dropped.
    pub(super) key: Option<PrivatePkcs8KeyDer<'static>>,
}

impl Note {
    pub(super) fn read(dir: &Path) -> Result<Self, AuthorityError> {
        let path = dir.join(NOTE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed_on("read", &path, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self {
                signing: 1,
                replaced: None,
            }),
            Err(error) => Err(failed_on("read", &path, error)),
        }
    }

    fn write(&self, dir: &Path) -> Result<(), AuthorityError> {
        let text = serde_json::to_vec(self).map_err(|error| failed("note where a rotation stands", error))?;
        write(&dir.join(NOTE), &text, PUBLIC_MODE)
    }
}

impl Replaced {
    pub(super) fn read(dir: &Path, signing: u32, replacing: &Replacing) -> Result<Self, IdentityError> {
        let key = (!replacing.dropped).then(|| read_key(&dir.join(key_file(replacing.number))));
        Ok(Self {
            number: replacing.number,
            certificate: read_certificate(&dir.join(certificate_file(replacing.number)))?,
            cross: read_certificate(&dir.join(cross_file(signing)))?,
            key: key.transpose()?,
        })
    }
}

impl Authority {
    /// Where the replacing of the CA stands.
    #[must_use]
    pub fn rotation(&self) -> Rotation {
        match &self.note.replaced {
            None => Rotation::Settled,
            Some(Replacing { dropped: false, .. }) => Rotation::Overlap,
            Some(Replacing { dropped: true, .. }) => Rotation::Dropping,
        }
    }

    /// Name of the CA that is being replaced, if one is.
    #[must_use]
    pub fn replaced(&self) -> Option<String> {
        let replaced = self.replaced.as_ref()?;
        ca_name(&replaced.certificate).ok()
    }

    /// The name of the first CA of all, while it is known.
    pub(super) fn name_of_first(&self) -> Option<String> {
        match &self.replaced {
            _ if self.note.signing == 1 => self.name().ok(),
            Some(replaced) if replaced.number == 1 => self.replaced(),
            _ => None,
        }
    }

    /// The CAs that everybody else is to trust now.
    ///
    /// # Errors
    /// When a revocation list cannot be read or made.
    pub fn trust(&self) -> Result<Trust, AuthorityError> {
        self.trust_in(
            self.replaced
                .as_ref()
                .filter(|_| self.rotation() == Rotation::Overlap),
        )
    }

    /// The CAs that this orchestrator itself trusts: a host that has not heard yet is still believed.
    ///
    /// # Errors
    /// When a revocation list cannot be read or made.
    pub fn own_trust(&self) -> Result<Trust, AuthorityError> {
        self.trust_in(self.replaced.as_ref())
    }

    /// Trust in the CA that signs, alone.
    ///
    /// # Errors
    /// When its revocation list cannot be read or made.
    pub fn trust_in_new(&self) -> Result<Trust, AuthorityError> {
        self.trust_in(None)
    }

    fn trust_in(&self, replaced: Option<&Replaced>) -> Result<Trust, AuthorityError> {
        let (mut certificates, mut lists) = (vec![self.ca.certificate.clone()], vec![self.crl()?]);
        if let Some(old) = replaced {
            certificates.extend([old.certificate.clone(), old.cross.clone()]);
            lists.extend(self.list_of(old.number)?);
        }
        Trust::new(certificates, &lists).map_err(|error| AuthorityError(error.to_string()))
    }

    /// Makes another CA, which signs from now on, and which the present one vouches for. Nothing is changed when a
    /// rotation is under way.
    ///
    /// # Errors
    /// When files cannot be written: the present CA is still the only one.
    pub fn begin_rotation(&self) -> Result<Self, AuthorityError> {
        let held = lock(&self.dir)?;
        self.still_so()?;
        if self.rotation() == Rotation::Settled {
            let (old, new) = (self.note.signing, self.note.signing + 1);
            let ca = Ca::generate()?;
            let cross = self.ca.vouch_for(&ca)?;
            // Of a rotation that was killed before it began, perhaps.
            remove(&self.dir.join(list_file(new)))?;
            ca.write(&self.dir, new)?;
            write(
                &self.dir.join(cross_file(new)),
                pem("CERTIFICATE", &cross).as_bytes(),
                PUBLIC_MODE,
            )?;
            let replaced = Some(Replacing {
                number: old,
                dropped: false,
            });
            Note {
                signing: new,
                replaced,
            }
            .write(&self.dir)?;
        }
        drop(held);
        let begun = Self::open(&self.dir)?;
        begun.crl()?;
        Ok(begun)
    }

    /// Drops the CA that is being replaced: its key is destroyed, and nobody else is to trust it. For when every host has
    /// a certificate of the new one.
    ///
    /// # Errors
    /// When no rotation is under way or files cannot be written.
    pub fn drop_replaced(&self) -> Result<Self, AuthorityError> {
        let held = lock(&self.dir)?;
        self.still_so()?;
        let Some(replaced) = &self.note.replaced else {
            return Err(AuthorityError("no CA is being replaced".into()));
        };
        let number = replaced.number;
        Note {
            signing: self.note.signing,
            replaced: Some(Replacing {
                number,
                dropped: true,
            }),
        }
        .write(&self.dir)?;
        remove(&self.dir.join(key_file(number)))?;
        drop(held);
        Self::open(&self.dir)
    }

    /// Forgets the CA that was dropped. For when every host has heard of it.
    ///
    /// # Errors
    /// When none was dropped or files cannot be written.
    pub fn finish_rotation(&self) -> Result<Self, AuthorityError> {
        let held = lock(&self.dir)?;
        self.still_so()?;
        let Some(Replacing {
            number,
            dropped: true,
        }) = self.note.replaced
        else {
            return Err(AuthorityError("no CA was dropped".into()));
        };
        // A power cut may have brought it back; afterwards nobody knows of it.
        remove(&self.dir.join(key_file(number)))?;
        let signing = self.note.signing;
        Note {
            signing,
            replaced: None,
        }
        .write(&self.dir)?;
        for file in [
            key_file(number),
            certificate_file(number),
            list_file(number),
            cross_file(signing),
        ] {
            remove(&self.dir.join(file))?;
        }
        drop(held);
        Self::open(&self.dir)
    }

    /// Whether this still is how the authority stands; the lock has to be held. Another command may have replaced it
    /// since it was opened, and what the CA of before signs now might never be taken back.
    pub(super) fn still_so(&self) -> Result<(), AuthorityError> {
        if Note::read(&self.dir)? == self.note {
            return Ok(());
        }
        Err(AuthorityError(
            "the CA was replaced while this command ran: run the same command again".into(),
        ))
    }
}

impl Ca {
    /// Another CA's certificate, with its name and key, signed by this one.
    fn vouch_for(&self, other: &Self) -> Result<CertificateDer<'static>, AuthorityError> {
        let key = other.key_pair()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = super::common_name(&other.name()?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        lifetime(&mut params, CA_LIFETIME);
        params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
        let cross = params
            .signed_by(&key, &self.issuer()?)
            .map_err(|error| failed("sign the cross-certificate", error))?;
        Ok(cross.der().clone())
    }
}
