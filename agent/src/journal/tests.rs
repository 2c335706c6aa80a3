//! What a journal remembers across restarts, and what it forgets.

use std::fs;

use gantry_model::{Digest, GenerationId, KubeadmAct, KubeadmSpec, ScriptOutcome, ScriptSpec, StepAction};
use proptest::prelude::*;

use super::*;

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn assemble(name: &str, image: &str) -> Step {
    let action = StepAction::AssembleRootfs {
        cluster: cluster(name),
        image: Digest::of(image.as_bytes()),
        layers: vec![Digest::of(b"layer")],
    };
    Step {
        action,
        after: vec![],
    }
}

fn script(name: &str, path: &str, after: Vec<StepId>) -> Step {
    let spec = ScriptSpec {
        cluster: cluster(name),
        path: path.into(),
        args: vec![],
        env: [("PASSWORD".to_owned(), "secret".to_owned())].into(),
        time_limit_s: 0,
    };
    Step {
        action: StepAction::RunScript(spec),
        after,
    }
}

fn remove(name: &str) -> Step {
    Step {
        action: StepAction::RemoveRootfs {
            cluster: cluster(name),
        },
        after: vec![],
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("journal.jsonl")
    }

    fn open(&self) -> Journal {
        let (journal, damage) = Journal::open(&self.path()).unwrap();
        assert_eq!(damage, vec![]);
        journal
    }
}

fn run(journal: &mut Journal, step: &Step) {
    journal.start(step, 1).unwrap();
    journal
        .finish(step.id(), &StepOutcome::Done { generation: None }, 2)
        .unwrap();
}

#[test]
fn what_was_recorded_is_there_after_opening_again() {
    let folder = Folder::new();
    let (first, second, third) = (
        assemble("demo", "a"),
        script("demo", "scripts/init.sh", vec![]),
        remove("other"),
    );
    {
        let mut journal = folder.open();
        run(&mut journal, &first);
        journal.start(&second, 3).unwrap();
        journal.start(&third, 4).unwrap();
        journal
            .finish(third.id(), &StepOutcome::Failed("busy".into()), 5)
            .unwrap();
    }
    let journal = folder.open();
    assert_eq!(
        journal.done(first.id()),
        Some(&StepOutcome::Done { generation: None })
    );
    assert_eq!(journal.done(second.id()), None);
    assert_eq!(journal.done(third.id()), None);
    let unfinished = journal.unfinished();
    assert_eq!(
        (unfinished.len(), unfinished[0].0.id, unfinished[0].1),
        (1, second.id(), StepKind::Script)
    );
    assert_eq!(journal.records().len(), 3);
}

#[test]
fn no_secret_is_in_the_file() {
    let folder = Folder::new();
    folder
        .open()
        .start(&script("demo", "scripts/init.sh", vec![]), 1)
        .unwrap();
    assert!(!fs::read_to_string(folder.path()).unwrap().contains("secret"));
}

#[test]
fn a_cut_last_line_is_dropped_and_the_next_one_follows_cleanly() {
    let folder = Folder::new();
    let (first, second) = (assemble("demo", "a"), remove("other"));
    run(&mut folder.open(), &first);
    let whole = fs::read(folder.path()).unwrap();
    let mut torn = whole.clone();
    torn.extend_from_slice(
        &Entry::Forgotten {
            cluster: cluster("demo"),
        }
        .to_line()
        .as_bytes()[..30],
    );
    fs::write(folder.path(), torn).unwrap();
    run(&mut folder.open(), &second);
    let journal = folder.open();
    assert!(journal.done(first.id()).is_some() && journal.done(second.id()).is_some());
}

#[test]
fn a_damaged_line_in_the_middle_is_reported_and_not_believed() {
    let folder = Folder::new();
    let (first, second) = (assemble("demo", "a"), remove("other"));
    let mut journal = folder.open();
    run(&mut journal, &first);
    run(&mut journal, &second);
    let text = fs::read_to_string(folder.path()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let changed = format!(
        "{}\n{}\n{}\n{}\n",
        lines[0],
        lines[1].replace("\"at\":2", "\"at\":3"),
        lines[2],
        lines[3]
    );
    fs::write(folder.path(), changed).unwrap();
    let (journal, damage) = Journal::open(&folder.path()).unwrap();
    assert_eq!(
        damage,
        vec![Damage {
            line: 2,
            reason: "its checksum does not hold".into()
        }]
    );
    assert_eq!(journal.done(first.id()), None);
    assert!(journal.done(second.id()).is_some());
}

#[test]
fn damage_is_kept_as_a_failure_which_agents_of_before_know() {
    let folder = Folder::new();
    let mut journal = folder.open();
    let step = assemble("demo", "1");
    journal.start(&step, 1).unwrap();
    let damaged = StepOutcome::Damaged("bin/kubelet".into());
    journal.finish(step.id(), &damaged, 2).unwrap();
    for journal in [&journal, &folder.open()] {
        let record = journal.record(step.id()).unwrap();
        assert_eq!(record.outcome, Some(StepOutcome::Failed("bin/kubelet".into())));
    }
}

#[test]
fn forgetting_a_cluster_leaves_the_others() {
    let folder = Folder::new();
    let (mine, other) = (assemble("demo", "a"), assemble("other", "a"));
    let mut journal = folder.open();
    run(&mut journal, &mine);
    run(&mut journal, &other);
    assert_eq!(journal.forget(&cluster("demo")).unwrap(), vec![mine.id()]);
    let journal = folder.open();
    assert!(journal.done(mine.id()).is_none() && journal.done(other.id()).is_some());
}

#[test]
fn the_last_finished_steps_say_what_should_be_on_the_host() {
    let folder = Folder::new();
    let mut journal = folder.open();
    assert_eq!(journal.expected(&cluster("demo")), Expected::default());
    let (old, new) = (assemble("demo", "old"), assemble("demo", "new"));
    let entries = vec![gantry_model::HostsEntry {
        address: "10.0.0.1".parse().unwrap(),
        names: vec!["a".into()],
    }];
    let hosts = Step {
        action: StepAction::WriteHostsEntries {
            cluster: cluster("demo"),
            entries: entries.clone(),
        },
        after: vec![],
    };
    for (step, generation) in [
        (&old, Some(1)),
        (&new, Some(2)),
        (&hosts, None),
        (&assemble("other", "a"), Some(7)),
    ] {
        journal.start(step, 1).unwrap();
        let generation = generation.map(GenerationId);
        journal
            .finish(step.id(), &StepOutcome::Done { generation }, 2)
            .unwrap();
    }
    journal.start(&old, 3).unwrap();
    journal
        .finish(old.id(), &StepOutcome::Failed("no".into()), 4)
        .unwrap();
    let block = Some(hosts_file::digest(&cluster("demo"), &entries));
    let expected = Expected {
        generation: Some(GenerationId(2)),
        block,
        ..Expected::default()
    };
    assert_eq!(folder.open().expected(&cluster("demo")), expected);
}

/// A rootfs that was lost and is assembled anew is no other way to the image: what ran on the way to it does not run again.
#[test]
fn a_rootfs_that_is_assembled_again_stays_before_what_was_done_in_it() {
    let folder = Folder::new();
    let mut journal = folder.open();
    let (rootfs, plugin) = (assemble("demo", "one"), script("demo", "plugin", vec![]));
    let failed = StepOutcome::Failed("no space".into());
    for outcome in [failed.clone(), StepOutcome::Done { generation: None }] {
        journal.start(&rootfs, 1).unwrap();
        journal.finish(rootfs.id(), &outcome, 2).unwrap();
    }
    run(&mut journal, &plugin);
    let order =
        |journal: &Journal| -> Vec<StepId> { journal.records().iter().map(|record| record.id).collect() };
    for outcome in [failed.clone(), StepOutcome::Done { generation: None }] {
        journal.start(&rootfs, 5).unwrap();
        assert_eq!(order(&journal), [rootfs.id(), plugin.id()]);
        journal.finish(rootfs.id(), &outcome, 6).unwrap();
        assert_eq!(journal.done(rootfs.id()).is_some(), outcome.succeeded());
        assert_eq!(order(&folder.open()), order(&journal));
    }
    // One that did not come to be is another try, and scripts that run again ran last.
    let other = assemble("demo", "two");
    for _ in 0..2 {
        journal.start(&other, 7).unwrap();
        journal.finish(other.id(), &failed, 8).unwrap();
        run(&mut journal, &plugin);
        assert_eq!(order(&journal), [rootfs.id(), other.id(), plugin.id()]);
    }
}

#[test]
fn a_long_journal_is_rewritten_and_says_the_same() {
    let folder = Folder::new();
    let mut text = String::new();
    let step = script("demo", "scripts/init.sh", vec![]);
    let kept = assemble("demo", "a");
    let started = |step: &Step| {
        Entry::Started(Started {
            id: step.id(),
            kind: StepKind::of(step),
            cluster: step.action.cluster().cloned(),
            title: step.action.title(),
            at: 1,
            block: None,
            kubernetes: None,
        })
        .to_line()
    };
    text.push_str(&started(&kept));
    let outcome = StepOutcome::Script(ScriptOutcome::Exited(1));
    while (text.len() as u64) <= COMPACT_ABOVE {
        text.push_str(&started(&step));
        text.push_str(
            &Entry::Finished {
                id: step.id(),
                at: 2,
                outcome: outcome.clone(),
            }
            .to_line(),
        );
    }
    fs::write(folder.path(), text).unwrap();
    let before = folder.open().records();
    assert!(fs::metadata(folder.path()).unwrap().len() < 4096);
    assert_eq!(folder.open().records(), before);
    assert_eq!(folder.open().unfinished().len(), 1);
    run(&mut folder.open(), &step);
    assert!(folder.open().done(step.id()).is_some());
}

/// The lines of a step that started and ended well.
fn lines_of(step: &Step) -> String {
    let started = Entry::Started(Started {
        id: step.id(),
        kind: StepKind::of(step),
        cluster: step.action.cluster().cloned(),
        title: step.action.title(),
        at: 1,
        block: None,
        kubernetes: kubernetes_of(step),
    });
    let finished = Entry::Finished {
        id: step.id(),
        at: 2,
        outcome: StepOutcome::Done { generation: None },
    };
    started.to_line() + &finished.to_line()
}

/// What a control plane records of `workers` that are upgraded to `version`.
fn upgrade(workers: usize, version: &str) -> Vec<Step> {
    let demo = || cluster("demo");
    let nodes = (0..workers).map(|number| format!("worker-{number}"));
    let moves = nodes.flat_map(|node| {
        [
            StepAction::CordonNode {
                cluster: demo(),
                node: node.clone(),
            },
            StepAction::DrainNode {
                cluster: demo(),
                node: node.clone(),
                time_limit_s: 600,
                leaves: false,
            },
            StepAction::UncordonNode {
                cluster: demo(),
                node,
                version: version.to_owned(),
                time_limit_s: 600,
            },
        ]
    });
    let after = vec![assemble("demo", version).id()];
    moves
        .map(|action| Step {
            action,
            after: after.clone(),
        })
        .collect()
}

#[test]
fn a_host_stays_a_member_however_much_its_journal_says_of_others() {
    let init = Step {
        action: StepAction::Kubeadm(KubeadmSpec {
            cluster: cluster("demo"),
            act: KubeadmAct::Init,
            kubernetes: "v1.20.2".into(),
            config: String::new(),
            skipped_phases: vec![],
            ignored_checks: vec![],
            time_limit_s: 60,
        }),
        after: vec![],
    };
    let own = [assemble("demo", "a"), script("demo", "scripts/init.sh", vec![])];
    let cut_off = remove("other");
    let mut text: String = own.iter().chain([&init]).map(lines_of).collect();
    let begun = lines_of(&cut_off);
    text.push_str(begun.split_inclusive('\n').next().unwrap());
    let mut moves = Vec::new();
    for version in ["v1.20.3", "v1.20.4", "v1.20.5", "v1.20.6", "v1.20.7"] {
        moves = upgrade(200, version);
        text.extend(moves.iter().map(lines_of));
    }
    assert_eq!(text.lines().count(), 2 * 3 + 1 + 2 * 3000);
    let folder = Folder::new();
    fs::write(folder.path(), &text).unwrap();
    let listed = Journal::look(&folder.path()).unwrap();
    assert_eq!(listed.len(), MAX_STEPS_IN_INVENTORY);
    let journal = folder.open();
    assert!(
        fs::metadata(folder.path()).unwrap().len() < text.len() as u64,
        "it is rewritten"
    );
    assert_eq!(journal.records(), listed);
    let uncordon = moves
        .iter()
        .filter(|step| matches!(step.action, StepAction::UncordonNode { .. }));
    for step in own.iter().chain([&init]).chain(uncordon) {
        assert!(journal.done(step.id()).is_some(), "{}", step.action.title());
        assert!(
            listed.iter().any(|record| record.id == step.id()),
            "{}",
            step.action.title()
        );
    }
    let latest = journal.latest_kubeadm(&cluster("demo"), own[0].id()).unwrap();
    assert_eq!(
        (latest.id, latest.kubernetes.as_deref()),
        (init.id(), Some("v1.20.2"))
    );
    assert_eq!(journal.unfinished()[0].0.id, cut_off.id());
    assert_eq!(listed[0].id, own[0].id(), "in the order in which they started");
    assert_eq!(folder.open().records(), listed);
}

#[test]
fn records_with_long_reasons_leave_room_in_a_message() {
    let folder = Folder::new();
    let mut journal = folder.open();
    let reason = "x".repeat(100_000);
    let steps: Vec<Step> = (0..20)
        .map(|number| assemble("demo", &number.to_string()))
        .collect();
    for step in &steps {
        journal.start(step, 1).unwrap();
        journal
            .finish(step.id(), &StepOutcome::Failed(reason.clone()), 2)
            .unwrap();
    }
    let records = journal.records();
    assert_eq!(records.len(), 5);
    assert_eq!(records[4].id, steps[19].id());
}

proptest! {
    /// Cut anywhere, the journal opens, says nothing that was not recorded, and takes new lines.
    #[test]
    fn cut_anywhere_it_opens(kinds in prop::collection::vec(0_u8..5, 1..12), cut in 0_usize..4000) {
        let folder = Folder::new();
        let mut journal = folder.open();
        for kind in kinds {
            match kind {
                0 => run(&mut journal, &assemble("demo", "a")),
                1 => run(&mut journal, &script("demo", "scripts/init.sh", vec![])),
                2 => journal.start(&remove("demo"), 1).unwrap(),
                3 => run(&mut journal, &assemble("other", "b")),
                _ => { journal.forget(&cluster("demo")).unwrap(); }
            }
        }
        let text = fs::read(folder.path()).unwrap();
        let cut = cut.min(text.len());
        fs::write(folder.path(), &text[..cut]).unwrap();
        let expected = replay(&text[..text[..cut].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1)]).0.list();
        let mut journal = folder.open();
        prop_assert_eq!(journal.records(), expected);
        run(&mut journal, &remove("third"));
        prop_assert!(folder.open().done(remove("third").id()).is_some());
    }
}
