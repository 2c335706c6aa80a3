//! `make chaos`: a fault at every step of a cluster's life, and the same command again.

use std::collections::VecDeque;
use std::fmt::Display;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Parser;
use gantry_integration::chaos::{self, Act, Case, Fault, Faults, Life, Scenario};

/// Disturbs every step of a cluster's life, runs the command again, and looks whether the end is the same.
///
/// Exits with status 1 when a case fails, 2 when none could be run.
#[derive(Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// Cases to run, as they are listed; a part of a name names all that have it (`upgrade/`, `/power-cut`). All when none is
    /// given.
    names: Vec<String>,
    /// Clusters of Kubernetes instead of small scripts; a case takes minutes.
    #[arg(long)]
    kubernetes: bool,
    /// Clusters of Kubernetes with three control planes, of which one leaves and joins.
    #[arg(long, conflicts_with = "kubernetes")]
    control_planes: bool,
    /// Lives instead of cases: all acts on the same hosts, and at every step the same kind of fault. Names are those of acts and
    /// faults (`upgrade`, `power-cut`); `drawn` is a life with some of them at some steps, by the seed.
    #[arg(long, conflicts_with = "sample")]
    life: bool,
    /// Say which cases there are, and run none.
    #[arg(long)]
    list: bool,
    /// Run this many, drawn by the seed.
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// What the sample is drawn by; the day, if not given.
    #[arg(long, value_name = "N", default_value_t = chaos::seed(), hide_default_value = true)]
    seed: u64,
    /// Cases at the same time.
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("chaos: {failed} cases failed");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the cases asked for; how many failed.
fn run(arguments: &Arguments) -> Result<usize> {
    let scenario = if arguments.control_planes {
        Scenario::ControlPlanes
    } else if arguments.kubernetes {
        Scenario::Kubernetes
    } else {
        Scenario::Scripts
    };
    if arguments.life {
        return Ok(run_lives(scenario, arguments));
    }
    let mut cases = chaos::cases(scenario, &acts(scenario, &arguments.names))?;
    let of = cases.len();
    if !arguments.names.is_empty() {
        cases.retain(|case| {
            let name = case.to_string();
            arguments.names.iter().any(|part| name.contains(part.as_str()))
        });
    }
    if let Some(count) = arguments.sample {
        cases = chaos::sample(cases, count, arguments.seed);
        println!("{} of {of} cases, seed {}", cases.len(), arguments.seed);
    }
    if cases.is_empty() {
        bail!("no case of {of} has such a name; `--list` shows them");
    }
    if arguments.list {
        cases.iter().for_each(|case| println!("{case}"));
        return Ok(0);
    }
    Ok(run_all(cases, arguments.jobs, Case::run))
}

/// The acts that `names` can be about: a name that begins with an act and '/' is about no other.
fn acts(scenario: Scenario, names: &[String]) -> Vec<Act> {
    let is_of = |name: &String, act: &Act| match name.split_once('/') {
        Some((first, _)) if scenario.acts().iter().any(|act| act.to_string() == first) => {
            act.to_string() == first
        }
        _ => true,
    };
    let mut acts = scenario.acts().to_vec();
    if !names.is_empty() {
        acts.retain(|act| names.iter().any(|name| is_of(name, act)));
    }
    acts
}

/// Lives whose faults, with acts that, are named; all when none is. How many failed.
fn run_lives(scenario: Scenario, arguments: &Arguments) -> usize {
    let named = |word: String| arguments.names.contains(&word);
    let mut acts = scenario.acts().to_vec();
    let mut faults: Vec<Faults> = Fault::ALL.map(Faults::Everywhere).into();
    let drawn = Faults::Drawn(arguments.seed);
    if named(drawn.to_string()) {
        println!("seed {}", arguments.seed);
        faults.push(drawn);
    }
    if acts.iter().any(|act| named(act.to_string())) {
        acts.retain(|act| named(act.to_string()));
    }
    if faults.iter().any(|fault| named(fault.to_string())) {
        faults.retain(|fault| named(fault.to_string()));
    }
    let lives = faults.into_iter().map(|faults| Life { scenario, faults });
    if arguments.list {
        lives.for_each(|life| println!("{life}"));
        return 0;
    }
    run_all(lives.collect(), arguments.jobs, |life| {
        let struck = life.run(&acts)?;
        for step in &struck.steps {
            println!("       {step}");
        }
        println!(
            "       {} steps, {} commands",
            struck.steps.len(),
            struck.commands
        );
        Ok(())
    })
}

/// Runs `cases`, so many at the same time; how many failed.
fn run_all<T: Display + Send>(cases: Vec<T>, jobs: usize, run: impl Fn(&T) -> Result<()> + Sync) -> usize {
    let (waiting, failed) = (Mutex::new(VecDeque::from(cases)), Mutex::new(0));
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(case) = next else { break };
                    let started = Instant::now();
                    let result = run(&case);
                    let seconds = started.elapsed().as_secs_f64();
                    match result {
                        Ok(()) => println!("ok     {case} ({seconds:.0} s)"),
                        Err(error) => {
                            println!("FAILED {case} ({seconds:.0} s)\n{error}");
                            *failed.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                        }
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}
