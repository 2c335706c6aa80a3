//! The orchestrator's side of an enrolment.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_protocol::greeting::{Speaker, VersionMismatch};
use gantry_protocol::{ALPN_ENROLMENT, CloseCode, EnrolmentAnswer, EnrolmentAsk, ProtocolVersion, Refusal};
use gantry_system::clock::now_ms;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::timeout;

use super::proof::{Binding, Prover, hash, nonce};
use super::token::{TokenBook, TokenRecord};
use super::{EnrolmentError, MAX_ENROLMENT_MESSAGE, STEP_TIMEOUT, forbidden};
use crate::authority::Authority;
use crate::certificate::{fingerprint, is_name, show};
use crate::dial::{DialError, DialOptions, Explain};
use crate::link::Link;
use crate::race::{LinkAttempt, race};
use crate::streams::{RecvStream, SendStream};
use crate::tls;
use crate::verify::{Verdict, tls12};

/// A host that was just enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolledAgent {
    /// The name in its certificate.
    pub name: String,
    /// The certificate's serial number, lower-case hex.
    pub serial: String,
    /// When the certificate ends.
    pub not_after: SystemTime,
    /// SHA-256 of its public key, lower-case hex.
    pub fingerprint: String,
    /// The agent's program version.
    pub program: String,
    /// Its clock minus ours, milliseconds.
    pub clock_skew_ms: i64,
}

/// A connection on which the agent has made its offer.
struct Offered {
    link: Link,
    send: SendStream,
    recv: RecvStream,
    certificate: CertificateDer<'static>,
    our_nonce: [u8; 32],
    agent_nonce: [u8; 32],
    token_id: String,
    program: String,
    version: ProtocolVersion,
    clock_skew_ms: i64,
}

/// Enrols the agent at `addr` under the name `host`.
///
/// # Errors
/// When the agent cannot be reached, is enrolled already, holds another token or one that ended or was used, or
/// cannot take the certificate; each is one line for people, and the agent logs one too.
pub async fn enrol(
    addr: SocketAddr,
    host: &str,
    book: &dyn TokenBook,
    authority: &Authority,
    options: &DialOptions,
) -> Result<EnrolledAgent, EnrolmentError> {
    if !is_name(host) {
        return Err(EnrolmentError::lasting(format!(
            "{host:?} cannot be an agent's name: 1 to 253 letters, digits and . - _ : @ are allowed"
        )));
    }
    let lasting = |error: crate::AuthorityError| EnrolmentError::lasting(error.to_string());
    let trust = authority.trust().map_err(lasting)?.to_pem();
    // Only up to the offer: both ways may be tried at the same time, and a token is for one.
    let offered = race(addr, options, |attempt| offer(addr, attempt, &trust, options))
        .await
        .map_err(|error| EnrolmentError {
            message: error.to_string(),
            transient: error.is_transient(),
        })?;
    let mut enrolment = Enrolment {
        addr,
        host,
        book,
        authority,
        trust: &trust,
        offered,
    };
    let result = enrolment.go_on().await;
    match &result {
        Ok(_) => enrolment.offered.link.close(CloseCode::Done, "enrolled"),
        Err(error) => enrolment.offered.link.close(CloseCode::Forbidden, &error.message),
    }
    let _ = timeout(Duration::from_secs(1), enrolment.offered.link.drained()).await;
    result
}

/// Connects and hears what the agent offers.
async fn offer(
    addr: SocketAddr,
    attempt: LinkAttempt,
    trust: &str,
    options: &DialOptions,
) -> Result<Offered, DialError> {
    let verdict = Verdict::default();
    let explain = Explain {
        addr,
        alpn: ALPN_ENROLMENT,
        identity: None,
        verdict: &verdict,
    };
    let local = |reason: &str| DialError::Local {
        addr,
        reason: reason.to_owned(),
    };
    let provider = tls::provider();
    let seen = Seen::default();
    let verifier = SelfSigned {
        seen: seen.clone(),
        algorithms: provider.signature_verification_algorithms,
    };
    let config = tls::client(provider, Arc::new(verifier), None, ALPN_ENROLMENT)
        .map_err(|error| local(&error.to_string()))?;
    let link = attempt
        .connect(addr, config)
        .await
        .map_err(|closed| explain.closed(&closed))?;
    let (mut send, mut recv) = link.open_bi().await.map_err(|error| explain.stream(error))?;
    let our_nonce = nonce().ok_or_else(|| local("the system's random numbers fail"))?;
    let (oldest, newest) = options.versions;
    let hello = EnrolmentAsk::Hello {
        oldest,
        newest,
        program: options.program.clone(),
        clock_ms: now_ms(),
        nonce: our_nonce,
        ca_hash: hash(trust.as_bytes()),
    };
    send.send(&hello).await.map_err(|error| explain.stream(error))?;
    match recv
        .recv_within(MAX_ENROLMENT_MESSAGE)
        .await
        .map_err(|error| explain.stream(error))?
    {
        Some(EnrolmentAnswer::Offer {
            version,
            program,
            clock_ms,
            nonce: agent_nonce,
            token_id,
        }) => {
            if !(oldest..=newest).contains(&version) {
                let agent = Speaker {
                    oldest: version,
                    newest: version,
                    program,
                };
                let mismatch = VersionMismatch {
                    orchestrator: options.speaker(),
                    agent,
                };
                return Err(DialError::Version {
                    addr,
                    reason: mismatch.to_string(),
                });
            }
            let certificate = seen
                .take()
                .ok_or_else(|| explain.protocol("it showed no certificate"))?;
            let clock_skew_ms = clock_ms.saturating_sub(now_ms());
            Ok(Offered {
                link,
                send,
                recv,
                certificate,
                our_nonce,
                agent_nonce,
                token_id,
                program,
                version,
                clock_skew_ms,
            })
        }
        Some(EnrolmentAnswer::Refused(refusal)) => Err(DialError::Refused {
            addr,
            reason: refusal.message,
        }),
        _ => Err(explain.protocol("an offer was due")),
    }
}

struct Enrolment<'a> {
    addr: SocketAddr,
    host: &'a str,
    book: &'a dyn TokenBook,
    authority: &'a Authority,
    /// The CAs that the agent is to trust.
    trust: &'a str,
    offered: Offered,
}

impl Enrolment<'_> {
    async fn go_on(&mut self) -> Result<EnrolledAgent, EnrolmentError> {
        let fingerprint = fingerprint(&self.offered.certificate).map_err(|reason| self.failed(&reason))?;
        let record = match self.record(&fingerprint) {
            Ok(record) => record,
            Err(refusal) => return Err(self.refuse(refusal).await),
        };
        let key = record
            .key()
            .ok_or_else(|| self.failed("the token's record is damaged"))?;
        let exporter = self
            .offered
            .link
            .exporter()
            .ok_or_else(|| self.failed("no TLS exporter"))?;
        let binding = Binding {
            exporter,
            orchestrator_nonce: self.offered.our_nonce,
            agent_nonce: self.offered.agent_nonce,
            agent_certificate: hash(&self.offered.certificate),
            ca: hash(self.trust.as_bytes()),
            token_id: record.id.clone(),
            host: self.host.to_owned(),
        };
        let proof = EnrolmentAsk::Proof {
            mac: binding.prove(&key, Prover::Orchestrator),
            host: self.host.to_owned(),
            ca: self.trust.as_bytes().to_vec(),
        };
        let (mac, csr) = match self.ask(&proof).await? {
            EnrolmentAnswer::Request { mac, csr } => (mac, csr),
            EnrolmentAnswer::Refused(refusal) => return Err(self.failed(&refusal.message)),
            _ => return Err(self.failed("it answered out of order")),
        };
        if !binding.holds(&key, Prover::Agent, &mac) {
            return Err(self
                .refuse(forbidden(format!(
                    "the agent did not prove that it holds token {}: somebody may be listening in between",
                    record.id
                )))
                .await);
        }
        if request_fingerprint(&csr).as_deref() != Some(&fingerprint) {
            return Err(self
                .refuse(forbidden(
                    "the signing request is for another key than the agent's connection",
                ))
                .await);
        }
        if let Err(refusal) = self.book.redeem(&record.id, self.host, &fingerprint) {
            return Err(self.refuse(forbidden(refusal.0)).await);
        }
        let issued = match self.authority.sign_agent(&csr, self.host) {
            Ok(issued) => issued,
            Err(error) => return Err(self.refuse(forbidden(error.to_string())).await),
        };
        let crl = self
            .authority
            .crl()
            .map_err(|error| self.failed(&error.to_string()))?;
        match self
            .ask(&EnrolmentAsk::Grant {
                certificate: issued.der,
                crl,
            })
            .await?
        {
            EnrolmentAnswer::Stored => Ok(EnrolledAgent {
                name: self.host.to_owned(),
                serial: issued.serial,
                not_after: issued.not_after,
                fingerprint,
                program: self.offered.program.clone(),
                clock_skew_ms: self.offered.clock_skew_ms,
            }),
            EnrolmentAnswer::Refused(refusal) => Err(self.failed(&refusal.message)),
            _ => Err(self.failed("it answered out of order")),
        }
    }

    /// The record of the token the agent offers, if it may be used.
    fn record(&self, fingerprint: &str) -> Result<TokenRecord, Refusal> {
        let id: String = self
            .offered
            .token_id
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(32)
            .collect();
        let Some(record) = self.book.find(&id) else {
            return Err(forbidden(format!(
                "the orchestrator knows no token {id}: it was deleted, or made by another installation; create one and put it on the host"
            )));
        };
        record.check(fingerprint, SystemTime::now()).map_err(|refusal| {
            forbidden(format!("{}{}", refusal.0, skew_hint(self.offered.clock_skew_ms)))
        })?;
        Ok(record)
    }

    async fn ask(&mut self, ask: &EnrolmentAsk) -> Result<EnrolmentAnswer, EnrolmentError> {
        let exchange = async {
            self.offered.send.send(ask).await?;
            self.offered.recv.recv_within(MAX_ENROLMENT_MESSAGE).await
        };
        match timeout(STEP_TIMEOUT, exchange).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(self.failed("it ended the conversation")),
            Ok(Err(error)) => Err(self.failed(&error.to_string())),
            Err(_) => Err(self.failed(&format!("no answer within {} s", STEP_TIMEOUT.as_secs()))),
        }
    }

    /// Tells the agent why it goes no further.
    async fn refuse(&mut self, refusal: Refusal) -> EnrolmentError {
        let error = self.failed(&refusal.message);
        if self
            .offered
            .send
            .send(&EnrolmentAsk::Refused(refusal))
            .await
            .is_ok()
        {
            let _ = self.offered.send.finish().await;
            // The agent closes when it has read this.
            let _ = timeout(Duration::from_secs(1), self.offered.link.closed()).await;
        }
        error
    }

    fn failed(&self, reason: &str) -> EnrolmentError {
        let version = self.offered.version;
        tracing::debug!(addr = %self.addr, %version, "enrolment failed: {reason}");
        EnrolmentError::lasting(format!("cannot enrol {} at {}: {reason}", self.host, self.addr))
    }
}

/// What to think of when clocks differ.
pub(super) fn skew_hint(skew_ms: i64) -> String {
    if skew_ms.unsigned_abs() < 60_000 {
        return String::new();
    }
    let orchestrator = SystemTime::now();
    let agent = now_ms().saturating_add(skew_ms);
    let agent = UNIX_EPOCH + Duration::from_millis(u64::try_from(agent).unwrap_or(0));
    format!(
        " (clock skew: the orchestrator's clock says {}, the host's {})",
        show(orchestrator),
        show(agent)
    )
}

fn request_fingerprint(csr: &[u8]) -> Option<String> {
    use x509_parser::prelude::FromDer as _;
    let (_, request) = x509_parser::certification_request::X509CertificationRequest::from_der(csr).ok()?;
    Some(crate::certificate::hex(&hash(
        request.certification_request_info.subject_pki.raw,
    )))
}

/// The certificate the agent showed.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Option<CertificateDer<'static>>>>);

impl Seen {
    fn take(&self) -> Option<CertificateDer<'static>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Takes any certificate and keeps it: it is the proofs that tell who is there. The handshake still shows that the
/// peer holds its key.
#[derive(Debug)]
struct SelfSigned {
    seen: Seen,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for SelfSigned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
