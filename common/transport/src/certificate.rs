//! This module owns what a certificate of ours says: role, name, serial number, lifetime.
//!
//! Role and name are one URI in the subject alternative names: `gantry://agent/10.0.0.2`.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::digest::{SHA256, digest};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::X509Name;

/// Longest name in a certificate, as DNS has it.
const MAX_NAME_LEN: usize = 253;

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

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Operator, Self::Reader, Self::Agent];

    /// The word in certificates, flags and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Reader => "reader",
            Self::Agent => "agent",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one certificate says. Nothing here is proven by itself: see `verify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateFacts {
    pub(crate) role: Role,
    pub(crate) name: String,
    /// Lower-case hex.
    pub(crate) serial: String,
    /// Name of the CA that says it signed it.
    pub(crate) ca: String,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// SHA-256 of the subject public key info, lower-case hex.
    pub(crate) fingerprint: String,
}

impl CertificateFacts {
    /// Reads a DER certificate; `Err` says in a few words why it is not one of ours.
    pub(crate) fn read(der: &[u8]) -> Result<Self, String> {
        let certificate = parse(der)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| error.to_string())?;
        let mut ours = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => role_and_name(uri),
                _ => None,
            });
        let (role, name) = ours.next().ok_or("it has no gantry:// name")?;
        if ours.next().is_some() {
            return Err("it has more than one gantry:// name".into());
        }
        let time = |at: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or(0));
        Ok(Self {
            role,
            name,
            serial: hex(strip_sign(certificate.raw_serial())),
            ca: common_name(certificate.issuer()),
            not_before: time(certificate.validity.not_before.timestamp()),
            not_after: time(certificate.validity.not_after.timestamp()),
            fingerprint: hex(digest(&SHA256, certificate.subject_pki.raw).as_ref()),
        })
    }
}

/// Parses a DER certificate that must be used up.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("bytes follow the certificate".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// The name of the CA whose certificate this is; `Err` says why it is none.
pub(crate) fn ca_name(der: &[u8]) -> Result<String, String> {
    let certificate = parse(der)?;
    let name = common_name(certificate.subject());
    if certificate.is_ca() {
        Ok(name)
    } else {
        Err(format!("{name} is no CA"))
    }
}

/// The name of the CA that a certificate says signed it.
pub(crate) fn issuer_name(der: &[u8]) -> Result<String, String> {
    Ok(common_name(parse(der)?.issuer()))
}

/// The common name, or everything where there is none. CAs of ours have one, and nothing else.
pub(crate) fn common_name(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().next();
    let common = common.and_then(|common| common.as_str().ok());
    common.map_or_else(|| name.to_string(), str::to_owned)
}

/// When a certificate ends.
pub(crate) fn ends(der: &[u8]) -> Result<SystemTime, String> {
    let at = parse(der)?.validity.not_after.timestamp();
    Ok(UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or(0)))
}

/// Whether the key of the certificate `ca` signed the certificate `der`; `Err` says why not.
pub(crate) fn is_signed_by(der: &[u8], ca: &[u8]) -> Result<(), String> {
    let ca = parse(ca)?;
    let signed = parse(der)?.verify_signature(Some(ca.public_key()));
    signed.map_err(|_| "our CA did not sign it".to_owned())
}

/// SHA-256 of a certificate's subject public key info, lower-case hex.
pub(crate) fn fingerprint(der: &[u8]) -> Result<String, String> {
    Ok(hex(digest(&SHA256, parse(der)?.subject_pki.raw).as_ref()))
}

/// The URI that carries role and name.
pub(crate) fn uri(role: Role, name: &str) -> String {
    format!("gantry://{role}/{name}")
}

fn role_and_name(uri: &str) -> Option<(Role, String)> {
    let (role, name) = uri.strip_prefix("gantry://")?.split_once('/')?;
    let role = Role::ALL.into_iter().find(|known| known.as_str() == role)?;
    is_name(name).then(|| (role, name.to_owned()))
}

/// Whether `name` can stand in a certificate: letters, digits and `. - _ : @`, so that it needs no escaping in
/// URIs, logs and file names.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_:@".contains(&b))
        && !name.starts_with(['.', '-'])
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Bytes of a hex text.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

/// DER puts a zero byte before numbers whose first bit is set; people and lists leave it out.
fn strip_sign(serial: &[u8]) -> &[u8] {
    match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        _ => serial,
    }
}

/// A time as people read it: RFC 3339, UTC, whole seconds.
pub(crate) fn show(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| "an unknown time".to_owned(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_uris_name_somebody() {
        assert_eq!(
            role_and_name("gantry://agent/10.0.0.2"),
            Some((Role::Agent, "10.0.0.2".into()))
        );
        assert_eq!(
            role_and_name("gantry://operator/alice@desk"),
            Some((Role::Operator, "alice@desk".into()))
        );
        for uri in [
            "gantry://root/x",
            "http://agent/x",
            "gantry://agent/",
            "gantry://agent/a/b",
            "gantry://agent",
        ] {
            assert_eq!(role_and_name(uri), None, "{uri}");
        }
    }

    #[test]
    fn hex_comes_back() {
        assert_eq!(unhex(&hex(&[0, 255, 16])), Some(vec![0, 255, 16]));
        assert_eq!(unhex("0g"), None);
        assert_eq!(unhex("012"), None);
        assert_eq!(strip_sign(&[0, 0x90]), [0x90]);
        assert_eq!(strip_sign(&[0]), [0]);
    }
}
