//! Gantry's CA is replaced on real agents, over real connections, with the orchestrator's own code: killed at any moment, with
//! agents that are off, restarted, or enrolled in the middle.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/book.rs"]
mod book;
#[path = "support/mortal.rs"]
mod mortal;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use book::Book;
use gantry::commands::agents::trust;
use gantry::commands::certs::rotation::{self, Progress};
use gantry::session::{AgentSession as _, DialSettings, Dialer, SessionError, Sessions as _};
use gantry::state::{AgentRecord, State};
use gantry_agent::config::Config;
use gantry_agent::enrolment;
use gantry_agent::run::run_until;
use gantry_store::Store;
use gantry_transport::{DialOptions, Identity, Role, Rotation, Token, UdpMode, dial, enrol};
use mortal::Mortal;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// An orchestrator's state, and agents on this machine's own addresses, all at one port.
struct Bed {
    folder: tempfile::TempDir,
    port: u16,
    agents: Vec<Agent>,
}

struct Agent {
    config: Config,
    running: Option<(CancellationToken, JoinHandle<anyhow::Result<()>>)>,
}

impl Bed {
    async fn with_agents(count: u8) -> Self {
        let mut bed = Self {
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            agents: Vec::new(),
        };
        bed.state().authority_or_create().unwrap();
        for _ in 0..count {
            bed.enrol_one_more().await;
        }
        bed
    }

    /// What `gantry enroll` does, up to the moment before it writes the host down.
    async fn enrol_without_a_record(&mut self) -> AgentRecord {
        let number = self.agents.len() + 1;
        let path = |name: &str| self.folder.path().join(format!("agent-{number}")).join(name);
        let host = address(number);
        let config = Config {
            listen: SocketAddr::new(host, self.port),
            root: path("gantry"),
            token_file: path("token"),
            policy_file: path("policy.json"),
            hosts_file: path("hosts"),
            sealer_data: path("sealer"),
            ..Config::default()
        };
        let token = Token::create(Duration::from_secs(60));
        enrolment::drop_token(&config.token_file, &token.to_string()).unwrap();
        let book = Book::with(token.record(1));
        self.agents.push(Agent {
            config,
            running: None,
        });
        self.start(number);
        let authority = self.state().authority().unwrap();
        let options = DialOptions::default();
        let address = SocketAddr::new(host, self.port);
        let name = host.to_string();
        let agent = until(async || enrol(address, &name, &book, &authority, &options).await.ok()).await;
        until(async || self.look(number).await.ok()).await;
        AgentRecord {
            name: agent.name,
            enrolled_at: 0,
            serial: agent.serial,
            not_after: 0,
            fingerprint: agent.fingerprint,
            revoked: false,
            ca: authority.name().unwrap(),
            trust: None,
        }
    }

    async fn enrol_one_more(&mut self) {
        let record = self.enrol_without_a_record().await;
        let host = address(self.agents.len());
        self.state()
            .agents()
            .update(|agents| agents.insert(host, record))
            .unwrap();
    }

    fn state(&self) -> State {
        State::new(self.folder.path())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the next command dials with.
    fn dialer(&self) -> Dialer {
        let settings = DialSettings {
            port: self.port,
            udp: UdpMode::Only,
            timeout: Duration::from_secs(2),
        };
        let identity = self.state().own_identity().unwrap();
        let store = Store::open(self.folder.path()).unwrap();
        Dialer::new(identity, settings, std::collections::BTreeMap::new(), store)
    }

    fn start(&mut self, number: usize) {
        let agent = &mut self.agents[number - 1];
        let stop = CancellationToken::new();
        let running = tokio::spawn(run_until(agent.config.clone(), stop.clone()));
        agent.running = Some((stop, running));
    }

    /// Ends an agent: nobody answers there.
    async fn stop(&mut self, number: usize) {
        let (stop, running) = self.agents[number - 1].running.take().unwrap();
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    /// Starts an agent that was ended, and waits until it serves.
    async fn come_back(&mut self, number: usize) {
        self.start(number);
        until(async || self.look(number).await.ok()).await;
    }

    /// What any command begins with.
    async fn look(&self, number: usize) -> Result<(), SessionError> {
        let dialer = self.dialer();
        let looked = match dialer.session(address(number)).await {
            Ok(session) => session.inventory().await.map(drop),
            Err(error) => Err(error),
        };
        dialer.close().await;
        looked
    }

    async fn must_see(&self, numbers: impl IntoIterator<Item = usize>) {
        for number in numbers {
            if let Err(error) = self.look(number).await {
                panic!("agent {number} is locked out: {error}");
            }
        }
    }

    /// Whether an agent lets somebody in.
    async fn lets_in(&self, number: usize, identity: &Identity) -> bool {
        let address = SocketAddr::new(address(number), self.port);
        let options = DialOptions {
            udp: UdpMode::Only,
            ..DialOptions::default()
        };
        dial(address, identity, &options).await.is_ok()
    }

    fn begin(&self) {
        self.state().authority().unwrap().begin_rotation().unwrap();
    }

    async fn go_on(&self) -> Progress {
        let dialer = self.dialer();
        let progress = rotation::go_on(&self.state(), &dialer, false).await.unwrap();
        dialer.close().await;
        progress
    }

    fn rotation(&self) -> Rotation {
        self.state().authority().unwrap().rotation()
    }
}

fn address(number: usize) -> IpAddr {
    IpAddr::from([127, 0, 0, u8::try_from(number).unwrap()])
}

fn hosts(progress: &Progress) -> Vec<IpAddr> {
    match progress {
        Progress::HostsToGo(hosts) | Progress::HostsToHear(hosts) => {
            hosts.iter().map(|(host, _)| *host).collect()
        }
        Progress::IdentitiesToGo(_) | Progress::Done => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_at_any_moment_goes_on_and_locks_nobody_out() {
    let bed = Bed::with_agents(2).await;
    for moment in 0.. {
        let before = bed.state().own_identity().unwrap();
        bed.begin();
        let (state, mortal) = (bed.state(), Mortal::new(bed.dialer(), moment));
        let rotated = tokio::select! {
            rotated = rotation::go_on(&state, &mortal, false) => Some(rotated.unwrap()),
            () = mortal.died() => None,
        };
        mortal.dialer.close().await;
        bed.must_see(1..=2).await;
        let killed = rotated.is_none();
        assert_eq!(
            if killed {
                bed.go_on().await
            } else {
                rotated.unwrap()
            },
            Progress::Done,
            "killed at moment {moment}"
        );
        bed.must_see(1..=2).await;
        assert_eq!(bed.rotation(), Rotation::Settled);
        if !killed {
            for number in 1..=2 {
                assert!(!bed.lets_in(number, &before).await, "the old CA lets nobody in");
            }
            // Two agents, each dialled once and asked three and one times.
            assert!(moment >= 16, "there were {moment} moments only");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_off_keeps_the_overlap_open_and_is_moved_when_it_comes_back() {
    let mut bed = Bed::with_agents(2).await;
    let ann = bed
        .state()
        .authority()
        .unwrap()
        .issue_operator("ann", Role::Operator)
        .unwrap();
    bed.stop(2).await;
    bed.begin();
    for _ in 0..2 {
        assert_eq!(hosts(&bed.go_on().await), [address(2)]);
        assert_eq!(bed.rotation(), Rotation::Overlap);
    }
    bed.come_back(2).await;
    // It knows the old CA alone, and the orchestrator shows a certificate of the new one.
    bed.must_see([1, 2]).await;
    assert!(bed.lets_in(1, &ann).await && bed.lets_in(2, &ann).await);

    let Progress::IdentitiesToGo(identities) = bed.go_on().await else {
        panic!("ann has an identity of the old CA")
    };
    assert_eq!(identities.len(), 1);
    assert_eq!(
        (identities[0].name.as_str(), identities[0].serial.as_str()),
        ("ann", ann.serial())
    );
    // Made anew, it knows the new CA alone: every agent has a certificate of that.
    let (state, authority) = (bed.state(), bed.state().authority().unwrap());
    let anew = authority.issue_operator("ann", Role::Operator).unwrap();
    let anew = rotation::without_old_ca(&state, &authority, anew).unwrap();
    assert_eq!(anew.trust().names().collect::<Vec<_>>(), [anew.ca()]);
    assert!(bed.lets_in(1, &anew).await);

    bed.stop(1).await;
    let heard = bed.go_on().await;
    assert!(matches!(heard, Progress::HostsToHear(_)), "{heard:?}");
    assert_eq!(hosts(&heard), [address(1)]);
    assert!(!bed.lets_in(2, &ann).await, "the old CA is dropped there");
    bed.come_back(1).await;
    bed.must_see([1, 2]).await;
    // Whichever command comes next tells it.
    let dialer = bed.dialer();
    let missed = trust::deliver(&bed.state(), &dialer, None).await.unwrap();
    assert!(missed.is_empty(), "{missed:?}");
    dialer.close().await;
    assert!(!bed.lets_in(1, &ann).await && bed.lets_in(1, &anew).await);
    assert_eq!(bed.go_on().await, Progress::Done);
    bed.must_see([1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_enrolled_in_between_and_hosts_that_nobody_wrote_down_are_taken_along() {
    let mut bed = Bed::with_agents(1).await;
    // `gantry enroll` was killed at its very end.
    bed.enrol_without_a_record().await;
    bed.begin();
    // Nobody wrote it down either, and this one is of the new CA.
    bed.enrol_without_a_record().await;
    bed.enrol_one_more().await;
    bed.stop(2).await;
    assert_eq!(hosts(&bed.go_on().await), [address(2)]);
    bed.come_back(2).await;
    assert_eq!(bed.go_on().await, Progress::Done);
    bed.must_see(1..=4).await;
    assert_eq!(bed.state().agents().all().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_given_a_certificate_of_the_old_ca_late_is_moved_before_it_hears() {
    let bed = Bed::with_agents(1).await;
    // As if another command had written down more than the agent has.
    bed.begin();
    let state = bed.state();
    let new = state.authority().unwrap().name().unwrap();
    state
        .agents()
        .update(|agents| agents.get_mut(&address(1)).unwrap().ca = new)
        .unwrap();
    assert_eq!(bed.go_on().await, Progress::Done);
    bed.must_see([1]).await;
    assert!(!bed.path("orchestrator/pki/ca.key.pem").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_is_not_waited_for_and_stays_revoked() {
    let mut bed = Bed::with_agents(2).await;
    bed.stop(2).await;
    let state = bed.state();
    let serial = state.agents().all().unwrap()[&address(2)].serial.clone();
    state.authority().unwrap().revoke(&serial).unwrap();
    state
        .agents()
        .update(|agents| agents.get_mut(&address(2)).unwrap().revoked = true)
        .unwrap();
    bed.begin();
    assert_eq!(bed.go_on().await, Progress::Done);
    bed.start(2);
    assert!(bed.state().own_identity().unwrap().is_revoked(&serial));
    bed.must_see([1]).await;
    bed.stop(2).await;
}

/// Tries again until it works; a minute is more than anything here takes.
async fn until<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..1200 {
        if let Some(value) = attempt().await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never worked");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    listener.local_addr().unwrap().port()
}
