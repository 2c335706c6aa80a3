//! This module owns [`History`]: what the journal of a host's agent says, line by line.

use std::collections::HashSet;
use std::fs;

use anyhow::{Context as _, Result};
use gantry_model::StepOutcome;
use serde::Deserialize as _;
use serde_json::Value;

use crate::Host;

/// A step as it started on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StartedStep {
    /// Its title.
    pub(super) title: String,
    /// Whether a unit of its own does it: then there is a program to kill.
    pub(super) runs_a_program: bool,
}

/// The lines of a journal. Those of a case are too few for the agent to leave any out.
#[derive(Debug)]
pub(super) struct History {
    entries: Vec<Value>,
}

impl History {
    /// Reads the journal on the host's disk, the host up or down.
    pub(super) fn of(host: &Host) -> Result<Self> {
        let path = host.disk().join("var/lib/gantry/agent/journal.jsonl");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        // The last line may be on its way.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let entries = lines.map(|line| {
            let mut line: Value =
                serde_json::from_str(line).context("the journal has a line that is no JSON")?;
            Ok(line["entry"].take())
        });
        Ok(Self {
            entries: entries.collect::<Result<_>>()?,
        })
    }

    /// How many lines there are: what comes later is behind this mark.
    pub(super) fn mark(&self) -> usize {
        self.entries.len()
    }

    /// The steps that started behind `mark`, in order.
    pub(super) fn started_since(&self, mark: usize) -> Vec<StartedStep> {
        let behind = self.entries.get(mark..).unwrap_or_default();
        let started = behind.iter().filter_map(|entry| entry.get("started"));
        started
            .map(|started| StartedStep {
                title: started["title"].as_str().unwrap_or_default().to_owned(),
                runs_a_program: matches!(started["kind"].as_str(), Some("script" | "kubeadm")),
            })
            .collect()
    }

    /// Whether a step of this title started behind `mark` and has ended since.
    pub(super) fn ended_since(&self, mark: usize, title: &str) -> bool {
        let behind = self.entries.get(mark..).unwrap_or_default();
        let id = behind
            .iter()
            .find_map(|entry| entry.get("started").filter(|started| started["title"] == title))
            .map(|started| &started["id"]);
        id.is_some_and(|id| {
            behind.iter().any(|entry| {
                entry
                    .get("finished")
                    .is_some_and(|finished| finished["id"] == *id)
            })
        })
    }

    /// Titles of programs that ran again although the journal had their good end, and nobody had asked to forget it.
    pub(super) fn ran_twice(&self) -> Vec<String> {
        let (mut done, mut twice) = (HashSet::new(), Vec::new());
        for entry in &self.entries {
            if let Some(finished) = entry.get("finished") {
                if is_good(&finished["outcome"]) {
                    done.insert(finished["id"].to_string());
                }
            } else if let Some(started) = entry.get("started") {
                let program = matches!(started["kind"].as_str(), Some("script" | "kubeadm"));
                if program && done.contains(&started["id"].to_string()) {
                    twice.push(started["title"].to_string());
                }
            } else {
                // A cluster was forgotten: its steps may be asked for anew.
                done.clear();
            }
        }
        twice
    }
}

/// Whether an outcome is that of a step that did its work.
fn is_good(outcome: &Value) -> bool {
    StepOutcome::deserialize(outcome).is_ok_and(|outcome| outcome.succeeded())
}
