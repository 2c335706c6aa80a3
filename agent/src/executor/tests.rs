//! The executor with a store and a journal of its own: what runs, what is answered, what survives.

use gantry_model::{
    ClusterName, CommandMoment, CommandOrigin, Digest, HostsEntry, ScriptSpec, ShellCommand, Step,
    StepAction, StepOutcome,
};
use gantry_protocol::RefusalKind;
use gantry_store::Store;

use super::*;
use crate::config::Config;
use crate::host::Host;
use crate::journal::Journal;

struct Bed {
    _folder: tempfile::TempDir,
    config: Config,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = Config {
            root: path("gantry"),
            hosts_file: path("hosts"),
            policy_file: path("policy.json"),
            sealer_data: path("sealer"),
            ..Config::default()
        };
        std::fs::create_dir_all(config.agent()).unwrap();
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        std::fs::write(&config.policy_file, policy).unwrap();
        Self {
            _folder: folder,
            config,
        }
    }

    fn executor(&self) -> Executor {
        let (journal, damage) = Journal::open(&self.config.journal()).unwrap();
        assert!(damage.is_empty());
        Executor::start(
            Host::new(&self.config, Store::open(&self.config.root).unwrap()),
            journal,
        )
    }
}

fn demo() -> ClusterName {
    "demo".parse().unwrap()
}

fn hosts(name: &str) -> Step {
    let entry = HostsEntry {
        address: "10.0.0.1".parse().unwrap(),
        names: vec![name.into()],
    };
    Step {
        action: StepAction::WriteHostsEntries {
            cluster: demo(),
            entries: vec![entry],
        },
        after: vec![],
    }
}

fn forget() -> Step {
    Step {
        action: StepAction::ForgetCluster { cluster: demo() },
        after: vec![],
    }
}

async fn outcome(executor: &Executor, step: &Step) -> StepOutcome {
    match executor.run(step.clone(), None, None).await.unwrap() {
        Answer::Running(mut watch) => watch.ended().await.unwrap(),
        Answer::AlreadyDone(outcome) | Answer::Over(outcome) => outcome,
    }
}

async fn was_done(executor: &Executor, step: &Step) -> bool {
    matches!(
        executor.run(step.clone(), None, None).await.unwrap(),
        Answer::AlreadyDone(_)
    )
}

const DONE: StepOutcome = StepOutcome::Done { generation: None };

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_done_once_and_recorded() {
    let bed = Bed::new();
    let executor = bed.executor();
    assert_eq!(outcome(&executor, &hosts("sea.hub")).await, DONE);
    assert!(was_done(&executor, &hosts("sea.hub")).await);
    let records = executor.records().await.unwrap();
    assert_eq!((records.len(), &records[0].outcome), (1, &Some(DONE)));
    assert!(Journal::look(&bed.config.journal()).unwrap()[0].outcome.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_no_image_brings_need_the_hosts_leave() {
    let mut bed = Bed::new();
    let step = Step {
        action: StepAction::RunShellCommand(ShellCommand {
            cluster: demo(),
            origin: CommandOrigin::Plugin("dns".into()),
            when: CommandMoment::BeforeInit,
            text: "true".into(),
            env: [].into(),
            time_limit_s: 1,
        }),
        after: vec![],
    };
    let executor = bed.executor();
    let refused = executor.run(step.clone(), None, None).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Forbidden);
    assert!(
        refused.message.contains("plugin dns") && refused.message.contains("allow_exec = true"),
        "{refused:?}"
    );
    assert!(executor.records().await.unwrap().is_empty(), "nothing was begun");
    drop(executor);
    bed.config.allow_exec = true;
    let executor = bed.executor();
    let StepOutcome::Failed(why) = outcome(&executor, &step).await else {
        panic!("there is no rootfs here");
    };
    assert!(why.contains("demo"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_was_changed_by_hand_is_put_right() {
    let bed = Bed::new();
    let executor = bed.executor();
    outcome(&executor, &hosts("sea.hub")).await;
    std::fs::write(&bed.config.hosts_file, "127.0.0.1 localhost\n").unwrap();
    assert_eq!(outcome(&executor, &hosts("sea.hub")).await, DONE);
    assert!(
        std::fs::read_to_string(&bed.config.hosts_file)
            .unwrap()
            .contains("sea.hub")
    );
    let expected = executor.expected(demo()).await.unwrap();
    assert!(expected.block.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_that_is_here_already_is_recorded_as_done() {
    let bed = Bed::new();
    outcome(&bed.executor(), &hosts("sea.hub")).await;
    std::fs::remove_file(bed.config.journal()).unwrap();
    let executor = bed.executor();
    assert!(was_done(&executor, &hosts("sea.hub")).await);
    assert_eq!(executor.records().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn forgetting_leaves_no_record_of_the_cluster() {
    let bed = Bed::new();
    let executor = bed.executor();
    outcome(&executor, &hosts("sea.hub")).await;
    for _ in 0..2 {
        assert_eq!(outcome(&executor, &forget()).await, DONE);
        assert!(executor.records().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_or_fails_with_its_reason() {
    let bed = Bed::new();
    let executor = bed.executor();
    let refused = executor.run(hosts("not a name"), None, None).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Invalid);
    let action = StepAction::AssembleRootfs {
        cluster: demo(),
        image: Digest::of(b"image"),
        layers: vec![Digest::of(b"nowhere")],
    };
    let StepOutcome::Failed(reason) = outcome(
        &executor,
        &Step {
            action,
            after: vec![],
        },
    )
    .await
    else {
        panic!("a layer is missing")
    };
    assert!(reason.contains("stage the image first"), "{reason}");
    let spec = ScriptSpec {
        cluster: demo(),
        path: "scripts/init.sh".into(),
        args: vec![],
        env: [].into(),
        time_limit_s: 0,
    };
    let script = Step {
        action: StepAction::RunScript(spec),
        after: vec![],
    };
    let StepOutcome::Failed(reason) = outcome(&executor, &script).await else {
        panic!("there is no rootfs")
    };
    assert!(reason.contains("no rootfs"), "{reason}");
    assert!(matches!(
        outcome(&executor, &script).await,
        StepOutcome::Failed(_)
    ));
    assert_eq!(
        executor.cancel(script.id()).await.unwrap_err().kind,
        RefusalKind::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_did_not_see_to_its_end_is_unknown_and_done_again() {
    let bed = Bed::new();
    let (mut journal, _) = Journal::open(&bed.config.journal()).unwrap();
    journal.start(&hosts("sea.hub"), 1).unwrap();
    drop(journal);
    let executor = bed.executor();
    let (record, running) = executor.find(hosts("sea.hub").id()).await.unwrap();
    assert_eq!(record.unwrap().outcome, Some(StepOutcome::Unknown));
    assert!(running.is_none());
    assert_eq!(outcome(&executor, &hosts("sea.hub")).await, DONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_executor_takes_nothing_and_says_so() {
    let bed = Bed::new();
    let executor = bed.executor();
    outcome(&executor, &hosts("sea.hub")).await;
    executor.drain().await;
    assert_eq!(
        executor.run(hosts("other"), None, None).await.unwrap_err().kind,
        RefusalKind::Draining
    );
}
