//! Time and CPU of contenders who take turns.

use std::time::Instant;

use anyhow::{Context as _, Result};
use gantry_integration::cgroup::Cgroup;

use crate::contender::Contender;

/// What one contender needed, round by round.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// Who.
    pub(crate) name: String,
    seconds: Vec<f64>,
    cpu_seconds: Vec<f64>,
}

impl Series {
    /// Median wall-clock seconds.
    pub(crate) fn seconds(&self) -> f64 {
        median(&self.seconds)
    }

    /// Median CPU seconds, user and system, of everything that ran in the meter's cgroups.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        median(&self.cpu_seconds)
    }

    /// Slowest round divided by the fastest: how far the median can be trusted.
    pub(crate) fn spread(&self) -> f64 {
        let fastest = self.seconds.iter().copied().fold(f64::INFINITY, f64::min);
        self.seconds.iter().copied().fold(0.0, f64::max) / fastest
    }
}

/// Counts the CPU time of cgroups: processes that ended and children of children are in it.
pub(crate) struct Meter<'a> {
    cgroups: Vec<&'a Cgroup>,
}

impl<'a> Meter<'a> {
    /// A meter of these cgroups. They go before everything else from now on: a busy machine shall not decide who
    /// wins.
    pub(crate) fn of(cgroups: impl IntoIterator<Item = &'a Cgroup>) -> Self {
        let cgroups: Vec<_> = cgroups.into_iter().collect();
        for cgroup in &cgroups {
            cgroup.go_first();
        }
        Self { cgroups }
    }

    fn cpu_seconds(&self) -> Result<f64> {
        let one = |cgroup: &&Cgroup| {
            cgroup
                .cpu_seconds()
                .context("this machine does not count CPU time per cgroup")
        };
        self.cgroups.iter().map(one).sum()
    }
}

/// More than any contender fills, in bytes.
const TOUCHED: usize = 2 << 30;

/// Gives the next contender memory that this machine has. A virtual machine's free memory may be taken back by what is
/// below it, and whoever writes there first waits for it: that was worth up to twice a contender's time, and met
/// whoever came after a longer pause.
fn touch_memory() {
    std::hint::black_box(vec![1_u8; TOUCHED]);
}

/// Lets the contenders take turns: one unmeasured round in which each has to prove its work, then `rounds`
/// measured ones. Whatever else the machine does meets everybody alike.
pub(crate) fn compare(
    meter: &Meter<'_>,
    rounds: usize,
    contenders: &mut [Box<dyn Contender + '_>],
) -> Result<Vec<Series>> {
    let series_of = |contender: &dyn Contender| Series {
        name: contender.name().to_owned(),
        seconds: Vec::new(),
        cpu_seconds: Vec::new(),
    };
    let mut all: Vec<Series> = contenders
        .iter()
        .map(|contender| series_of(contender.as_ref()))
        .collect();
    for round in 0..=rounds {
        for (contender, series) in contenders.iter_mut().zip(&mut all) {
            let who = || format!("{}, round {round}", series.name);
            contender
                .prepare()
                .with_context(|| format!("cannot prepare {}", who()))?;
            touch_memory();
            let (cpu_before, started) = (meter.cpu_seconds()?, Instant::now());
            contender.run().with_context(who)?;
            let (seconds, cpu_seconds) = (started.elapsed().as_secs_f64(), meter.cpu_seconds()? - cpu_before);
            eprintln!("bench:   {}: {seconds:.2} s, {cpu_seconds:.2} CPU s", who());
            if round == 0 {
                contender
                    .check()
                    .with_context(|| format!("{} did not do the job", series.name))?;
            } else {
                series.seconds.push(seconds);
                series.cpu_seconds.push(cpu_seconds);
            }
        }
    }
    Ok(all)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn a_median_is_the_middle_or_between_the_two_middles() {
        assert!((median(&[9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 9.0]) - 3.0).abs() < f64::EPSILON);
    }
}
