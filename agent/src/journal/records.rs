//! What the lines of a journal add up to.

use std::collections::{HashMap, HashSet};

use gantry_model::{ClusterName, Digest, GenerationId, StepId, StepOutcome, StepRecord, most_needed_records};
use gantry_protocol::limits::{MAX_MESSAGE_LEN, MAX_STEPS_IN_INVENTORY};

use super::entry::{Entry, Started, StepKind};

/// Bytes of an inventory's message that records may take: the rest is for layers, ports and generations.
const INVENTORY_ROOM: usize = MAX_MESSAGE_LEN / 2;
/// Bytes of a record in a message, title and reason aside, at most.
const RECORD_LEN: usize = 160;

/// What finished steps say should be on the host. Nothing: no such step finished.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The generation that was made current last.
    pub generation: Option<GenerationId>,
    /// Digest of the block of `/etc/hosts` that was written last.
    pub block: Option<Digest>,
    /// The balancer leads to the API servers.
    pub balancer: bool,
    /// The rootfs's images are served.
    pub registry: bool,
}

/// A step in the journal.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) started: Started,
    pub(super) ended: Option<(i64, StepOutcome)>,
    /// It assembles a rootfs, and did so once under this id.
    assembled: bool,
}

/// What the lines add up to, in the order the steps started last; one that assembles a rootfs once more stays where it was.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) order: Vec<StepId>,
    pub(super) by_id: HashMap<StepId, Record>,
}

impl Records {
    /// What the finished steps of `cluster` say should be on this host.
    pub(super) fn expected(&self, cluster: &ClusterName) -> Expected {
        let mut expected = Expected::default();
        for record in self.order.iter().map(|id| &self.by_id[id]) {
            let Some((_, outcome)) = &record.ended else {
                continue;
            };
            if record.started.cluster.as_ref() != Some(cluster) || !outcome.succeeded() {
                continue;
            }
            match (record.started.kind, outcome) {
                (StepKind::AssembleRootfs, StepOutcome::Done { generation }) => {
                    expected.generation = *generation;
                }
                (StepKind::WriteHostsEntries, _) => expected.block = record.started.block,
                (kind @ (StepKind::SetBalancer | StepKind::RemoveBalancer), _) => {
                    expected.balancer = kind == StepKind::SetBalancer;
                }
                (kind @ (StepKind::SetRegistry | StepKind::RemoveRegistry), _) => {
                    expected.registry = kind == StepKind::SetRegistry;
                }
                _ => {}
            }
        }
        expected
    }

    pub(super) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Started(started) => {
                // The host came to its image then: what was done since on the way to it stays behind it.
                let assembled = self
                    .by_id
                    .get(&started.id)
                    .is_some_and(|before| before.assembled || before.has_assembled());
                if !assembled {
                    self.remove(started.id);
                    self.order.push(started.id);
                }
                let record = Record {
                    started,
                    ended: None,
                    assembled,
                };
                self.by_id.insert(record.started.id, record);
            }
            Entry::Finished { id, at, outcome } => {
                if let Some(record) = self.by_id.get_mut(&id) {
                    record.ended = Some((at, outcome));
                }
            }
            Entry::Forgotten { cluster } => {
                for id in self.finished_of(&cluster) {
                    self.remove(id);
                }
            }
        }
    }

    pub(super) fn remove(&mut self, id: StepId) {
        // Most steps that start are new.
        if self.by_id.remove(&id).is_some() {
            self.order.retain(|other| *other != id);
        }
    }

    pub(super) fn finished_of(&self, cluster: &ClusterName) -> Vec<StepId> {
        let of_it = |id: &&StepId| {
            let record = &self.by_id[*id];
            record.ended.is_some() && record.started.cluster.as_ref() == Some(cluster)
        };
        self.order.iter().filter(of_it).copied().collect()
    }

    /// The records that are needed most, oldest first, as many as fit a message together with the rest of an inventory.
    pub(super) fn list(&self) -> Vec<StepRecord> {
        let all = self.public();
        let mut room = INVENTORY_ROOM;
        let mut places: Vec<usize> = most_needed_records(&all)
            .into_iter()
            .filter(|&place| {
                let record = &all[place];
                let reason = match &record.outcome {
                    Some(StepOutcome::Failed(reason)) => reason.len(),
                    _ => 0,
                };
                let len = RECORD_LEN + record.title.len() + reason;
                let fits = len <= room;
                // A shorter one may fit still, and none that is needed more is left out for it.
                room -= if fits { len } else { 0 };
                fits
            })
            .take(MAX_STEPS_IN_INVENTORY)
            .collect();
        places.sort_unstable();
        let mut all: Vec<Option<StepRecord>> = all.into_iter().map(Some).collect();
        places.into_iter().filter_map(|place| all[place].take()).collect()
    }

    /// Keeps the `count` records that are needed most, and all that have not ended.
    pub(super) fn keep_most_needed(&mut self, count: usize) {
        if self.order.len() <= count {
            return;
        }
        let needed = most_needed_records(&self.public());
        let surplus: HashSet<StepId> = needed
            .into_iter()
            .skip(count)
            .map(|place| self.order[place])
            .filter(|id| self.by_id[id].ended.is_some())
            .collect();
        self.order.retain(|id| !surplus.contains(id));
        self.by_id.retain(|id, _| !surplus.contains(id));
    }

    /// All of them, oldest first.
    fn public(&self) -> Vec<StepRecord> {
        self.order.iter().map(|id| self.by_id[id].public()).collect()
    }
}

impl Record {
    fn has_assembled(&self) -> bool {
        let succeeded = self
            .ended
            .as_ref()
            .is_some_and(|(_, outcome)| outcome.succeeded());
        self.started.kind == StepKind::AssembleRootfs && succeeded
    }

    pub(super) fn public(&self) -> StepRecord {
        StepRecord {
            id: self.started.id,
            cluster: self.started.cluster.clone(),
            title: self.started.title.clone(),
            started_at: self.started.at,
            ended_at: self.ended.as_ref().map(|(at, _)| *at),
            outcome: self.ended.as_ref().map(|(_, outcome)| outcome.clone()),
            kubernetes: self.started.kubernetes.clone(),
        }
    }
}
