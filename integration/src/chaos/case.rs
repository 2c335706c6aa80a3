//! This module owns [`Case`]: one fault at one step of one act, and what has to hold afterwards.

use std::fmt;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::fault::{Fault, Scene};
use super::history::{History, StartedStep};
use super::scenario::{Act, Scenario};
use crate::{Host, Testbed, wait_until};

/// One fault at one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// With which image.
    pub scenario: Scenario,
    /// What the operator does.
    pub act: Act,
    /// The host, counted from 1.
    pub host: usize,
    /// Title of the step during which it happens.
    pub step: String,
    /// What happens.
    pub fault: Fault,
    pub(super) runs_a_program: bool,
}

impl Case {
    /// Brings a cluster of its own to the step, lets the fault happen, and runs the command again.
    ///
    /// # Errors
    /// When the second run does not succeed, a finished program ran twice, something is left to do, or the hosts are
    /// not as after an act that nothing disturbed.
    pub fn run(&self) -> Result<()> {
        let bed = self.scenario.start()?;
        self.run_on(&bed).map_err(|error| {
            let told: String = bed.hosts().iter().map(Host::agent_log).collect();
            anyhow!("{error:#}\n{told}")
        })
    }

    fn run_on(&self, bed: &Testbed) -> Result<()> {
        let (operator, host, limit) = (bed.operator(), bed.host(self.host), self.scenario.limit());
        let bare = bed.snapshots()?;
        self.scenario.reach(bed, self.act)?;
        let mark = History::of(host)?.mark();
        if self.runs_a_program {
            self.scenario.hold(host, &self.step)?;
        }
        let command = self.act.command(self.scenario);
        let running = operator.start(&command)?;
        wait_until(
            &format!("step {} starts on {}", self.step, host.name()),
            limit,
            || {
                let started = History::of(host)?.started_since(mark);
                Ok(started.iter().any(|step| step.title == self.step).then_some(()))
            },
        )?;
        let scene = Scene {
            scenario: self.scenario,
            host,
            step: &self.step,
            mark,
        };
        let running = self.fault.strike(&scene, running)?;
        if let Some(running) = running {
            // Well or badly: that depends on the fault.
            running.finish(limit)?;
        }
        host.wait_for_agent()?;

        operator
            .must(&command)
            .context("the same command, run again, does not succeed")?;
        nothing_is_left_to_do(bed, self.act)?;
        self.scenario.check(bed, self.act, &bare)
    }

    /// The steps of `act` on every host, found by doing it once.
    pub(super) fn steps_of(scenario: Scenario, act: Act) -> Result<Vec<(usize, StartedStep)>> {
        let bed = scenario.start()?;
        scenario.reach(&bed, act)?;
        let marks: Vec<usize> = bed
            .hosts()
            .iter()
            .map(|host| Ok(History::of(host)?.mark()))
            .collect::<Result<_>>()?;
        bed.operator().must(&act.command(scenario))?;
        let mut steps: Vec<(usize, StartedStep)> = Vec::new();
        for (index, (host, mark)) in bed.hosts().iter().zip(marks).enumerate() {
            for step in History::of(host)?.started_since(mark) {
                if !steps.contains(&(index + 1, step.clone())) {
                    steps.push((index + 1, step));
                }
            }
        }
        if steps.is_empty() {
            bail!("{act} has no step: there is nothing to disturb");
        }
        Ok(steps)
    }
}

/// That no finished program ran again, and another run has nothing to do.
pub(super) fn nothing_is_left_to_do(bed: &Testbed, act: Act) -> Result<()> {
    for host in bed.hosts() {
        let twice = History::of(host)?.ran_twice();
        ensure!(
            twice.is_empty(),
            "ran again on {} although finished: {twice:?}",
            host.name()
        );
    }
    if act != Act::Reset {
        let third = bed.operator().apply()?.ok()?;
        ensure!(
            third.steps() == 0,
            "a third run finds something to do: {}",
            third.finished
        );
    }
    Ok(())
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/host{}/{}/{}", self.act, self.host, self.step, self.fault)
    }
}
