//! This module owns [`Authority`]: the CA of one installation, under `orchestrator/pki`.
//!
//! ```text
//! ca.key.pem    its key, 0600          issued.jsonl   every certificate it signed, one per line
//! ca.pem        its certificate        revoked.json   what it took back, and the list's number
//! crl.der       the list agents get    lock           held while the two above change
//! ```

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_system::files::{FileLock, write_atomically};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use ring::rand::SecureRandom as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::certificate::{ends, hex, is_name, unhex, uri};
use crate::identity::{AgentKey, Identity, KEY_MODE, PUBLIC_MODE, Role, pem, read_certificate, read_key};

/// How long the CA's certificate holds.
pub const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long the certificates it signs hold.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Certificates begin this much in the past, so that a clock that lags a little does not refuse them.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Largest certificate signing request read from a peer.
pub const MAX_CSR_LEN: usize = 8 << 10;

/// Why the authority cannot do something. One line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AuthorityError(String);

/// The certificate authority of one installation.
pub struct Authority {
    dir: PathBuf,
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

/// A certificate the authority signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// DER.
    pub der: Vec<u8>,
    /// Serial number, lower-case hex.
    pub serial: String,
    /// When it ends.
    pub not_after: SystemTime,
}

/// One line of the list of what was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedRecord {
    /// Serial number, lower-case hex.
    pub serial: String,
    /// `operator`, `reader` or `agent`.
    pub role: String,
    /// The name in it.
    pub name: String,
    /// Seconds since the epoch.
    pub issued_at: u64,
    /// Seconds since the epoch.
    pub not_after: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct Revoked {
    /// Grows with every list; agents refuse an older one.
    number: u64,
    /// Serial number and time, seconds since the epoch.
    certificates: Vec<(String, u64)>,
}

impl Authority {
    /// Opens the authority in `dir`, or creates it there.
    ///
    /// # Errors
    /// When its files are damaged or cannot be written.
    pub fn open_or_create(dir: &Path) -> Result<Self, AuthorityError> {
        make_private_dir(dir)?;
        let _lock = lock(dir)?;
        // The certificate is written last: where it is missing, nothing was ever signed.
        if !dir.join("ca.pem").exists() {
            Self::create(dir)?;
        }
        Self::open(dir)
    }

    /// Opens the authority in `dir`.
    ///
    /// # Errors
    /// When there is none, or its files are damaged.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let wrong = |error: crate::identity::IdentityError| {
            AuthorityError(format!(
                "cannot open the certificate authority in {}: {error}",
                dir.display()
            ))
        };
        let certificate = read_certificate(&dir.join("ca.pem")).map_err(wrong)?;
        let key = read_key(&dir.join("ca.key.pem")).map_err(wrong)?;
        let authority = Self {
            dir: dir.to_owned(),
            certificate,
            key,
        };
        authority.issuer()?;
        Ok(authority)
    }

    fn create(dir: &Path) -> Result<(), AuthorityError> {
        let key = KeyPair::generate().map_err(|error| failed("make the CA's key", error))?;
        let mut params = CertificateParams::default();
        // A name of its own, so that two installations are never taken for one another.
        params.distinguished_name = common_name(&format!("Gantry CA {}", hex(&random::<4>()?)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lifetime(&mut params, CA_LIFETIME);
        params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
        let certificate = params
            .self_signed(&key)
            .map_err(|error| failed("sign the CA's certificate", error))?;
        write(
            &dir.join("ca.key.pem"),
            pem("PRIVATE KEY", key.serialized_der()).as_bytes(),
            KEY_MODE,
        )?;
        write(
            &dir.join("ca.pem"),
            pem("CERTIFICATE", certificate.der()).as_bytes(),
            PUBLIC_MODE,
        )
    }

    /// Makes a key and certificate for a person or program; `role` is operator or reader.
    ///
    /// # Errors
    /// When `role` is agent, `name` cannot stand in a certificate, or the list of certificates cannot be written.
    pub fn issue_operator(&self, name: &str, role: Role) -> Result<Identity, AuthorityError> {
        if role == Role::Agent {
            return Err(AuthorityError(
                "agents get their certificate by enrolment: run gantry enroll".into(),
            ));
        }
        let key = AgentKey::generate().map_err(|error| AuthorityError(error.to_string()))?;
        let request = CertificateParams::default()
            .serialize_request(key.pair())
            .map_err(|error| failed("make a signing request", error))?;
        let issued = self.sign(request.der(), name, role)?;
        let crl = self.crl()?;
        Identity::new(key.der(), issued.der.into(), self.certificate.clone(), Some(&crl))
            .map_err(|error| AuthorityError(error.to_string()))
    }

    /// Signs an agent's request (DER) for the host `host`. Only the public key is taken from the request:
    /// whatever names and uses it asks for are replaced.
    ///
    /// # Errors
    /// When the request is malformed, `host` cannot stand in a certificate, or the list of certificates cannot
    /// be written.
    pub fn sign_agent(&self, csr: &[u8], host: &str) -> Result<IssuedCertificate, AuthorityError> {
        let csr = CertificateSigningRequestDer::from(csr);
        self.sign(&csr, host, Role::Agent)
    }

    fn sign(
        &self,
        csr: &CertificateSigningRequestDer<'_>,
        name: &str,
        role: Role,
    ) -> Result<IssuedCertificate, AuthorityError> {
        if !is_name(name) {
            return Err(AuthorityError(format!(
                "{name:?} cannot stand in a certificate: 1 to 253 letters, digits and . - _ : @ are allowed"
            )));
        }
        if csr.len() > MAX_CSR_LEN {
            return Err(AuthorityError(format!(
                "the signing request of {name} has {} bytes; at most {MAX_CSR_LEN} are allowed",
                csr.len()
            )));
        }
        let mut request = CertificateSigningRequestParams::from_der(csr).map_err(|error| {
            AuthorityError(format!("the signing request of {name} cannot be used: {error}"))
        })?;
        // rcgen would sign the names and uses the request brought.
        request.params = CertificateParams::default();
        let params = &mut request.params;
        let serial = random_serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name = common_name(&format!("{role} {name}"));
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match role {
            Role::Agent => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Operator | Role::Reader => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let text = uri(role, name)
            .try_into()
            .map_err(|error| failed("write the name", error))?;
        params.subject_alt_names = vec![SanType::URI(text)];
        if role == Role::Agent
            && let Ok(address) = name.parse::<IpAddr>()
        {
            params.subject_alt_names.push(SanType::IpAddress(address));
        }
        let not_after = lifetime(params, CERTIFICATE_LIFETIME);
        let certificate = request
            .signed_by(&self.issuer()?)
            .map_err(|error| failed("sign the certificate", error))?;
        let issued = IssuedCertificate {
            der: certificate.der().to_vec(),
            serial: hex(&serial),
            not_after,
        };
        self.record(&IssuedRecord {
            serial: issued.serial.clone(),
            role: role.to_string(),
            name: name.to_owned(),
            issued_at: seconds(SystemTime::now()),
            not_after: seconds(not_after),
        })?;
        Ok(issued)
    }

    /// Every certificate signed so far, oldest first.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn issued(&self) -> Result<Vec<IssuedRecord>, AuthorityError> {
        let path = self.dir.join("issued.jsonl");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(failed_on("read", &path, error)),
        };
        // A crash may have cut the last line; that certificate never left.
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

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
        let mut revoked = self.revoked()?;
        if revoked.certificates.iter().all(|(known, _)| *known != serial) {
            revoked.certificates.push((serial, seconds(SystemTime::now())));
        }
        self.publish(revoked)
    }

    /// The current revocation list (DER).
    ///
    /// # Errors
    /// When it cannot be read, or not be made the first time.
    pub fn crl(&self) -> Result<Vec<u8>, AuthorityError> {
        let path = self.dir.join("crl.der");
        match fs::read(&path) {
            Ok(der) => Ok(der),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _lock = lock(&self.dir)?;
                self.publish(self.revoked()?)
            }
            Err(error) => Err(failed_on("read", &path, error)),
        }
    }

    /// When the CA's certificate ends.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn ends(&self) -> Result<SystemTime, AuthorityError> {
        ends(&self.certificate).map_err(AuthorityError)
    }

    /// The CA's certificate (DER).
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
        let key = PrivateKeyDer::Pkcs8(self.key.clone_key());
        let key = KeyPair::try_from(&key).map_err(|error| failed("use the CA's key", error))?;
        Issuer::from_ca_cert_der(&self.certificate, key)
            .map_err(|error| failed("use the CA's certificate", error))
    }

    fn record(&self, record: &IssuedRecord) -> Result<(), AuthorityError> {
        let _lock = lock(&self.dir)?;
        let path = self.dir.join("issued.jsonl");
        let mut line = serde_json::to_vec(record).map_err(|error| failed("record a certificate", error))?;
        line.push(b'\n');
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(&line)?;
                file.sync_all()
            });
        written.map_err(|error| failed_on("write", &path, error))
    }

    fn revoked(&self) -> Result<Revoked, AuthorityError> {
        let path = self.dir.join("revoked.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed_on("read", &path, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Revoked::default()),
            Err(error) => Err(failed_on("read", &path, error)),
        }
    }

    fn publish(&self, mut revoked: Revoked) -> Result<Vec<u8>, AuthorityError> {
        revoked.number += 1;
        let now = SystemTime::now();
        let crl = CertificateRevocationListParams {
            this_update: date(now - BACKDATE),
            // Hosts without a network cannot fetch a fresh list: an old list is better than no session.
            next_update: date(now + CA_LIFETIME),
            crl_number: SerialNumber::from(revoked.number),
            issuing_distribution_point: None,
            revoked_certs: revoked
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
            .signed_by(&self.issuer()?)
            .map_err(|error| failed("sign the revocation list", error))?;
        let text = serde_json::to_vec(&revoked).map_err(|error| failed("record a revocation", error))?;
        write(&self.dir.join("revoked.json"), &text, PUBLIC_MODE)?;
        write(&self.dir.join("crl.der"), crl.der(), PUBLIC_MODE)?;
        Ok(crl.der().to_vec())
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.dir.display())
    }
}

fn make_private_dir(dir: &Path) -> Result<(), AuthorityError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| failed_on("create", dir, error))
}

fn lock(dir: &Path) -> Result<FileLock, AuthorityError> {
    let path = dir.join("lock");
    FileLock::exclusive(&path).map_err(|error| failed_on("lock", &path, error))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    write_atomically(path, bytes, mode).map_err(|error| failed_on("write", path, error))
}

fn failed(doing: &str, error: impl std::fmt::Display) -> AuthorityError {
    AuthorityError(format!("the certificate authority cannot {doing}: {error}"))
}

fn failed_on(doing: &str, path: &Path, error: impl std::fmt::Display) -> AuthorityError {
    AuthorityError(format!(
        "the certificate authority cannot {doing} {}: {error}",
        path.display()
    ))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// Sets the lifetime, from now, and returns its end, in whole seconds as the certificate has it.
fn lifetime(params: &mut CertificateParams, lasting: Duration) -> SystemTime {
    let now = SystemTime::now();
    let end = UNIX_EPOCH + Duration::from_secs(seconds(now + lasting));
    params.not_before = date(now - BACKDATE);
    params.not_after = date(end);
    end
}

fn date(at: SystemTime) -> OffsetDateTime {
    OffsetDateTime::from(UNIX_EPOCH + Duration::from_secs(seconds(at)))
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn random<const N: usize>() -> Result<[u8; N], AuthorityError> {
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| AuthorityError("the system's random numbers fail".into()))?;
    Ok(bytes)
}

/// 127 random bits: never guessed, never twice, and positive with its first byte set.
fn random_serial() -> Result<[u8; 16], AuthorityError> {
    let mut serial = random::<16>()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_takes_a_new_certificate_of_its_own_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(&folder.path().join("pki")).unwrap();
        let key = AgentKey::generate().unwrap();
        let request = CertificateParams::default()
            .serialize_request(key.pair())
            .unwrap();
        let first = authority.sign_agent(request.der(), "10.0.0.2").unwrap();
        let ca = authority.certificate.clone();
        let agent = Identity::new(key.der(), first.der.into(), ca, None).unwrap();

        let asked = agent.signing_request().unwrap();
        let second = authority.sign_agent(&asked, "10.0.0.2").unwrap();
        let newer = agent.with_certificate(&second.der).unwrap();
        assert_eq!(
            (newer.name(), newer.serial()),
            ("10.0.0.2", second.serial.as_str())
        );
        assert_eq!(newer.fingerprint(), agent.fingerprint(), "the key stays");

        let other_name = authority.sign_agent(&asked, "10.0.0.3").unwrap();
        let other_key = CertificateParams::default()
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap();
        let other_key = authority.sign_agent(other_key.der(), "10.0.0.2").unwrap();
        let stranger = Authority::open_or_create(&folder.path().join("stranger")).unwrap();
        let forged = stranger.sign_agent(&asked, "10.0.0.2").unwrap();
        for (refused, why) in [
            (other_name, "10.0.0.3"),
            (other_key, "another key"),
            (forged, "did not sign it"),
        ] {
            let error = agent.with_certificate(&refused.der).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(authority.ends().unwrap() > SystemTime::now());
    }
}
