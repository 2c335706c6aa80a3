//! This module owns [`Authority`]: the CA of one installation, under `orchestrator/pki`.
//!
//! ```text
//! ca.key.pem    its key, 0600          issued.jsonl    every certificate it signed, one per line
//! ca.pem        its certificate        revoked.json    what it took back, and the list's number
//! crl.der       the list agents get    lock            held while these change
//!
//! ca-2.key.pem, ca-2.pem, crl-2.der    the CA that came after the first, and so on
//! cross-2.pem                          what the CA before it said for it, while both are trusted
//! rotation.json                        which one signs, and which one it replaces; not there for the first
//! ```

mod files;
mod lists;
mod rotation;
#[cfg(test)]
mod tests;

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_system::files::{FileLock, write_atomically};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::SecureRandom as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use self::files::certificate_file;
pub use self::rotation::Rotation;
use self::rotation::{Note, Replaced};
use crate::certificate::{ca_name, ends, fingerprint, hex, is_name, uri};
use crate::identity::{AgentKey, Identity, Role};

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
    note: Note,
    /// The one that signs.
    ca: Ca,
    replaced: Option<Replaced>,
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
    /// SHA-256 of the public key in it, lower-case hex.
    pub fingerprint: String,
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
    /// Name of the CA that signed it; empty in records of before there was more than one.
    #[serde(default)]
    pub ca: String,
}

/// A CA that can sign.
struct Ca {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Authority {
    /// Opens the authority in `dir`, or creates it there.
    ///
    /// # Errors
    /// When its files are damaged or cannot be written.
    pub fn open_or_create(dir: &Path) -> Result<Self, AuthorityError> {
        make_private_dir(dir)?;
        let _lock = lock(dir)?;
        let note = Note::read(dir)?;
        // The certificate is written last: where it is missing, nothing was ever signed.
        if !dir.join(certificate_file(note.signing)).exists() {
            Ca::generate()?.write(dir, note.signing)?;
        }
        Self::open(dir)
    }

    /// Whether there is an authority in `dir`; one that is damaged is there.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        Note::read(dir).map_or(true, |note| dir.join(certificate_file(note.signing)).exists())
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
        let note = Note::read(dir)?;
        let ca = Ca::read(dir, note.signing).map_err(wrong)?;
        let replaced = note.replaced.as_ref();
        let replaced = replaced.map(|replacing| Replaced::read(dir, note.signing, replacing));
        let authority = Self {
            dir: dir.to_owned(),
            replaced: replaced.transpose().map_err(wrong)?,
            note,
            ca,
        };
        authority.ca.issuer()?;
        Ok(authority)
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
        let trust = self.own_trust()?;
        Identity::new(key.der(), issued.der.into(), trust).map_err(|error| AuthorityError(error.to_string()))
    }

    /// Another certificate for the key, name and role of `identity`, with today's trust.
    ///
    /// # Errors
    /// When the list of certificates cannot be written.
    pub fn renew(&self, identity: &Identity) -> Result<Identity, AuthorityError> {
        let wrong = |error: crate::identity::IdentityError| AuthorityError(error.to_string());
        let request = identity.signing_request().map_err(wrong)?;
        let csr = CertificateSigningRequestDer::from(request.as_slice());
        let issued = self.sign(&csr, identity.name(), identity.role())?;
        Identity::new(identity.private_key(), issued.der.into(), self.own_trust()?).map_err(wrong)
    }

    /// The same identity with today's trust.
    ///
    /// # Errors
    /// When a revocation list cannot be read or made.
    pub fn refresh(&self, identity: &Identity) -> Result<Identity, AuthorityError> {
        Ok(identity.trusting(self.own_trust()?))
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
        let _lock = lock(&self.dir)?;
        self.still_so()?;
        let certificate = request
            .signed_by(&self.ca.issuer()?)
            .map_err(|error| failed("sign the certificate", error))?;
        let issued = IssuedCertificate {
            der: certificate.der().to_vec(),
            serial: hex(&serial),
            not_after,
            fingerprint: fingerprint(certificate.der()).map_err(AuthorityError)?,
        };
        self.record(&IssuedRecord {
            serial: issued.serial.clone(),
            role: role.to_string(),
            name: name.to_owned(),
            issued_at: seconds(SystemTime::now()),
            not_after: seconds(not_after),
            ca: self.name()?,
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
        let records = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let mut records: Vec<IssuedRecord> = records.collect();
        if let Some(first) = self.name_of_first() {
            let unnamed = records.iter_mut().filter(|record| record.ca.is_empty());
            unnamed.for_each(|record| record.ca.clone_from(&first));
        }
        Ok(records)
    }

    /// Certificates that hold, oldest first: neither over nor taken back, and of a CA that is trusted.
    ///
    /// # Errors
    /// When the lists cannot be read.
    pub fn holding(&self) -> Result<Vec<IssuedRecord>, AuthorityError> {
        let (now, trust) = (seconds(SystemTime::now()), self.trust()?);
        let mut records = self.issued()?;
        records.retain(|record| {
            record.not_after > now
                && !trust.revokes(&record.serial)
                && trust.names().any(|ca| ca == record.ca)
        });
        Ok(records)
    }

    /// When the certificate of the CA that signs ends.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn ends(&self) -> Result<SystemTime, AuthorityError> {
        ends(&self.ca.certificate).map_err(AuthorityError)
    }

    /// When the certificate of the CA that is being replaced ends, if one is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn replaced_ends(&self) -> Result<Option<SystemTime>, AuthorityError> {
        let replaced = self.replaced.as_ref();
        let replaced = replaced.map(|replaced| ends(&replaced.certificate));
        replaced.transpose().map_err(AuthorityError)
    }

    /// The name of the CA that signs.
    ///
    /// # Errors
    /// When its certificate cannot be read.
    pub fn name(&self) -> Result<String, AuthorityError> {
        self.ca.name()
    }

    /// The certificate of the CA that signs (DER).
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.ca.certificate
    }

    /// The lock has to be held.
    fn record(&self, record: &IssuedRecord) -> Result<(), AuthorityError> {
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
}

impl Ca {
    fn generate() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(|error| failed("make the CA's key", error))?;
        let mut params = CertificateParams::default();
        // A name of its own, so that two installations are never taken for one another.
        params.distinguished_name = common_name(&format!("Gantry CA {}", hex(&random::<4>()?)));
        // One more CA may stand between it and what is signed: the one that replaces it.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lifetime(&mut params, CA_LIFETIME);
        params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
        let certificate = params
            .self_signed(&key)
            .map_err(|error| failed("sign the CA's certificate", error))?;
        Ok(Self {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialized_der().to_vec()),
        })
    }

    fn name(&self) -> Result<String, AuthorityError> {
        ca_name(&self.certificate).map_err(AuthorityError)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
        Issuer::from_ca_cert_der(&self.certificate, key_pair(&self.key)?)
            .map_err(|error| failed("use the CA's certificate", error))
    }
}

fn key_pair(key: &PrivatePkcs8KeyDer<'static>) -> Result<KeyPair, AuthorityError> {
    KeyPair::try_from(&PrivateKeyDer::Pkcs8(key.clone_key()))
        .map_err(|error| failed("use the CA's key", error))
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
