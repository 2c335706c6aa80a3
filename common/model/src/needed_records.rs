//! Which records of steps stay, where there is no room for all: of a journal that is rewritten, and in an inventory.
//!
//! ```text
//! what has not ended, how the host became a member, by which run it has its version of Kubernetes
//!   ─▶ the latest steps about the host itself, of each title
//!   ─▶ of steps about other hosts the latest of each title, then the one before
//!   ─▶ everything else, the newest first
//! ```
//!
//! A control plane has three records for each worker that is upgraded: by age alone, those of its own beginning would go first.

use std::collections::{HashMap, HashSet};

use crate::{ClusterName, StepOutcome, StepRecord};

/// How many steps about the host itself stay of each title. Plans recognise what is in place by the step that it came over.
const LATEST_OF_A_TITLE: usize = 8;
/// The titles by which a host becomes a member of a cluster, or is one no longer.
const MEMBERSHIP: [&str; 3] = ["kubeadm init", "kubeadm join", "kubeadm reset"];
/// How titles of steps about other hosts begin, each with how many rounds later its records stay: what lets pods come again is
/// asked for by every plan, what moved them away only until then.
const ABOUT_OTHERS: [(&str, usize); 6] = [
    ("uncordon ", 0),
    ("delete node ", 0),
    ("remove etcd member ", 0),
    ("cordon ", 1),
    ("etcd quorum without ", 2),
    ("drain ", 2),
];

/// How much a record is needed: the least is needed most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// What later plans hang on.
    Always,
    /// One of the latest about the host itself.
    OwnLatest,
    /// About another host, in this round.
    AboutOthers(usize),
    /// None but to be looked at.
    History,
}

/// Places in `records`, which are in the order in which their steps started, those that are needed most first.
///
/// Of the first kind there are at most two for each cluster besides those that have not ended, of the second eight of each
/// title that plans have for a host. Where there is no room for all that are needed alike, the newest stay.
#[must_use]
pub fn most_needed_records(records: &[StepRecord]) -> Vec<usize> {
    let mut later: HashMap<(Option<&ClusterName>, &str), usize> = HashMap::new();
    // The clusters of which the latest one was seen.
    let (mut members, mut levels) = (HashSet::new(), HashSet::new());
    let mut needs: Vec<(Need, usize)> = Vec::with_capacity(records.len());
    // The newest first, which stays so among those that are needed alike.
    for (place, record) in records.iter().enumerate().rev() {
        let cluster = record.cluster.as_ref();
        let before = later.entry((cluster, &record.title)).or_default();
        // Both are asked: one run may be both.
        let needed = [
            record.outcome.is_none(),
            MEMBERSHIP.contains(&record.title.as_str()) && members.insert(cluster),
            brought_a_version(record) && levels.insert(cluster),
        ];
        let need = if needed.contains(&true) {
            Need::Always
        } else {
            need(&record.title, *before)
        };
        *before += 1;
        needs.push((need, place));
    }
    needs.sort_by_key(|(need, _)| *need);
    needs.into_iter().map(|(_, place)| place).collect()
}

/// What a record is needed for of which `later` ones have the same title.
fn need(title: &str, later: usize) -> Need {
    let about_others = ABOUT_OTHERS.iter().find(|(begin, _)| title.starts_with(begin));
    match about_others {
        Some((_, rounds)) => Need::AboutOthers(later + rounds),
        None if later < LATEST_OF_A_TITLE => Need::OwnLatest,
        None => Need::History,
    }
}

/// Whether a member has its version of Kubernetes by this run of kubeadm, unless there is a later one.
fn brought_a_version(record: &StepRecord) -> bool {
    record
        .kubernetes
        .as_ref()
        .is_some_and(|version| !version.is_empty())
        && record.outcome.as_ref().is_some_and(StepOutcome::succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KubeadmAct, Step, StepAction};

    fn record(at: i64, title: &str) -> StepRecord {
        let step = Step {
            action: StepAction::RemoveUnusedLayers,
            after: Vec::new(),
        };
        StepRecord {
            id: step.id(),
            cluster: Some("demo".parse().unwrap()),
            title: title.into(),
            started_at: at,
            ended_at: Some(at),
            outcome: Some(StepOutcome::Done { generation: None }),
            kubernetes: None,
        }
    }

    /// Titles of the `count` that are needed most, with their times.
    fn first(records: &[StepRecord], count: usize) -> Vec<(i64, &str)> {
        let places = most_needed_records(records).into_iter().take(count);
        places
            .map(|place| (records[place].started_at, records[place].title.as_str()))
            .collect()
    }

    #[test]
    fn titles_are_those_of_steps() {
        let cluster: ClusterName = "demo".parse().unwrap();
        let node = "worker".to_owned();
        let address = "10.0.0.2".parse().unwrap();
        let actions = [
            StepAction::UncordonNode {
                cluster: cluster.clone(),
                node: node.clone(),
                version: String::new(),
                time_limit_s: 0,
            },
            StepAction::DeleteNode {
                cluster: cluster.clone(),
                node: node.clone(),
            },
            StepAction::RemoveEtcdMember {
                cluster: cluster.clone(),
                address,
            },
            StepAction::CordonNode {
                cluster: cluster.clone(),
                node: node.clone(),
            },
            StepAction::CheckQuorumMeanwhile {
                cluster: cluster.clone(),
                address,
            },
            StepAction::DrainNode {
                cluster,
                node,
                time_limit_s: 0,
                leaves: false,
            },
        ];
        for (action, (begin, _)) in actions.iter().zip(ABOUT_OTHERS) {
            assert!(action.title().starts_with(begin), "{}: {begin}", action.title());
        }
        let join = KubeadmAct::Join {
            from: address,
            control_plane: true,
        };
        let acts = [KubeadmAct::Init, join, KubeadmAct::Reset];
        assert_eq!(acts.map(|act| act.title()), MEMBERSHIP);
    }

    #[test]
    fn what_made_the_host_a_member_comes_before_everything_that_is_newer() {
        let mut records = vec![
            StepRecord {
                kubernetes: Some("v1.20.2".into()),
                ..record(1, "kubeadm init")
            },
            StepRecord {
                outcome: None,
                ..record(2, "init.sh")
            },
            StepRecord {
                kubernetes: Some("v1.20.3".into()),
                ..record(3, "kubeadm upgrade")
            },
            StepRecord {
                kubernetes: Some("v1.20.4".into()),
                outcome: Some(StepOutcome::Unknown),
                ..record(4, "kubeadm upgrade")
            },
            StepRecord {
                cluster: Some("other".parse().unwrap()),
                ..record(5, "kubeadm join")
            },
        ];
        records.extend((6..100).map(|at| record(at, "rootfs")));
        let needed = first(&records, 4);
        assert_eq!(
            needed,
            [
                (5, "kubeadm join"),
                (3, "kubeadm upgrade"),
                (2, "init.sh"),
                (1, "kubeadm init")
            ]
        );
        let last = first(&records, records.len())[records.len() - 1];
        assert_eq!(last, (6, "rootfs"));
    }

    #[test]
    fn of_steps_about_other_hosts_those_stay_that_plans_ask_for() {
        let mut records = vec![record(1, "rootfs")];
        for at in [10, 20] {
            records.extend([
                record(at, "cordon a"),
                record(at + 1, "drain a"),
                record(at + 2, "uncordon a"),
                record(at + 3, "uncordon b"),
            ]);
        }
        assert_eq!(
            first(&records, 6),
            [
                (1, "rootfs"),
                (23, "uncordon b"),
                (22, "uncordon a"),
                (20, "cordon a"),
                (13, "uncordon b"),
                (12, "uncordon a"),
            ]
        );
    }
}
