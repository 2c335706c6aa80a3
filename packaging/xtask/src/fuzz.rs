//! `cargo xtask fuzz`: gives the targets of `integration/fuzz` to libFuzzer, each for a while.
//!
//! Instrumentation comes from passes of LLVM that stable Rust has; no sanitizer is needed, for there is no unsafe code to watch.

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::{must, repository, target_folder};

/// The platform is named, so that build scripts and macros are not instrumented.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// What libFuzzer follows: edges and comparisons.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// An input that takes longer is a defect, in seconds.
const INPUT_LIMIT_S: u32 = 20;
/// More memory than this, in MiB, is a defect.
const MEMORY_LIMIT_MIB: u32 = 1024;
/// Longest input, in bytes.
const MAX_LEN: u32 = 1 << 16;
/// libFuzzer's line about how much it did.
const RUNS: &str = "stat::number_of_executed_units:";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Targets; all when none is named
    targets: Vec<String>,
    /// How long each runs
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u32,
    /// What libFuzzer's choices come from: the same inputs in the same order, until the corpus has grown
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u32,
    /// Run this input alone: a file that a failure left
    #[arg(long, value_name = "FILE", requires = "targets")]
    input: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let known = targets()?;
    for name in &args.targets {
        if !known.contains(name) {
            bail!("no target is called {name:?}; there are: {}", known.join(", "));
        }
    }
    let program = build()?;
    let chosen = if args.targets.is_empty() {
        &known
    } else {
        &args.targets
    };
    let failed = on_all_cores(chosen, |name| match &args.input {
        Some(input) => one(&program, name, input),
        None => fuzz(&program, name, args),
    });
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} failed", failed.join(", "))
}

/// As many at a time as there are cores; gives those that failed, in the order of the list.
fn on_all_cores(chosen: &[String], fuzz: impl Fn(&str) -> Result<()> + Sync) -> Vec<&str> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(name) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = fuzz(name) {
                        eprintln!("{error:#}");
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    chosen
        .iter()
        .filter(|name| failed.contains(name))
        .map(String::as_str)
        .collect()
}

/// The names in the list of the crate.
fn targets() -> Result<Vec<String>> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(repository()).args([
        "run",
        "--quiet",
        "--locked",
        "--package",
        "gantry-fuzz",
        "--bin",
        "targets",
    ]);
    Ok(must(&mut cargo)?.lines().map(str::to_owned).collect())
}

fn build() -> Result<PathBuf> {
    let folder = target_folder().join("fuzz");
    let status = Command::new("cargo")
        .current_dir(repository())
        .env("RUSTFLAGS", INSTRUMENTATION)
        .env("CARGO_TARGET_DIR", &folder)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            "fuzz",
            "--target",
            PLATFORM,
        ])
        .args([
            "--package",
            "gantry-fuzz",
            "--features",
            "libfuzzer",
            "--bin",
            "fuzz",
        ])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the targets cannot be built");
    }
    Ok(folder.join(PLATFORM).join("fuzz/fuzz"))
}

fn fuzz(program: &Path, name: &str, args: &Args) -> Result<()> {
    let folder = target_folder().join("fuzz").join(name);
    let corpus = folder.join("corpus");
    fs::create_dir_all(&corpus)?;
    let output = Command::new(program)
        .env("GANTRY_FUZZ_TARGET", name)
        .env("GANTRY_FUZZ_SEEDS", &corpus)
        .arg(format!("-artifact_prefix={}/", folder.display()))
        .arg(format!("-max_total_time={}", args.seconds))
        .arg(format!("-seed={}", args.seed))
        .arg(format!("-timeout={INPUT_LIMIT_S}"))
        .arg(format!("-rss_limit_mb={MEMORY_LIMIT_MIB}"))
        .arg(format!("-max_len={MAX_LEN}"))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .arg(&corpus)
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(
            "{name}: {}\n{said}\n`cargo xtask fuzz {name} --input FILE` runs the input again that is named above",
            output.status
        );
    }
    let runs = said.lines().find_map(|line| line.strip_prefix(RUNS));
    println!("{name}: {} inputs", runs.unwrap_or("0").trim());
    Ok(())
}

fn one(program: &Path, name: &str, input: &Path) -> Result<()> {
    let status = Command::new(program)
        .env("GANTRY_FUZZ_TARGET", name)
        .arg(input)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}
