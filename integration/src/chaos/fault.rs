//! This module owns [`Fault`]: what goes wrong at a step.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::history::History;
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
