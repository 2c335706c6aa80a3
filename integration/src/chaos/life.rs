//! This module owns [`Life`]: all acts on the same hosts, one after the other, and a fault at every step of each.

use std::fmt;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};

use super::case::nothing_is_left_to_do;
use super::fault::{Fault, Faults, Scene};
use super::history::{History, StartedStep};
use super::scenario::{Act, Scenario, alike};
use crate::{Host, Running, Snapshot, Testbed, wait_until};

/// A cluster's life with faults. A [`Case`](super::Case) has hosts of its own and one fault; here the next fault finds
/// what the last one left, and hours of cases become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// With which image.
    pub scenario: Scenario,
    /// What happens, and at which steps.
    pub faults: Faults,
}

/// What a life has been through, in words for people.
#[derive(Debug, Default)]
pub struct Struck {
    /// Steps at which the fault happened, as `act/host/title`.
    pub steps: Vec<String>,
    /// How often the operator gave a command.
    pub commands: usize,
}

/// A step on a host, counted from 1.
type Place = (usize, StartedStep);

/// What is to happen at a step that has started.
struct Disturbance {
    fault: Fault,
    place: Place,
    /// The mark of the host's journal behind which it started.
    mark: usize,
}

impl Life {
    /// Lives it to its end, or through `acts` alone, which are reached undisturbed.
    ///
    /// # Errors
    /// When a command that nothing disturbed does not succeed, a finished program ran twice, something is left to do, or the
    /// hosts are not as after an act that nothing disturbed.
    pub fn run(self, acts: &[Act]) -> Result<Struck> {
        let bed = self.scenario.start()?;
        let bare = bed.snapshots()?;
        let all = self.scenario.acts().iter().copied();
        let acts: Vec<Act> = all.filter(|act| acts.contains(act)).collect();
        let quiet = self.quiet_life(&bed, &acts)?;
        let mut struck = Struck::default();
        for (index, act) in acts.into_iter().enumerate() {
            let (started, before) = (Instant::now(), struck.steps.len());
            let ended = self
                .go_through(&bed, act, &mut struck)
                .and_then(|()| self.ended_well(&bed, act, &bare, quiet.get(index)));
            ended.map_err(|error| {
                let told: String = bed.hosts().iter().map(Host::agent_log).collect();
                let last = struck.steps.last().map_or("nothing", String::as_str);
                anyhow!("{act}, after {last}: {error:#}\n{told}")
            })?;
            let (seconds, steps) = (started.elapsed().as_secs(), struck.steps.len() - before);
            println!("       {self}: {act} ended well, disturbed at {steps} steps ({seconds} s)");
        }
        Ok(struck)
    }

    /// What the hosts are like after each of `acts` when nothing disturbs them, where that is the same every time: small scripts.
    /// The hosts are bare again afterwards.
    fn quiet_life(self, bed: &Testbed, acts: &[Act]) -> Result<Vec<Vec<Snapshot>>> {
        let mut quiet = Vec::new();
        if self.scenario == Scenario::Scripts {
            for act in acts {
                self.scenario.reach(bed, *act)?;
                bed.operator().must(&act.command(self.scenario))?;
                quiet.push(bed.snapshots()?);
            }
            bed.operator().must(&Act::Reset.command(self.scenario))?;
        }
        Ok(quiet)
    }

    fn go_through(self, bed: &Testbed, act: Act, struck: &mut Struck) -> Result<()> {
        self.scenario.reach(bed, act)?;
        let marks = marks(bed)?;
        let mut seen: Vec<Place> = Vec::new();
        loop {
            let before = seen.len();
            let mut run = Some(bed.operator().start(&act.command(self.scenario))?);
            struck.commands += 1;
            while let Some(running) = run.take() {
                let (running, found) = self.next(bed, act, &marks, &seen, running)?;
                let Some(Disturbance { fault, place, mark }) = found else {
                    let finished = running.finish(self.scenario.limit())?;
                    if finished.succeeded() {
                        return Ok(());
                    }
                    ensure!(
                        seen.len() > before,
                        "the same command, run again, does not succeed: {finished}"
                    );
                    break;
                };
                struck.steps.push(name(act, &place));
                let host = bed.host(place.0);
                let scene = Scene {
                    scenario: self.scenario,
                    host,
                    step: &place.1.title,
                    mark,
                };
                run = fault.strike(&scene, running)?;
                host.wait_for_agent()?;
                seen.push(place);
            }
        }
    }

    /// The next step that starts, is to be disturbed and was not yet; none once `running` has ended.
    fn next(
        self,
        bed: &Testbed,
        act: Act,
        marks: &[usize],
        seen: &[Place],
        mut running: Running,
    ) -> Result<(Running, Option<Disturbance>)> {
        let found = wait_until(
            "a step starts, or the command ends",
            self.scenario.limit(),
            || {
                // Asked first: what it did last is in the journal by then.
                let ended = running.has_ended()?;
                for (index, (host, mark)) in bed.hosts().iter().zip(marks).enumerate() {
                    let started = History::of(host)?.started_since(*mark).into_iter();
                    let new = started
                        .map(|step| (index + 1, step))
                        .filter(|place| !seen.contains(place));
                    let mut struck = new.filter_map(|place| {
                        let fault = self.faults.at(&name(act, &place), place.1.runs_a_program)?;
                        Some(Disturbance {
                            fault,
                            place,
                            mark: *mark,
                        })
                    });
                    if let Some(last) = struck.next_back() {
                        return Ok(Some(Some(last)));
                    }
                }
                Ok(ended.then_some(None))
            },
        )?;
        Ok((running, found))
    }

    fn ended_well(
        self,
        bed: &Testbed,
        act: Act,
        bare: &[Snapshot],
        quiet: Option<&Vec<Snapshot>>,
    ) -> Result<()> {
        nothing_is_left_to_do(bed, act)?;
        match quiet {
            Some(quiet) => alike(bed, &bed.snapshots()?, quiet),
            None => self.scenario.check(bed, act, bare),
        }
    }
}

/// A step as people are told of it.
fn name(act: Act, (host, step): &Place) -> String {
    format!("{act}/host{host}/{}", step.title)
}

fn marks(bed: &Testbed) -> Result<Vec<usize>> {
    let hosts = bed.hosts().iter();
    hosts.map(|host| Ok(History::of(host)?.mark())).collect()
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "life/{}", self.faults)
    }
}
