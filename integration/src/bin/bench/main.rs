//! `make bench`: what Gantry costs in time, CPU and memory, beside the tools people use today.
//!
//! ```text
//! content, kubernetes_tree   the same data for everybody, the same on every run
//! contender                  who takes part: prepare, run (measured), check
//! measure                    rounds A B C A B C, medians, CPU seconds of both ends
//! scripted                   contenders that are a few lines of shell
//! ssh_peer, gantry_staging   the contenders that bring a tree to a host
//! benchmarks/                one file per benchmark: data, contenders, goals
//! report                     tables, goals met or missed
//! ```
//!
//! Figures of one machine and hour mean little; every benchmark runs its peers in the same rounds and the goals
//! are ratios.

mod benchmarks;
mod contender;
mod content;
mod gantry_staging;
mod kubernetes_tree;
mod measure;
mod memory_folder;
mod programs;
mod report;
mod scripted;
mod settings;
mod ssh_peer;
mod stage_site;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use gantry_integration::cache;

use benchmarks::BENCHMARKS;
use report::Report;
use settings::Settings;

/// Measures Gantry beside scp, rsync, skopeo, umoci, buildah and podman.
///
/// Exits with status 1 when a goal is missed, 2 when a benchmark could not run.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// Benchmarks to run; all when none is named. `--list` shows them.
    names: Vec<String>,
    /// Say what each benchmark measures, and run none.
    #[arg(long)]
    list: bool,
    /// Small data, one round, no goals: shows that the benchmarks work.
    #[arg(long)]
    quick: bool,
    /// Measured rounds per benchmark.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Exit with status 0 even when goals are missed.
    #[arg(long)]
    report_only: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the benchmarks; whether every goal that counts was met.
fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.list {
        for benchmark in BENCHMARKS {
            println!("{:16} {}", benchmark.name, benchmark.about);
        }
        return Ok(true);
    }
    for name in &arguments.names {
        if !BENCHMARKS.iter().any(|benchmark| benchmark.name == name) {
            let known: Vec<_> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
            bail!("no benchmark is called '{name}'; there are: {}", known.join(", "));
        }
    }
    // Two at once would measure each other.
    let lock = cache::lock_file(&cache::folder().join("bench.lock"))?;
    if lock.try_lock().is_err() {
        bail!(
            "another bench is running; its lock is {}",
            cache::folder().join("bench.lock").display()
        );
    }
    let settings = Settings::new(arguments.quick, arguments.rounds);
    let mut missed = 0;
    for benchmark in BENCHMARKS {
        if !arguments.names.is_empty() && !arguments.names.iter().any(|name| name == benchmark.name) {
            continue;
        }
        eprintln!("bench: {} ({})", benchmark.name, benchmark.about);
        let mut report = Report::new(benchmark.name, benchmark.about);
        (benchmark.run)(&settings, &mut report)
            .with_context(|| format!("the benchmark {} failed", benchmark.name))?;
        print!("{}", report.text(settings.goals_count()));
        missed += report.missed();
    }
    if missed > 0 && settings.goals_count() {
        eprintln!("bench: {missed} goals missed");
    }
    Ok(missed == 0 || arguments.report_only || !settings.goals_count())
}
