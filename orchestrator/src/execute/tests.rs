//! The executor against scripted agents: what runs, in which order, and what a failure stops.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gantry_model::{
    ClusterHealth, ClusterName, Digest, ExitCode, ImageEvidence, Inventory, JoinPass, ScriptOutcome, Step,
    StepAction, StepId, StepOutcome,
};
use gantry_protocol::StepEvent;

use super::*;
use crate::plan::{Mark, PLAN_VERSION, PlannedHost, Purpose};
use crate::session::{AgentSession, SessionError};

/// What an agent answers to its next runs; when nothing is left, it succeeds.
type Answers = VecDeque<Result<StepOutcome, SessionError>>;

/// Agents that answer as they were told, and note what they were asked.
#[derive(Clone, Default)]
struct Agents {
    answers: Arc<Mutex<BTreeMap<IpAddr, Answers>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

struct Agent {
    host: IpAddr,
    agents: Agents,
}

impl Agents {
    fn answers(
        self,
        host: &str,
        answers: impl IntoIterator<Item = Result<StepOutcome, SessionError>>,
    ) -> Self {
        self.answers
            .lock()
            .unwrap()
            .insert(host.parse().unwrap(), answers.into_iter().collect());
        self
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Sessions for Agents {
    type Session = Agent;

    async fn session(&self, host: IpAddr) -> Result<Agent, SessionError> {
        Ok(Agent {
            host,
            agents: self.clone(),
        })
    }
}

impl AgentSession for Agent {
    async fn bring_image_key(&self, _: String) -> Result<(), SessionError> {
        unreachable!("it is brought before a plan is executed")
    }

    async fn verify_image(&self, _: &ImageEvidence) -> Result<(), SessionError> {
        unreachable!("these plans have no image")
    }

    async fn knows(&self, _: &Step) -> Result<(), SessionError> {
        unreachable!("it is asked before a plan is executed")
    }

    async fn give_snapshot(
        &self,
        _: &ClusterName,
        _: Digest,
        _: mpsc::Receiver<Bytes>,
    ) -> Result<(), SessionError> {
        unreachable!("executing asks for steps alone")
    }

    async fn etcd_snapshot(&self, _: &ClusterName, _: mpsc::Sender<Bytes>) -> Result<(), SessionError> {
        unreachable!("no step asks for it")
    }

    async fn kubeconfig(&self, _: &ClusterName) -> Result<String, SessionError> {
        unreachable!("no step asks for it")
    }

    async fn signing_request(&self) -> Result<Vec<u8>, SessionError> {
        unreachable!("no step asks for it")
    }

    async fn take_certificate(&self, _: Vec<u8>) -> Result<(), SessionError> {
        unreachable!("no step needs it")
    }

    async fn cluster_health(&self, _: &ClusterName) -> Result<ClusterHealth, SessionError> {
        unreachable!("no step asks for it")
    }

    async fn join_pass(&self, _: &ClusterName, _: bool) -> Result<JoinPass, SessionError> {
        unreachable!("no step here joins a cluster")
    }

    async fn run(
        &self,
        step: &Step,
        _: Option<JoinPass>,
        events: mpsc::Sender<StepEvent>,
    ) -> Result<StepOutcome, SessionError> {
        self.agents
            .asked
            .lock()
            .unwrap()
            .push(format!("{} {}", self.host, step.action.title()));
        let line = b"a line".to_vec();
        let _ = events.send(StepEvent::Output { stderr: false, line }).await;
        let answer = self
            .agents
            .answers
            .lock()
            .unwrap()
            .get_mut(&self.host)
            .and_then(VecDeque::pop_front);
        answer.unwrap_or(Ok(StepOutcome::Done { generation: None }))
    }

    async fn inventory(&self) -> Result<Inventory, SessionError> {
        Err(SessionError::Protocol("not asked for here".into()))
    }

    async fn drift(&self, _: &ClusterName) -> Result<Vec<String>, SessionError> {
        Ok(vec![])
    }

    async fn logs(
        &self,
        _: StepId,
        _: bool,
        _: mpsc::Sender<StepEvent>,
    ) -> Result<Option<StepOutcome>, SessionError> {
        Ok(None)
    }

    async fn trust(&self, _: String) -> Result<(), SessionError> {
        Ok(())
    }

    fn path(&self) -> String {
        "quic".into()
    }
}

fn lost() -> Result<StepOutcome, SessionError> {
    Err(SessionError::Lost("the agent restarts".into()))
}

fn failed() -> Result<StepOutcome, SessionError> {
    Ok(StepOutcome::Script(ScriptOutcome::Exited(1)))
}

/// Two hosts: stage, then two steps in a second wave.
fn plan(keep_going: bool) -> Plan {
    let cluster: ClusterName = "demo".parse().unwrap();
    let hosts: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap()];
    let step = |host: &IpAddr, action: StepAction| {
        PlannedStep::new(
            *host,
            Step {
                action,
                after: vec![],
            },
            Mark::Add,
            "not done yet",
        )
    };
    let stage = StepAction::Stage {
        image: Digest::of(b""),
        layers: vec![],
    };
    let entries = StepAction::WriteHostsEntries {
        cluster: cluster.clone(),
        entries: vec![],
    };
    let rootfs = StepAction::AssembleRootfs {
        cluster: cluster.clone(),
        image: Digest::of(b""),
        layers: vec![],
    };
    let wave = |title: &str, actions: &[&StepAction]| Wave {
        title: title.into(),
        keep_going,
        steps: hosts
            .iter()
            .flat_map(|host| actions.iter().map(|&action| step(host, action.clone())))
            .collect(),
    };
    Plan {
        kubernetes: None,
        version: PLAN_VERSION,
        purpose: Purpose::Apply,
        cluster: cluster.clone(),
        image: None,
        hosts: hosts
            .iter()
            .map(|host| PlannedHost {
                etcd: false,
                node: String::new(),
                kubernetes: None,
                place: crate::plan::Place::Stays,
                address: *host,
                seen: None,
                ports: vec![],
            })
            .collect(),
        waves: vec![wave("stage", &[&stage]), wave("rootfs", &[&rootfs, &entries])],
    }
}

async fn run(plan: &Plan, agents: &Agents) -> (RunOutcome, Vec<EventKind>) {
    let (events, mut received) = mpsc::channel(MAX_WAITING_EVENTS);
    let backoff = Backoff {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(2),
        whole: Duration::from_secs(5),
    };
    let settings = Settings {
        backoff,
        ..Settings::default()
    };
    let outcome = execute(plan, agents, &settings, &events).await;
    drop(events);
    let mut seen = Vec::new();
    while let Some(event) = received.recv().await {
        seen.push(event.kind);
    }
    (outcome, seen)
}

#[tokio::test(start_paused = true)]
async fn every_host_stages_before_any_host_changes() {
    let agents = Agents::default();
    let (outcome, _) = run(&plan(false), &agents).await;
    assert_eq!(outcome.exit_code(), ExitCode::Done);
    let asked = agents.asked();
    assert_eq!(asked.len(), 6);
    assert!(
        asked[..2].iter().all(|asked| asked.ends_with("stage")),
        "{asked:?}"
    );
    let of_one = |host: &str| {
        asked
            .iter()
            .filter(|asked| asked.starts_with(host))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of_one("10.0.0.3"),
        ["10.0.0.3 stage", "10.0.0.3 rootfs", "10.0.0.3 hosts entries"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_to_stage_keeps_all_hosts_unchanged_and_the_others_staged() {
    let no_space = Ok(StepOutcome::Failed("not enough room".into()));
    let agents = Agents::default().answers("10.0.0.2", [no_space]);
    let (outcome, _) = run(&plan(false), &agents).await;
    assert_eq!(outcome.exit_code(), ExitCode::SomeHostsFailed);
    assert_eq!(outcome.stopped_after.as_deref(), Some("stage"));
    assert!(agents.asked().iter().all(|asked| asked.ends_with("stage")));
    assert_eq!(agents.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn damage_on_one_host_changes_no_host_and_is_a_failed_verification() {
    let damaged = Ok(StepOutcome::Damaged("layer 0123, bin/kubelet".into()));
    let agents = Agents::default().answers("10.0.0.2", [damaged]);
    let (outcome, _) = run(&plan(false), &agents).await;
    assert_eq!(outcome.exit_code(), ExitCode::Verification);
    assert!(agents.asked().iter().all(|asked| asked.ends_with("stage")));
    let summary = crate::report::summary::summary(&plan(false), &outcome, Duration::from_secs(3));
    assert!(
        summary.contains("failed on 10.0.0.2: layer 0123, bin/kubelet"),
        "{summary}"
    );
}

#[tokio::test(start_paused = true)]
async fn taking_down_goes_on_without_the_host_that_failed() {
    let agents = Agents::default().answers("10.0.0.2", [failed()]);
    let (outcome, _) = run(&plan(true), &agents).await;
    assert_eq!(outcome.exit_code(), ExitCode::SomeHostsFailed);
    let asked = agents.asked();
    assert_eq!(
        asked.iter().filter(|asked| asked.starts_with("10.0.0.2")).count(),
        1
    );
    assert_eq!(
        asked.iter().filter(|asked| asked.starts_with("10.0.0.3")).count(),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_agent_is_asked_again_for_the_same_step() {
    let agents = Agents::default().answers("10.0.0.2", [lost(), lost()]);
    let (outcome, events) = run(&plan(false), &agents).await;
    assert_eq!(outcome.exit_code(), ExitCode::Done);
    let stages = agents
        .asked()
        .iter()
        .filter(|asked| *asked == "10.0.0.2 stage")
        .count();
    assert_eq!(stages, 3);
    let waits = events
        .iter()
        .filter(|event| matches!(event, EventKind::Waiting { .. }))
        .count();
    assert_eq!(waits, 2);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_stays_away_is_given_up_and_named_unreachable() {
    let away = || std::iter::repeat_with(lost).take(9);
    let agents = Agents::default()
        .answers("10.0.0.2", away())
        .answers("10.0.0.3", away());
    let (outcome, events) = run(&plan(false), &agents).await;
    assert_eq!(outcome.exit_code(), ExitCode::Unreachable);
    assert!(events.iter().any(|event| matches!(event, EventKind::GaveUp(_))));
}

#[tokio::test(start_paused = true)]
async fn a_failed_script_shows_its_last_lines() {
    let done = || Ok(StepOutcome::Done { generation: None });
    let agents = Agents::default().answers("10.0.0.3", [done(), failed()]);
    let (outcome, _) = run(&plan(false), &agents).await;
    let (host, failure) = outcome.failures().next().unwrap();
    assert_eq!(host.to_string(), "10.0.0.3");
    assert_eq!(failure.title, "rootfs");
    assert_eq!(failure.reason(), "exit status 1");
    assert_eq!(failure.last_lines, [b"a line".to_vec()]);
    let summary = crate::report::summary::summary(&plan(false), &outcome, Duration::from_secs(3));
    assert!(summary.contains("gantry logs -c demo 10.0.0.3"), "{summary}");
}
