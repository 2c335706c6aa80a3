//! What an [`Authority`] took back: one record of it, and a list that each of its CAs signs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use serde::{Deserialize, Serialize};

use super::files::list_file;
use super::{
    Authority, AuthorityError, BACKDATE, CA_LIFETIME, Ca, date, failed, failed_on, lock, seconds, write,
};
use crate::certificate::unhex;
use crate::identity::PUBLIC_MODE;
use crate::revocation::MAX_CRL_LEN;

/// How long a certificate that has ended stays on the lists: hosts' clocks may be behind.
const KEPT_AFTER_END: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Clone, Default, Serialize, Deserialize)]
struct Revoked {
    /// Grows with every list; agents refuse an older one.
    number: u64,
    /// Serial number and time, seconds since the epoch.
    certificates: Vec<(String, u64)>,
}

impl Authority {
    /// Adds a serial number (hex) to the revocation list and returns the new list (DER). Agents heed it once
    /// they have it.
    ///
    /// # Errors
    /// When the text is no serial number or the list cannot be written.
    pub fn revoke(&self, serial: &str) -> Result<Vec<u8>, AuthorityError> {
        let serial = serial.to_ascii_lowercase();
        if serial.is_empty() || serial.len() > 40 || unhex(&serial).is_none() {
            return Err(AuthorityError(format!(
                "{serial:?} is not a serial number: expected up to 40 hex digits"
            )));
        }
        let _lock = lock(&self.dir)?;
        self.still_so()?;
        let mut revoked = self.revoked()?;
        if revoked.certificates.iter().all(|(known, _)| *known != serial) {
            revoked.certificates.push((serial, seconds(SystemTime::now())));
        }
        self.publish(revoked)
    }

    /// Whether a certificate with this serial number (lower-case hex) was taken back.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn is_revoked(&self, serial: &str) -> Result<bool, AuthorityError> {
        let revoked = self.revoked()?;
        Ok(revoked.certificates.iter().any(|(known, _)| known == serial))
    }

    /// The current revocation list of the CA that signs (DER).
    ///
    /// # Errors
    /// When it cannot be read, or not be made the first time.
    pub fn crl(&self) -> Result<Vec<u8>, AuthorityError> {
        if let Some(list) = self.list_of(self.note.signing)? {
            return Ok(list);
        }
        let _lock = lock(&self.dir)?;
        self.still_so()?;
        self.publish(self.revoked()?)
    }

    /// The list of one of the CAs, if it was made.
    pub(super) fn list_of(&self, number: u32) -> Result<Option<Vec<u8>>, AuthorityError> {
        let path = self.dir.join(list_file(number));
        match fs::read(&path) {
            Ok(der) => Ok(Some(der)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed_on("read", &path, error)),
        }
    }

    /// Serial numbers of certificates that ended [`KEPT_AFTER_END`] before `now`. Those that nobody wrote down stay on the lists.
    fn over(&self, now: SystemTime) -> Result<BTreeSet<String>, AuthorityError> {
        let before = seconds(now).saturating_sub(KEPT_AFTER_END.as_secs());
        let records = self.issued()?.into_iter();
        let over = records.filter(|record| record.not_after < before);
        Ok(over.map(|record| record.serial).collect())
    }

    fn revoked(&self) -> Result<Revoked, AuthorityError> {
        let path = self.dir.join("revoked.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed_on("read", &path, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Revoked::default()),
            Err(error) => Err(failed_on("read", &path, error)),
        }
    }

    /// Whichever CA signed a certificate, every list names it: who has one of them heeds it. One that has ended is refused without
    /// a list, and goes from them (RFC 5280, section 3.3).
    fn publish(&self, mut revoked: Revoked) -> Result<Vec<u8>, AuthorityError> {
        revoked.number += 1;
        // The record stays whole: this machine's clock may have been wrong.
        let over = self.over(SystemTime::now())?;
        let mut listed = revoked.clone();
        listed.certificates.retain(|(serial, _)| !over.contains(serial));
        // Before anything is written: hosts would not take it.
        let list = listed.signed_by(&self.ca)?;
        if list.len() > MAX_CRL_LEN {
            return Err(AuthorityError(format!(
                "the list of revoked certificates would have {} bytes, and hosts take {MAX_CRL_LEN}; nothing was revoked; \
                 `gantry certs` says when certificates end by themselves",
                list.len()
            )));
        }
        let text = serde_json::to_vec(&revoked).map_err(|error| failed("record a revocation", error))?;
        write(&self.dir.join("revoked.json"), &text, PUBLIC_MODE)?;
        if let Some(old) = &self.replaced
            && let Some(key) = &old.key
        {
            let ca = Ca {
                certificate: old.certificate.clone(),
                key: key.clone_key(),
            };
            let list = listed.signed_by(&ca)?;
            write(&self.dir.join(list_file(old.number)), &list, PUBLIC_MODE)?;
        }
        write(&self.dir.join(list_file(self.note.signing)), &list, PUBLIC_MODE)?;
        Ok(list)
    }
}

impl Revoked {
    fn signed_by(&self, ca: &Ca) -> Result<Vec<u8>, AuthorityError> {
        let now = SystemTime::now();
        let crl = CertificateRevocationListParams {
            this_update: date(now - BACKDATE),
            // Hosts without a network cannot fetch a fresh list: an old list is better than no session.
            next_update: date(now + CA_LIFETIME),
            crl_number: SerialNumber::from(self.number),
            issuing_distribution_point: None,
            revoked_certs: self
                .certificates
                .iter()
                .map(|(serial, at)| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(&unhex(serial).unwrap_or_default()),
                    revocation_time: date(UNIX_EPOCH + Duration::from_secs(*at)),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = crl
            .signed_by(&ca.issuer()?)
            .map_err(|error| failed("sign the revocation list", error))?;
        Ok(crl.der().to_vec())
    }
}
