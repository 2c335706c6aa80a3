//! This module owns [`RevocationList`]: a CA's list of certificates that no longer hold.

use rustls_pki_types::CertificateDer;
use webpki::{BorrowedCertRevocationList, CertRevocationList};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certificate::{common_name, parse, unhex};
use crate::identity::IdentityError;

/// Longest list, in bytes: none that is longer is made, or taken from a peer. It names about 8,000 certificates.
pub(crate) const MAX_CRL_LEN: usize = 320 << 10;

/// A list whose signature was checked against the CA.
#[derive(Debug)]
pub(crate) struct RevocationList {
    der: Vec<u8>,
    number: u64,
    list: CertRevocationList<'static>,
}

impl RevocationList {
    /// The name of the CA that a DER list says signed it.
    pub(crate) fn issuer(der: &[u8]) -> Result<String, IdentityError> {
        let (_, parsed) = CertificateRevocationList::from_der(der)
            .map_err(|error| IdentityError(format!("the revocation list cannot be used: {error}")))?;
        Ok(common_name(parsed.issuer()))
    }

    /// Reads a DER list that `ca` must have signed.
    pub(crate) fn read(der: &[u8], ca: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let wrong = |reason: String| IdentityError(format!("the revocation list cannot be used: {reason}"));
        if der.len() > MAX_CRL_LEN {
            return Err(wrong(format!(
                "it has {} bytes; at most {MAX_CRL_LEN} are allowed",
                der.len()
            )));
        }
        let ca = parse(ca).map_err(wrong)?;
        let (_, parsed) =
            CertificateRevocationList::from_der(der).map_err(|error| wrong(error.to_string()))?;
        if parsed.issuer() != ca.subject() {
            return Err(wrong(format!(
                "it is of {}, not of {}",
                parsed.issuer(),
                ca.subject()
            )));
        }
        parsed
            .verify_signature(ca.public_key())
            .map_err(|_| wrong(format!("its signature is not by {}", ca.subject())))?;
        let number = parsed
            .crl_number()
            .and_then(|number| u64::try_from(number).ok())
            .ok_or_else(|| wrong("it has no number".into()))?;
        let list = BorrowedCertRevocationList::from_der(der)
            .and_then(|list| list.to_owned())
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            der: der.to_vec(),
            number,
            list: CertRevocationList::Owned(list),
        })
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) const fn list(&self) -> &CertRevocationList<'static> {
        &self.list
    }

    /// Whether it names this serial number (lower-case hex).
    pub(crate) fn names(&self, serial: &str) -> bool {
        unhex(serial).is_some_and(|serial| matches!(self.list.find_serial(&serial), Ok(Some(_))))
    }
}
