//! Words for the tests: an installation with its CA, identities good and bad, a listening agent.

#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod middle;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use gantry_transport::{
    Authority, Connection, DialError, DialOptions, Identity, Listener, ListenerOptions, Role, UdpMode, dial,
};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// One installation: a CA and what it signed.
pub(crate) struct Installation {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) authority: Authority,
}

/// A certificate to be made outside the rules.
pub(crate) struct Odd<'a> {
    pub(crate) uri: &'a str,
    pub(crate) usage: ExtendedKeyUsagePurpose,
    pub(crate) from: SystemTime,
    pub(crate) until: SystemTime,
}

impl Odd<'_> {
    pub(crate) fn good(uri: &str, usage: ExtendedKeyUsagePurpose) -> Odd<'_> {
        let now = SystemTime::now();
        Odd {
            uri,
            usage,
            from: now - DAY,
            until: now + DAY,
        }
    }
}

impl Installation {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(&dir.path().join("pki")).unwrap();
        Self { dir, authority }
    }

    pub(crate) fn operator(&self) -> Identity {
        self.authority.issue_operator("alice", Role::Operator).unwrap()
    }

    pub(crate) fn agent(&self, name: &str) -> Identity {
        self.odd(&Odd::good(
            &format!("gantry://agent/{name}"),
            ExtendedKeyUsagePurpose::ServerAuth,
        ))
    }

    /// An identity signed by this installation's CA, whatever it says.
    pub(crate) fn odd(&self, odd: &Odd<'_>) -> Identity {
        let pki = self.dir.path().join("pki");
        let trust = self.authority.trust().unwrap().to_pem();
        let ca_pem = std::fs::read_to_string(pki.join("ca.pem")).unwrap();
        let ca_key = KeyPair::from_pem(&std::fs::read_to_string(pki.join("ca.key.pem")).unwrap()).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![odd.usage.clone()];
        params.subject_alt_names = vec![SanType::URI(odd.uri.try_into().unwrap())];
        params.not_before = odd.from.into();
        params.not_after = odd.until.into();
        params.serial_number = Some(SerialNumber::from_slice(&rand_serial()));
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(dir.path().join(name), text).unwrap();
        write("key.pem", key.serialize_pem().as_bytes());
        write("cert.pem", certificate.pem().as_bytes());
        write("ca.pem", trust.as_bytes());
        Identity::load(dir.path()).unwrap()
    }

    /// An identity with a certificate of this installation, but trusting another one's CA.
    pub(crate) fn trusting(&self, identity: &Identity, other: &Self) -> Identity {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        identity.save(dir.path()).unwrap();
        let trust = other.authority.trust().unwrap().to_pem();
        std::fs::write(dir.path().join("ca.pem"), trust).unwrap();
        Identity::load(dir.path()).unwrap()
    }
}

fn rand_serial() -> Vec<u8> {
    use std::hash::{BuildHasher as _, Hasher as _};
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    let mut serial = vec![0x40];
    serial.extend_from_slice(&random.to_be_bytes());
    serial
}

pub(crate) async fn listen(identity: Identity) -> Listener {
    Listener::bind(
        "127.0.0.1:0".parse().unwrap(),
        identity,
        ListenerOptions::default(),
    )
    .await
    .unwrap()
}

pub(crate) fn options(udp: UdpMode) -> DialOptions {
    DialOptions {
        udp,
        timeout: Duration::from_secs(5),
        ..DialOptions::default()
    }
}

pub(crate) async fn connect(
    addr: SocketAddr,
    identity: &Identity,
    udp: UdpMode,
) -> Result<Connection, DialError> {
    dial(addr, identity, &options(udp))
        .await
        .map(|(connection, _)| connection)
}

/// Lines of the log, collected for one test.
#[derive(Clone, Default)]
pub(crate) struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    /// Collects from now on, in this thread.
    pub(crate) fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Waits until the log holds a line with `words`.
    pub(crate) async fn wait_for(&self, words: &str) -> String {
        let found = async {
            loop {
                if let Some(line) = self.text().lines().find(|line| line.contains(words)) {
                    return line.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(10), found).await {
            Ok(line) => line,
            Err(_) => panic!("the log never said {words:?}:\n{}", self.text()),
        }
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
