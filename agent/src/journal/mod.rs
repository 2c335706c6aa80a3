//! This module owns the [`Journal`]: the durable record of what was started and finished on this host.
//!
//! ```text
//! Run(step) ─▶ start() ── line + fsync ──▶ the change ──▶ finish() ── line + fsync ──▶ reply
//! ```
//!
//! A file of lines, only ever appended to. A line cut by a crash is dropped; a damaged line in the middle is
//! reported and the rest still counts: what it said is then done again, never believed.

mod entry;
mod records;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use gantry_model::{ClusterName, Digest, Step, StepAction, StepId, StepOutcome, StepRecord};
use gantry_protocol::limits::MAX_STEPS_IN_INVENTORY;
use gantry_system::files;

use crate::hosts_file;
pub use entry::StepKind;
use entry::{Entry, Started};
pub use records::Expected;
use records::{Record, Records};

/// From this size on the file is rewritten at start with only what still counts.
const COMPACT_ABOVE: u64 = 1 << 20;
/// Records kept when it is rewritten: as many as an inventory can show.
const KEPT_RECORDS: usize = MAX_STEPS_IN_INVENTORY;

/// Why the journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} the journal {}: {source}", path.display())]
pub struct JournalError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// A line that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// The journal, open for appending. One task owns it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Where the last whole line ends. What a failed append left behind begins here.
    end: u64,
    records: Records,
}

impl Journal {
    /// Opens the journal at `path`, making it if it is not there.
    ///
    /// Lines that are damaged come back as [`Damage`]; a cut last line is dropped silently.
    ///
    /// # Errors
    /// When the file cannot be read, repaired or made.
    pub fn open(path: &Path) -> Result<(Self, Vec<Damage>), JournalError> {
        let failed = |doing| {
            move |source| JournalError {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .and_then(|file| files::sync_dir(folder).map(|()| file))
            .map_err(failed("open"))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed("read"))?;
        let (records, damage, end) = replay(&text);
        if end < text.len() as u64 {
            file.set_len(end)
                .and_then(|()| file.sync_all())
                .map_err(failed("repair"))?;
        }
        let mut journal = Self {
            path: path.to_owned(),
            file,
            end,
            records,
        };
        if end > COMPACT_ABOVE && damage.is_empty() {
            journal.compact().map_err(failed("compact"))?;
        }
        Ok((journal, damage))
    }

    /// Reads the journal at `path` without changing anything.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn look(path: &Path) -> Result<Vec<StepRecord>, JournalError> {
        match std::fs::read(path) {
            Ok(text) => Ok(replay(&text).0.list()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(JournalError {
                doing: "read",
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// How the step ended, if it did its work.
    #[must_use]
    pub fn done(&self, id: StepId) -> Option<&StepOutcome> {
        let (_, outcome) = self.records.by_id.get(&id)?.ended.as_ref()?;
        outcome.succeeded().then_some(outcome)
    }

    /// The record of a step.
    #[must_use]
    pub fn record(&self, id: StepId) -> Option<StepRecord> {
        self.records.by_id.get(&id).map(Record::public)
    }

    /// The records that plans need most, then the newest, oldest first, as many as an inventory carries.
    #[must_use]
    pub fn records(&self) -> Vec<StepRecord> {
        self.records.list()
    }

    /// Steps that started and are not known to have ended.
    #[must_use]
    pub fn unfinished(&self) -> Vec<(StepRecord, StepKind)> {
        let records = self.records.order.iter().map(|id| &self.records.by_id[id]);
        records
            .filter(|record| record.ended.is_none())
            .map(|record| (record.public(), record.started.kind))
            .collect()
    }

    /// The latest run of kubeadm for `cluster`, other than the step `but`.
    #[must_use]
    pub fn latest_kubeadm(&self, cluster: &ClusterName, but: StepId) -> Option<StepRecord> {
        let records = self.records.order.iter().rev().map(|id| &self.records.by_id[id]);
        records
            .filter(|record| record.started.kind == StepKind::Kubeadm)
            .find(|record| record.started.cluster.as_ref() == Some(cluster) && record.started.id != but)
            .map(Record::public)
    }

    /// What the finished steps of `cluster` say should be on this host.
    #[must_use]
    pub fn expected(&self, cluster: &ClusterName) -> Expected {
        self.records.expected(cluster)
    }

    /// Records that `step` starts at `at` (seconds since the epoch).
    ///
    /// # Errors
    /// When the line cannot be made durable; then the step must not start.
    pub fn start(&mut self, step: &Step, at: i64) -> Result<(), JournalError> {
        let (id, kind, cluster) = (step.id(), StepKind::of(step), step.action.cluster().cloned());
        let (title, block) = (step.action.title(), block_of(step));
        self.append(Entry::Started(Started {
            id,
            kind,
            cluster,
            title,
            at,
            block,
            kubernetes: kubernetes_of(step),
        }))
    }

    /// Records how a step ended.
    ///
    /// # Errors
    /// When the line cannot be made durable; then the outcome must not be told as if it were.
    pub fn finish(&mut self, id: StepId, outcome: &StepOutcome, at: i64) -> Result<(), JournalError> {
        let outcome = match outcome {
            // An older agent would take a line with anything else for damage.
            StepOutcome::Damaged(reason) => StepOutcome::Failed(reason.clone()),
            outcome => outcome.clone(),
        };
        self.append(Entry::Finished { id, at, outcome })
    }

    /// Forgets every finished step of `cluster` and returns them.
    ///
    /// # Errors
    /// When the line cannot be made durable.
    pub fn forget(&mut self, cluster: &ClusterName) -> Result<Vec<StepId>, JournalError> {
        let forgotten = self.records.finished_of(cluster);
        self.append(Entry::Forgotten {
            cluster: cluster.clone(),
        })?;
        Ok(forgotten)
    }

    fn append(&mut self, entry: Entry) -> Result<(), JournalError> {
        let line = entry.to_line();
        let written = (|| {
            // A failed append may have left part of a line.
            self.file.seek(SeekFrom::Start(self.end))?;
            self.file.set_len(self.end)?;
            self.file.write_all(line.as_bytes())?;
            self.file.sync_data()
        })();
        written.map_err(|source| JournalError {
            doing: "write",
            path: self.path.clone(),
            source,
        })?;
        self.end += line.len() as u64;
        self.records.apply(entry);
        Ok(())
    }

    /// Rewrites the file with what still counts.
    fn compact(&mut self) -> io::Result<()> {
        self.records.keep_most_needed(KEPT_RECORDS);
        let mut text = String::new();
        for id in &self.records.order {
            let record = &self.records.by_id[id];
            text.push_str(&Entry::Started(record.started.clone()).to_line());
            if let Some((at, outcome)) = &record.ended {
                text.push_str(
                    &Entry::Finished {
                        id: *id,
                        at: *at,
                        outcome: outcome.clone(),
                    }
                    .to_line(),
                );
            }
        }
        files::write_atomically(&self.path, text.as_bytes(), 0o600)?;
        self.file = File::options().read(true).write(true).open(&self.path)?;
        self.end = text.len() as u64;
        Ok(())
    }
}

/// The records of a journal's text, its damaged lines, and where its last whole line ends.
fn replay(text: &[u8]) -> (Records, Vec<Damage>, u64) {
    let (mut records, mut damage, mut end) = (Records::default(), Vec::new(), 0);
    let mut lines = text.split_inclusive(|&byte| byte == b'\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let read = line
            .strip_suffix(b"\n")
            .ok_or_else(|| "it is cut".to_owned())
            .and_then(Entry::from_line);
        match read {
            Ok(entry) => records.apply(entry),
            // The line that was being written when the host went down.
            Err(_) if lines.peek().is_none() => return (records, damage, end),
            Err(reason) => damage.push(Damage {
                line: index + 1,
                reason,
            }),
        }
        end += line.len() as u64;
    }
    (records, damage, end)
}

fn block_of(step: &Step) -> Option<Digest> {
    match &step.action {
        StepAction::WriteHostsEntries { cluster, entries } => Some(hosts_file::digest(cluster, entries)),
        _ => None,
    }
}

/// The version of Kubernetes that a run of kubeadm brings.
fn kubernetes_of(step: &Step) -> Option<String> {
    match &step.action {
        StepAction::Kubeadm(spec) if !spec.kubernetes.is_empty() => Some(spec.kubernetes.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
