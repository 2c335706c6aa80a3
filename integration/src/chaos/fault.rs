//! This module owns [`Fault`]: what goes wrong at a step.

use std::fmt;
use std::iter;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::history::History;
use super::matrix::sample;
use super::scenario::Scenario;
use crate::{Host, Running, wait_until};

/// How long a host of Kubernetes is without its network: longer than it takes for its node to be given up.
const OUT_AT_MOST: Duration = Duration::from_secs(60);

/// What goes wrong while a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `gantry` is killed.
    OrchestratorKilled,
    /// The host's agent is killed; systemd starts it again.
    AgentKilled,
    /// What the step runs is killed.
    ProgramKilled,
    /// The host loses power and boots again.
    PowerCut,
    /// The host's cable is out until the step is over; a minute at most where steps wait for other hosts.
    NetworkCut,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::OrchestratorKilled,
        Self::AgentKilled,
        Self::ProgramKilled,
        Self::PowerCut,
        Self::NetworkCut,
    ];

    /// Whether it can happen to a step; only some run a program.
    #[must_use]
    pub fn fits(self, runs_a_program: bool) -> bool {
        self != Self::ProgramKilled || runs_a_program
    }

    /// Lets it happen. Gives back the `gantry` that runs, if it still does. What was interrupted is whole again
    /// afterwards, as far as nobody has to do anything for it: the host is up, the cable in.
    pub(super) fn strike(self, scene: &Scene<'_>, running: Running) -> Result<Option<Running>> {
        let host = scene.host;
        match self {
            Self::OrchestratorKilled => {
                running.kill()?;
                scene.release()?;
                return Ok(None);
            }
            Self::AgentKilled => host.kill_agent()?,
            // It may have ended in this moment: then there is nothing to kill.
            Self::ProgramKilled => {
                host.run("systemctl kill --signal=KILL 'gantry-step-*.service'")?;
            }
            Self::PowerCut => {
                host.reboot()?;
                scene.scenario.booted(host)?;
                host.wait_for_agent()?;
            }
            Self::NetworkCut => {
                host.port().unplug()?;
                scene.release()?;
                let began = Instant::now();
                let over = wait_until("the step is over", scene.scenario.limit(), || {
                    let waits_for_others =
                        scene.scenario != Scenario::Scripts && began.elapsed() >= OUT_AT_MOST;
                    let ended = History::of(host)?.ended_since(scene.mark, scene.step);
                    Ok((ended || waits_for_others).then_some(()))
                });
                host.port().plug_in_again()?;
                over.context("without its network the host does not go on")?;
            }
        }
        scene.release()?;
        Ok(Some(running))
    }
}

/// What goes wrong in a life, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// The same at every step.
    Everywhere(Fault),
    /// One of them at one step in five, drawn by this seed.
    Drawn(u64),
}

/// Of how many steps one is disturbed where that is drawn.
const ONE_IN: usize = 5;

impl Faults {
    /// What happens at the step that `step` names, e.g. `join/host3/kubeadm join`; the same each time.
    pub(super) fn at(self, step: &str, runs_a_program: bool) -> Option<Fault> {
        match self {
            Self::Everywhere(fault) => Some(fault).filter(|fault| fault.fits(runs_a_program)),
            Self::Drawn(seed) => {
                let mut faults = Fault::ALL.to_vec();
                faults.retain(|fault| fault.fits(runs_a_program));
                // Lots, of which one in so many is a fault.
                let quiet = faults.len() * (ONE_IN - 1);
                let mut drawn: Vec<Option<Fault>> = faults.into_iter().map(Some).collect();
                drawn.extend(iter::repeat_n(None, quiet));
                let of_step = step
                    .bytes()
                    .fold(seed, |mixed, byte| mixed.rotate_left(5) ^ u64::from(byte));
                sample(drawn, 1, of_step).pop().flatten()
            }
        }
    }
}

/// Where a fault strikes.
pub(super) struct Scene<'a> {
    pub(super) scenario: Scenario,
    pub(super) host: &'a Host,
    /// Title of the step.
    pub(super) step: &'a str,
    /// The journal's mark behind which it started.
    pub(super) mark: usize,
}

impl Scene<'_> {
    fn release(&self) -> Result<()> {
        self.scenario.release(self.host, self.step)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OrchestratorKilled => "orchestrator-killed",
            Self::AgentKilled => "agent-killed",
            Self::ProgramKilled => "program-killed",
            Self::PowerCut => "power-cut",
            Self::NetworkCut => "network-cut",
        })
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere(fault) => fault.fmt(f),
            Self::Drawn(_) => f.pad("drawn"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_steps_one_in_five_is_disturbed_and_the_same_ones_by_the_same_seed() {
        let drawn = |seed| {
            let steps = (0..1000).map(|number| format!("create/host{number}/init.sh"));
            let faults = steps.map(move |step| Faults::Drawn(seed).at(&step, false));
            faults.collect::<Vec<_>>()
        };
        let today = drawn(20_000);
        let struck = today.iter().flatten().count();
        assert!((150..250).contains(&struck), "{struck}");
        assert!(!today.contains(&Some(Fault::ProgramKilled)), "it runs none");
        assert!(today.contains(&Some(Fault::PowerCut)));
        assert_eq!(today, drawn(20_000));
        assert_ne!(today, drawn(20_001));
    }
}
