//! This module owns [`Scripted`]: a contender that is a few lines of shell, `gantry` or a tool of others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use gantry_integration::{Operator, cache, command};

use crate::contender::Contender;

/// A contender whose lines find `gantry` as `$GANTRY`, and a folder of its own, empty at the start of each round, as `$OUT`.
pub(crate) struct Scripted<'a> {
    name: &'static str,
    operator: &'a Operator,
    folder: PathBuf,
    before: String,
    job: String,
    proof: String,
}

impl<'a> Scripted<'a> {
    /// One that does `job`; its lines are counted to `operator`.
    pub(crate) fn new(
        name: &'static str,
        operator: &'a Operator,
        folder: PathBuf,
        job: impl Into<String>,
    ) -> Self {
        Self {
            name,
            operator,
            folder,
            before: String::new(),
            job: job.into(),
            proof: String::new(),
        }
    }

    /// What has to be there before the job begins.
    pub(crate) fn before(self, before: impl Into<String>) -> Self {
        Self {
            before: before.into(),
            ..self
        }
    }

    /// What fails unless the job was done.
    pub(crate) fn proof(self, proof: impl Into<String>) -> Self {
        Self {
            proof: proof.into(),
            ..self
        }
    }

    /// As what everybody takes.
    pub(crate) fn boxed(self) -> Box<dyn Contender + 'a> {
        Box::new(self)
    }

    fn sh(&self, script: &str) -> Result<()> {
        run(self.operator, &self.folder, script)
    }
}

/// Runs lines of shell as a contender's.
pub(crate) fn run(operator: &Operator, folder: &Path, script: &str) -> Result<()> {
    let enter = format!(
        "{}exec bash -euo pipefail -c \"$0\"",
        operator.cgroup().enter_script()
    );
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &enter, script])
        .env("GANTRY", operator.program())
        .env("OUT", folder)
        .current_dir(operator.desk());
    command::run(&mut shell)?.ok().map(drop)
}

impl Contender for Scripted<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn prepare(&mut self) -> Result<()> {
        cache::remove_tree(&self.folder)?;
        fs::create_dir_all(&self.folder).context("cannot create a folder for the contender")?;
        self.sh(&self.before)
    }

    fn run(&mut self) -> Result<()> {
        self.sh(&self.job)
    }

    fn check(&mut self) -> Result<()> {
        self.sh(&self.proof)
    }
}
