//! Enrolment over the loopback: the good way, and everybody who must not get through.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use common::{Installation, Log, connect, listen, options};
use gantry_transport::{
    AgentKey, EnrolmentListener, Identity, Role, Token, TokenBook, TokenRecord, TokenRefusal, UdpMode, enrol,
};

const HOUR: Duration = Duration::from_secs(3600);

/// The orchestrator's records, in memory.
#[derive(Default)]
struct Book(Mutex<HashMap<String, TokenRecord>>);

impl Book {
    fn with(token: &Token, uses: u32) -> Self {
        let book = Self::default();
        book.0
            .lock()
            .unwrap()
            .insert(token.id().to_owned(), token.record(uses));
        book
    }
}

impl TokenBook for Book {
    fn find(&self, id: &str) -> Option<TokenRecord> {
        self.0.lock().unwrap().get(id).cloned()
    }

    fn redeem(&self, id: &str, host: &str, fingerprint: &str) -> Result<(), TokenRefusal> {
        let mut records = self.0.lock().unwrap();
        let record = records
            .get_mut(id)
            .ok_or_else(|| TokenRefusal("the token is gone".into()))?;
        record.redeem(host, fingerprint, SystemTime::now())
    }
}

/// A host that waits for its enrolment.
struct Host {
    addr: SocketAddr,
    dir: tempfile::TempDir,
    waiting: tokio::task::JoinHandle<Result<Identity, gantry_transport::EnrolmentError>>,
}

impl Host {
    async fn waiting_with(token: &Token) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = AgentKey::load_or_create(dir.path()).unwrap();
        let listener = EnrolmentListener::bind("127.0.0.1:0".parse().unwrap(), key, token.clone(), "0.1.0")
            .await
            .unwrap();
        let addr = listener.local_addr();
        let path = dir.path().to_owned();
        let store = move |identity: &Identity| identity.save(&path).map_err(std::io::Error::other);
        Self {
            addr,
            dir,
            waiting: tokio::spawn(listener.wait(store)),
        }
    }
}

#[tokio::test]
async fn a_host_with_the_token_gets_its_certificate_and_a_session() {
    for udp in [UdpMode::Only, UdpMode::Never, UdpMode::Auto] {
        let (site, token) = (Installation::new(), Token::create(HOUR));
        let book = Book::with(&token, 1);
        let host = Host::waiting_with(&token).await;
        let enrolled = enrol(host.addr, "127.0.0.1", &book, &site.authority, &options(udp))
            .await
            .unwrap();
        let identity = host.waiting.await.unwrap().unwrap();
        assert_eq!((identity.name(), identity.role()), ("127.0.0.1", Role::Agent));
        assert_eq!(
            (enrolled.serial.as_str(), enrolled.fingerprint.as_str()),
            (identity.serial(), identity.fingerprint())
        );
        assert_eq!(enrolled.program, "0.1.0");
        assert!(enrolled.clock_skew_ms.abs() < 5_000);
        assert_eq!(
            Identity::load(host.dir.path()).unwrap().serial(),
            identity.serial()
        );
        assert_eq!(book.find(token.id()).unwrap().uses_left, 0);
        assert_eq!(site.authority.issued().unwrap().last().unwrap().name, "127.0.0.1");
        // The same port, now for sessions.
        let listener = gantry_transport::Listener::bind(host.addr, identity, Default::default())
            .await
            .unwrap();
        let connection = connect(host.addr, &site.operator(), udp).await.unwrap();
        assert_eq!(connection.peer().name, "127.0.0.1");
        assert_eq!(listener.local_addr(), host.addr);
        // Again: it is enrolled already, and says so.
        let again = enrol(host.addr, "127.0.0.1", &book, &site.authority, &options(udp))
            .await
            .unwrap_err();
        assert!(
            again.to_string().contains("is enrolled already"),
            "{udp:?}: {again}"
        );
    }
}

#[tokio::test]
async fn a_host_without_a_certificate_is_called_not_enrolled() {
    let (site, token) = (Installation::new(), Token::create(HOUR));
    let (log, _guard) = Log::start();
    for udp in [UdpMode::Only, UdpMode::Never] {
        let host = Host::waiting_with(&token).await;
        let error = connect(host.addr, &site.operator(), udp)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("is not enrolled"), "{udp:?}: {error}");
        log.wait_for("not enrolled").await;
        host.waiting.abort();
    }
}

/// Both sides refuse, each with its words, and the host goes on waiting.
async fn refused(site: &Installation, token: &Token, book: &Book, here: &str, there: &str) {
    for udp in [UdpMode::Only, UdpMode::Never] {
        let (log, _guard) = Log::start();
        let host = Host::waiting_with(token).await;
        let signed = site.authority.issued().unwrap().len();
        let error = enrol(host.addr, "h", book, &site.authority, &options(udp))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(here), "{udp:?}: {error}");
        assert_eq!(error.lines().count(), 1);
        log.wait_for(there).await;
        assert_eq!(
            site.authority.issued().unwrap().len(),
            signed,
            "something was signed"
        );
        assert!(!host.waiting.is_finished() && !Identity::exists(host.dir.path()));
        host.waiting.abort();
    }
}

#[tokio::test]
async fn an_unknown_token_is_refused() {
    let (site, token) = (Installation::new(), Token::create(HOUR));
    refused(
        &site,
        &token,
        &Book::default(),
        "knows no token",
        "knows no token",
    )
    .await;
}

#[tokio::test]
async fn a_used_token_is_a_replay() {
    let (site, token) = (Installation::new(), Token::create(HOUR));
    let book = Book::with(&token, 1);
    book.redeem(token.id(), "other", "00").unwrap();
    refused(
        &site,
        &token,
        &book,
        "was used already, by other: it may be a replay",
        "it may be a replay",
    )
    .await;
}

#[tokio::test]
async fn an_expired_token_is_named_as_such_by_whichever_side_sees_it() {
    let site = Installation::new();
    let expired = Token::create(Duration::ZERO);
    refused(
        &site,
        &expired,
        &Book::with(&expired, 1),
        "expired at",
        "and the host's clock says",
    )
    .await;
    // The host's copy says otherwise: then it is another token.
    let (token, mut parts) = (Token::create(HOUR), vec![]);
    let text = token.to_string();
    parts.extend(text.split('.'));
    let longer = format!("{:x}", u64::from_str_radix(parts[1], 16).unwrap() + 9);
    parts[1] = &longer;
    let forged: Token = parts.join(".").parse().unwrap();
    refused(
        &site,
        &forged,
        &Book::with(&token, 1),
        "did not prove that it holds token",
        "did not prove that it holds",
    )
    .await;
}

#[tokio::test]
async fn an_orchestrator_with_another_secret_gets_no_signing_request() {
    let site = Installation::new();
    let (token, guess) = (Token::create(HOUR), Token::create(HOUR));
    let mut record = serde_json::to_value(guess.record(1)).unwrap();
    record["id"] = token.id().into();
    let record: TokenRecord = serde_json::from_value(record).unwrap();
    let book = Book::default();
    book.0.lock().unwrap().insert(token.id().to_owned(), record);
    refused(
        &site,
        &token,
        &book,
        "did not prove that it holds token",
        "the orchestrator did not prove",
    )
    .await;
    assert_eq!(book.find(token.id()).unwrap().uses_left, 1, "nothing was used up");
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let site = Installation::new();
    let (token, guess) = (Token::create(HOUR), Token::create(HOUR));
    let mut record = serde_json::to_value(guess.record(1)).unwrap();
    record["id"] = token.id().into();
    let book = Book::default();
    book.0
        .lock()
        .unwrap()
        .insert(token.id().to_owned(), serde_json::from_value(record).unwrap());
    let host = Host::waiting_with(&token).await;
    let mut last = String::new();
    for _ in 0..6 {
        last = enrol(host.addr, "h", &book, &site.authority, &options(UdpMode::Only))
            .await
            .unwrap_err()
            .to_string();
    }
    assert!(last.contains("too many wrong proofs"), "{last}");
    host.waiting.abort();
}

#[tokio::test]
async fn the_same_host_may_try_again_when_its_disk_failed() {
    let (site, token) = (Installation::new(), Token::create(HOUR));
    let book = Book::with(&token, 1);
    let dir = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let key = AgentKey::load_or_create(dir.path()).unwrap();
    let listener = EnrolmentListener::bind(any, key, token.clone(), "0.1.0")
        .await
        .unwrap();
    let addr = listener.local_addr();
    let waiting = tokio::spawn(listener.wait(|_| Err(std::io::ErrorKind::StorageFull.into())));
    let error = enrol(addr, "h", &book, &site.authority, &options(UdpMode::Auto))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("cannot store its identity"), "{error}");
    assert!(
        waiting
            .await
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("cannot be stored")
    );
    let key = AgentKey::load_or_create(dir.path()).unwrap();
    let listener = EnrolmentListener::bind(any, key, token, "0.1.0").await.unwrap();
    let addr = listener.local_addr();
    let waiting = tokio::spawn(listener.wait(|_| Ok(())));
    enrol(addr, "h", &book, &site.authority, &options(UdpMode::Auto))
        .await
        .unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn somebody_in_between_gets_nothing() {
    // A relay that ends TLS on both sides and passes every message on: it offers its own certificate to the
    // orchestrator, so that the two exporters differ.
    use gantry_protocol::{EnrolmentAnswer, EnrolmentAsk};
    let (site, token) = (Installation::new(), Token::create(HOUR));
    let book = Book::with(&token, 1);
    let host = Host::waiting_with(&token).await;
    let middle = common::middle::Middle::between(host.addr).await;
    let error = enrol(middle.addr, "h", &book, &site.authority, &options(UdpMode::Only))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("did not prove that it holds token"), "{error}");
    assert!(site.authority.issued().unwrap().is_empty());
    assert_eq!(book.find(token.id()).unwrap().uses_left, 1);
    let heard = middle.heard();
    assert!(
        heard
            .iter()
            .any(|message| matches!(message, Ok(EnrolmentAsk::Proof { .. })))
    );
    assert!(
        !heard
            .iter()
            .any(|message| matches!(message, Err(EnrolmentAnswer::Request { .. }))),
        "a signing request leaked"
    );
    host.waiting.abort();
}

#[tokio::test]
async fn a_signing_request_cannot_choose_its_names_and_uses() {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
    let site = Installation::new();
    let key = KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::default();
    greedy.subject_alt_names = vec![SanType::URI("gantry://operator/root".try_into().unwrap())];
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let csr = greedy.serialize_request(&key).unwrap();
    let issued = site.authority.sign_agent(csr.der(), "10.0.0.7").unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
    let names = certificate
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names
        .clone();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].contains("gantry://agent/10.0.0.7"), "{names:?}");
    let usage = certificate.extended_key_usage().unwrap().unwrap().value.clone();
    assert!(usage.server_auth && !usage.client_auth && !usage.any);
    assert!(!certificate.is_ca());
    // And a name that could be taken for a path is refused.
    assert!(site.authority.sign_agent(csr.der(), "a/b").is_err());
    assert!(site.authority.sign_agent(b"junk", "h").is_err());
}

#[tokio::test]
async fn a_session_listener_and_an_enrolled_agent_keep_their_port_apart() {
    let (site, book) = (Installation::new(), Book::default());
    let listener = listen(site.agent("h")).await;
    let options = options(UdpMode::Auto);
    let error = enrol(listener.local_addr(), "h", &book, &site.authority, &options)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is enrolled already"), "{error}");
}
