//! The agent's side of an enrolment.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use gantry_protocol::greeting::{Speaker, VersionMismatch};
use gantry_protocol::{
    ALPN_ENROLMENT, CloseCode, EnrolmentAnswer, EnrolmentAsk, ProtocolVersion, Refusal, RefusalKind,
};
use gantry_system::clock::now_ms;
use rcgen::CertificateParams;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::orchestrator::skew_hint;
use super::proof::{Binding, Prover, hash, nonce};
use super::token::Token;
use super::{EnrolmentError, MAX_ENROLMENT_MESSAGE, STEP_TIMEOUT, forbidden};
use crate::certificate::{Role, is_name, show};
use crate::closed::Closed;
use crate::door::{Door, Doorkeeper, Knock, derived_secret};
use crate::identity::{AgentKey, Identity};
use crate::link::Link;
use crate::streams::{RecvStream, SendStream, StreamError};
use crate::tls;
use crate::trust::Trust;
use crate::verify::check_own;

/// Wrong proofs from one address before it has to wait.
const MAX_FAILURES: u32 = 5;
/// How long it waits then.
const FAILURE_TIME: Duration = Duration::from_secs(60);
/// Addresses remembered; beyond that the oldest failures are forgotten.
const MAX_FAILING_ADDRESSES: usize = 1024;

/// Listens, on the port the agent will have later, until an orchestrator that holds the token came.
#[derive(Debug)]
pub struct EnrolmentListener {
    door: Door,
    granted: mpsc::Receiver<Granted>,
}

/// An identity to be stored; the conversation waits for the answer.
struct Granted {
    identity: Identity,
    stored: oneshot::Sender<io::Result<()>>,
    /// Ends when the orchestrator was told.
    told: oneshot::Receiver<()>,
}

impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Granted({:?})", self.identity)
    }
}

impl EnrolmentListener {
    /// Listens on `addr` with UDP and TCP. `program` is this program's version, for messages to people.
    ///
    /// # Errors
    /// When the port is taken or may not be used, or the key does not work.
    pub async fn bind(addr: SocketAddr, key: AgentKey, token: Token, program: &str) -> io::Result<Self> {
        let certificate = CertificateParams::default()
            .self_signed(key.pair())
            .map_err(io::Error::other)?;
        let (tx, granted) = mpsc::channel(1);
        let keeper = EnrolmentKeeper {
            key,
            certificate: certificate.der().clone(),
            token,
            speaker: Speaker::this(program),
            failures: Mutex::default(),
            one_at_a_time: AsyncMutex::new(()),
            granted: tx,
        };
        let door = Door::open(addr, Arc::new(keeper), true, None).await?;
        Ok(Self { door, granted })
    }

    /// The address listened on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.door.local_addr()
    }

    /// Waits for the orchestrator. `store` must save the identity durably; only then is the orchestrator told.
    /// The caller removes the token's file afterwards and goes on with [`crate::Listener`] on the same port.
    ///
    /// # Errors
    /// When `store` fails; the orchestrator is told, and the token may be tried again by this host.
    pub async fn wait(
        mut self,
        store: impl Fn(&Identity) -> io::Result<()> + Send,
    ) -> Result<Identity, EnrolmentError> {
        // The door holds a sender for as long as it is open.
        let Some(granted) = self.granted.recv().await else {
            return Err(EnrolmentError::lasting(
                "the enrolment listener was closed".into(),
            ));
        };
        let result = store(&granted.identity);
        let failure = result.as_ref().err().map(|error| {
            EnrolmentError::lasting(format!(
                "enrolled, but the identity cannot be stored: {error}; make room and restart gantry-agent"
            ))
        });
        let _ = granted.stored.send(result);
        let _ = timeout(STEP_TIMEOUT, granted.told).await;
        self.door.shut().await;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(granted.identity),
        }
    }
}

#[derive(Debug)]
struct EnrolmentKeeper {
    key: AgentKey,
    certificate: CertificateDer<'static>,
    token: Token,
    speaker: Speaker,
    failures: Mutex<HashMap<IpAddr, (u32, Instant)>>,
    /// Held from a proof that holds until the identity is stored.
    one_at_a_time: AsyncMutex<()>,
    granted: mpsc::Sender<Granted>,
}

impl Doorkeeper for EnrolmentKeeper {
    type Session = ();

    fn tls(&self) -> Result<(ServerConfig, ()), rustls::Error> {
        let config = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(
                vec![self.certificate.clone()],
                PrivateKeyDer::Pkcs8(self.key.der()),
            )?;
        Ok((tls::hardened(config, ALPN_ENROLMENT), ()))
    }

    fn secret(&self) -> [u8; 32] {
        derived_secret(self.key.der().secret_pkcs8_der())
    }

    fn explain(&self, (): &(), closed: &Closed) -> String {
        if closed.other_protocol {
            "it asked for a session, but this host is not enrolled yet".into()
        } else {
            closed.reason.clone()
        }
    }

    async fn welcome(self: Arc<Self>, link: Link, _session: Arc<()>) -> Result<(), Knock> {
        let result = self.converse(&link).await;
        if let Err(Knock::Refused(reason)) = &result {
            // The refusal was sent; closing at once could overtake it.
            let _ = timeout(Duration::from_secs(1), link.closed()).await;
            link.close(CloseCode::Forbidden, reason);
        }
        result
    }
}

impl EnrolmentKeeper {
    async fn converse(&self, link: &Link) -> Result<(), Knock> {
        let (mut send, mut recv) = within(link.accept_bi()).await?;
        let hello = within(recv.recv_within(MAX_ENROLMENT_MESSAGE)).await?;
        let Some(EnrolmentAsk::Hello {
            oldest,
            newest,
            program,
            clock_ms,
            nonce: their_nonce,
            ca_hash,
        }) = hello
        else {
            return Err(Knock::refused("it did not begin an enrolment with a hello"));
        };
        let from = link.remote_addr().ip().to_canonical();
        let orchestrator = Speaker {
            oldest,
            newest,
            program,
        };
        let version = match self.may_go_on(from, &orchestrator, clock_ms) {
            Ok(version) => version,
            Err(refusal) => return refuse(&mut send, refusal).await,
        };
        let our_nonce = nonce().ok_or_else(|| Knock::refused("the system's random numbers fail"))?;
        let offer = EnrolmentAnswer::Offer {
            version,
            program: self.speaker.program.clone(),
            clock_ms: now_ms(),
            nonce: our_nonce,
            token_id: self.token.id().to_owned(),
        };
        let proof = exchange(&mut send, &mut recv, &offer).await?;
        let (mac, host, ca) = match proof {
            EnrolmentAsk::Proof { mac, host, ca } => (mac, host, ca),
            EnrolmentAsk::Refused(refusal) => return Err(told(&refusal)),
            _ => return Err(Knock::refused("it answered out of order")),
        };
        let binding = Binding {
            exporter: link.exporter().ok_or_else(|| Knock::refused("no TLS exporter"))?,
            orchestrator_nonce: their_nonce,
            agent_nonce: our_nonce,
            agent_certificate: hash(&self.certificate),
            ca: ca_hash,
            token_id: self.token.id().to_owned(),
            host: host.clone(),
        };
        let key = self.token.key();
        if !binding.holds(&key, Prover::Orchestrator, &mac) || hash(&ca) != ca_hash || !is_name(&host) {
            self.failed(from);
            let id = self.token.id();
            return refuse(
                &mut send,
                forbidden(format!(
                    "the orchestrator did not prove that it holds token {id}: it is another token, or somebody is listening in between"
                )),
            )
            .await;
        }
        let Ok(_only) = self.one_at_a_time.try_lock() else {
            let busy = Refusal {
                kind: RefusalKind::Busy,
                message: "another enrolment of this host is under way".into(),
            };
            return refuse(&mut send, busy).await;
        };
        let csr = CertificateParams::default()
            .serialize_request(self.key.pair())
            .map_err(|error| Knock::refused(format!("this host cannot make a signing request: {error}")))?;
        let request = EnrolmentAnswer::Request {
            mac: binding.prove(&key, Prover::Agent),
            csr: csr.der().to_vec(),
        };
        let (certificate, crl) = match exchange(&mut send, &mut recv, &request).await? {
            EnrolmentAsk::Grant { certificate, crl } => (certificate, crl),
            EnrolmentAsk::Refused(refusal) => return Err(told(&refusal)),
            _ => return Err(Knock::refused("it answered out of order")),
        };
        match self.take(&host, certificate, &ca, &crl) {
            Ok(identity) => self.store(identity, &mut send, link).await,
            Err(reason) => {
                refuse(
                    &mut send,
                    forbidden(format!("the host cannot take its certificate: {reason}")),
                )
                .await
            }
        }
    }

    /// Whether the conversation may go on after the hello, and in which version.
    fn may_go_on(
        &self,
        from: IpAddr,
        orchestrator: &Speaker,
        clock_ms: i64,
    ) -> Result<ProtocolVersion, Refusal> {
        let us = &self.speaker;
        let agreed =
            ProtocolVersion::agree((us.oldest, us.newest), (orchestrator.oldest, orchestrator.newest));
        let Some(version) = agreed else {
            let mismatch = VersionMismatch {
                orchestrator: orchestrator.clone(),
                agent: us.clone(),
            };
            return Err(Refusal {
                kind: RefusalKind::Invalid,
                message: mismatch.to_string(),
            });
        };
        let now = SystemTime::now();
        if now >= self.token.expires() {
            return Err(forbidden(format!(
                "token {} expired at {}, and the host's clock says {}: create another, or set the clock if it is wrong{}",
                self.token.id(),
                show(self.token.expires()),
                show(now),
                skew_hint(clock_ms.saturating_sub(now_ms()).saturating_neg()),
            )));
        }
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get(&from) {
            Some((count, last)) if *count >= MAX_FAILURES && last.elapsed() < FAILURE_TIME => Err(Refusal {
                kind: RefusalKind::Busy,
                message: format!(
                    "too many wrong proofs came from {from}: wait {} s",
                    FAILURE_TIME.as_secs()
                ),
            }),
            _ => Ok(version),
        }
    }

    fn failed(&self, from: IpAddr) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, (_, last)| last.elapsed() < FAILURE_TIME);
        if failures.len() < MAX_FAILING_ADDRESSES || failures.contains_key(&from) {
            let failure = failures.entry(from).or_insert((0, Instant::now()));
            *failure = (failure.0 + 1, Instant::now());
        }
    }

    /// Checks that the certificate is what was promised: for this key and name, signed by a CA that is to be trusted, valid now.
    fn take(&self, host: &str, certificate: Vec<u8>, ca: &[u8], crl: &[u8]) -> Result<Identity, String> {
        let trust = Trust::read(ca).and_then(|trust| trust.with_list(crl));
        let trust = trust.map_err(|error| error.to_string())?;
        let identity =
            Identity::new(self.key.der(), certificate.into(), trust).map_err(|error| error.to_string())?;
        if identity.role() != Role::Agent || identity.name() != host {
            return Err(format!(
                "it is of {} {}, not of agent {host}",
                identity.role(),
                identity.name()
            ));
        }
        check_own(&identity, UnixTime::now()).map_err(|problem| problem.to_string())?;
        Ok(identity)
    }

    async fn store(&self, identity: Identity, send: &mut SendStream, link: &Link) -> Result<(), Knock> {
        let (stored, answer) = oneshot::channel();
        let (told, told_rx) = oneshot::channel();
        let granted = Granted {
            identity,
            stored,
            told: told_rx,
        };
        if self.granted.send(granted).await.is_err() {
            return Err(Knock::refused("this host is shutting down"));
        }
        match answer.await {
            Ok(Ok(())) => {
                send.send(&EnrolmentAnswer::Stored).await.map_err(Knock::failed)?;
                let _ = send.finish().await;
                // The orchestrator closes once it has read it.
                let _ = timeout(STEP_TIMEOUT / 2, link.closed()).await;
                let _ = told.send(());
                Ok(())
            }
            Ok(Err(error)) => {
                let refusal = forbidden(format!("the host cannot store its identity: {error}"));
                let knock = refuse(send, refusal).await;
                let _ = timeout(Duration::from_secs(1), link.closed()).await;
                let _ = told.send(());
                knock
            }
            Err(_) => Err(Knock::refused("this host is shutting down")),
        }
    }
}

/// Sends a refusal; the reason is also this side's line in the log.
async fn refuse(send: &mut SendStream, refusal: Refusal) -> Result<(), Knock> {
    let reason = refusal.message.clone();
    send.send(&EnrolmentAnswer::Refused(refusal))
        .await
        .map_err(Knock::failed)?;
    let _ = send.finish().await;
    Err(Knock::refused(reason))
}

/// The orchestrator goes no further.
fn told(refusal: &Refusal) -> Knock {
    let message: String = refusal
        .message
        .chars()
        .filter(|c| !c.is_control())
        .take(512)
        .collect();
    Knock::refused(format!("the orchestrator refused: {message}"))
}

async fn exchange(
    send: &mut SendStream,
    recv: &mut RecvStream,
    answer: &EnrolmentAnswer,
) -> Result<EnrolmentAsk, Knock> {
    within(send.send(answer)).await?;
    within(recv.recv_within(MAX_ENROLMENT_MESSAGE))
        .await?
        .ok_or_else(|| Knock::refused("it ended the conversation"))
}

async fn within<T>(step: impl Future<Output = Result<T, StreamError>>) -> Result<T, Knock> {
    match timeout(STEP_TIMEOUT, step).await {
        Ok(result) => result.map_err(Knock::failed),
        Err(_) => Err(Knock::refused(format!(
            "it said nothing for {} s",
            STEP_TIMEOUT.as_secs()
        ))),
    }
}
