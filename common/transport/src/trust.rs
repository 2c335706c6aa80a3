//! This module owns [`Trust`]: the CAs that an identity believes, and what they took back. PEM, on disk and on the way.
//!
//! One CA, most of the time. While a CA is being replaced there are two, and a cross-certificate (RFC 4210 §4.4) in
//! which the old one vouches for the new one: whoever shows a certificate of the new CA shows that, too, and is believed by
//! those who know the old one alone.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use crate::certificate::{ca_name, is_signed_by, issuer_name, parse};
use crate::identity::{IdentityError, pem};
use crate::revocation::{MAX_CRL_LEN, RevocationList};

/// Longest text taken from a peer, in bytes: a message holds it, with two lists and their CAs.
pub const MAX_TRUST_LEN: usize = (1 << 20) - (64 << 10);
/// What is left of it for CAs.
const AUTHORITIES_LEN: usize = 64 << 10;
/// While a CA is replaced there are two lists, each a third longer as PEM, with a line end every 64 signs (RFC 7468).
const _: () = assert!(2 * MAX_CRL_LEN.div_ceil(48) * 65 + AUTHORITIES_LEN <= MAX_TRUST_LEN);
/// Most certificates in it: two CAs and a cross-certificate are three.
const MAX_CERTIFICATES: usize = 8;
const CERTIFICATE: &str = "CERTIFICATE";
const LIST: &str = "X509 CRL";

/// CAs that are believed, each with its revocation list, and cross-certificates. Cheap to clone.
#[derive(Clone)]
pub struct Trust {
    authorities: Vec<Anchor>,
    cross: Vec<CertificateDer<'static>>,
}

#[derive(Clone)]
struct Anchor {
    name: String,
    certificate: CertificateDer<'static>,
    list: Option<Arc<RevocationList>>,
}

impl Trust {
    /// Trust in these CAs (DER), one at least, with these lists and cross-certificates.
    ///
    /// # Errors
    /// When one is no CA, signed a list or cross-certificate that is no such thing, or did not sign it.
    pub(crate) fn new(
        certificates: Vec<CertificateDer<'static>>,
        lists: &[Vec<u8>],
    ) -> Result<Self, IdentityError> {
        let wrong =
            |reason: String| IdentityError(format!("the list of trusted CAs cannot be used: {reason}"));
        if certificates.len() > MAX_CERTIFICATES {
            return Err(wrong(format!(
                "it has {} certificates; at most {MAX_CERTIFICATES} are allowed",
                certificates.len()
            )));
        }
        let (mut authorities, mut others): (Vec<Anchor>, Vec<CertificateDer<'static>>) = (vec![], vec![]);
        for certificate in certificates {
            let name = ca_name(&certificate).map_err(wrong)?;
            if is_signed_by(&certificate, &certificate).is_err() {
                others.push(certificate);
            } else if authorities.iter().all(|known| known.name != name) {
                authorities.push(Anchor {
                    name,
                    certificate,
                    list: None,
                });
            } else {
                return Err(wrong(format!("it has {name} twice")));
            }
        }
        if authorities.is_empty() {
            return Err(wrong("it has none".into()));
        }
        let mut trust = Self {
            authorities,
            cross: vec![],
        };
        for certificate in others {
            trust.is_cross(&certificate).map_err(wrong)?;
            trust.cross.push(certificate);
        }
        for list in lists {
            trust = trust.with_list(list)?;
        }
        Ok(trust)
    }

    /// Reads what [`Trust::to_pem`] writes.
    ///
    /// # Errors
    /// When it is too long, damaged, or names no CA.
    pub fn read(text: &[u8]) -> Result<Self, IdentityError> {
        let wrong =
            |reason: String| IdentityError(format!("the list of trusted CAs cannot be used: {reason}"));
        if text.len() > MAX_TRUST_LEN {
            return Err(wrong(format!(
                "it has {} bytes; at most {MAX_TRUST_LEN} are allowed",
                text.len()
            )));
        }
        let (mut certificates, mut lists) = (vec![], vec![]);
        for block in pem::parse_many(text).map_err(|error| wrong(error.to_string()))? {
            match block.tag() {
                CERTIFICATE => certificates.push(block.into_contents().into()),
                LIST => lists.push(block.into_contents()),
                other => return Err(wrong(format!("{other:?} has no place in it"))),
            }
        }
        Self::new(certificates, &lists)
    }

    /// The same as text: the CAs, the cross-certificates, the lists.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let authorities = self.authorities.iter().map(|ca| &ca.certificate);
        let certificates = authorities.chain(&self.cross);
        let lists = self.authorities.iter().filter_map(|ca| ca.list.as_ref());
        certificates
            .map(|certificate| pem(CERTIFICATE, certificate))
            .chain(lists.map(|list| pem(LIST, list.der())))
            .collect()
    }

    /// Names of the CAs.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.authorities.iter().map(|ca| ca.name.as_str())
    }

    /// Whether a list names this serial number (lower-case hex).
    #[must_use]
    pub fn revokes(&self, serial: &str) -> bool {
        self.lists().any(|list| list.names(serial))
    }

    /// With another list (DER) of one of the CAs.
    pub(crate) fn with_list(&self, der: &[u8]) -> Result<Self, IdentityError> {
        let mut trust = self.clone();
        // Whoever did not sign it says so best where there is one CA.
        let of = RevocationList::issuer(der)?;
        let at = trust.authorities.iter().position(|ca| ca.name == of).unwrap_or(0);
        let ca = &mut trust.authorities[at];
        let list = RevocationList::read(der, &ca.certificate)?;
        if let Some(present) = &ca.list
            && list.number() < present.number()
        {
            return Err(IdentityError(format!(
                "revocation list {} is older than list {}, which is in use",
                list.number(),
                present.number()
            )));
        }
        ca.list = Some(Arc::new(list));
        Ok(trust)
    }

    /// Whether this may stand where `present` stood: a CA that is trusted vouches for each that was not, no list is older, and none
    /// is gone whose CA stays. Whoever asks for it may well not have the CA: what it says has to be the CA's own word.
    pub(crate) fn may_follow(&self, present: &Self) -> Result<(), IdentityError> {
        for ca in &self.authorities {
            let same = |known: &&Anchor| known.certificate == ca.certificate;
            let Some(before) = present.authorities.iter().find(same) else {
                if self.is_vouched_for(&ca.name, present) {
                    continue;
                }
                return Err(IdentityError(format!(
                    "no CA that is trusted here vouches for {}",
                    ca.name
                )));
            };
            let number = |ca: &Anchor| ca.list.as_ref().map_or(0, |list| list.number());
            if number(ca) < number(before) {
                return Err(IdentityError(format!(
                    "revocation list {} of {} is older than list {}, which is in use",
                    number(ca),
                    ca.name,
                    number(before)
                )));
            }
        }
        Ok(())
    }

    /// Whether one of the CAs of `present` signed a cross-certificate of this name.
    fn is_vouched_for(&self, name: &str, present: &Self) -> bool {
        let mut cross = self.cross.iter();
        cross.any(|cross| ca_name(cross).is_ok_and(|of| of == name) && present.signed(cross).is_ok())
    }

    /// Whether one of the CAs signed this certificate; `Err` says that none did.
    pub(crate) fn signed(&self, certificate: &[u8]) -> Result<(), String> {
        let issuer = issuer_name(certificate)?;
        let ca = self.authorities.iter().find(|ca| ca.name == issuer);
        let ca = ca.ok_or_else(|| format!("our CA did not sign it: {issuer} did"))?;
        is_signed_by(certificate, &ca.certificate)
    }

    /// What is shown with a certificate: itself, and cross-certificates of its CA.
    pub(crate) fn chain(&self, certificate: &CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        let issuer = issuer_name(certificate).unwrap_or_default();
        let cross = self.cross.iter();
        let cross = cross.filter(|cross| ca_name(cross).is_ok_and(|name| name == issuer));
        [certificate].into_iter().chain(cross).cloned().collect()
    }

    pub(crate) fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.authorities.iter().map(|ca| &ca.certificate)
    }

    pub(crate) fn lists(&self) -> impl Iterator<Item = &RevocationList> {
        self.authorities.iter().filter_map(|ca| ca.list.as_deref())
    }

    /// A cross-certificate has the name and key of one CA here, and another one here signed it.
    fn is_cross(&self, certificate: &CertificateDer<'_>) -> Result<(), String> {
        let (name, issuer) = (ca_name(certificate)?, issuer_name(certificate)?);
        let find = |name: &str| self.authorities.iter().find(|ca| ca.name == name);
        let stray = || format!("{name}, signed by {issuer}, is neither a CA nor a cross-certificate of one");
        let (subject, signer) = (find(&name).ok_or_else(stray)?, find(&issuer).ok_or_else(stray)?);
        let same_key = parse(certificate)?.public_key().raw == parse(&subject.certificate)?.public_key().raw;
        if !same_key {
            return Err(stray());
        }
        is_signed_by(certificate, &signer.certificate).map_err(|_| stray())
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Trust")
            .field(&self.names().collect::<Vec<_>>())
            .finish()
    }
}
