//! `cargo xtask package`: static programs, then packages of them.

mod contents;
mod current;
mod deb;
mod rpm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{must, repository, target_folder};
use current::Inputs;

/// glibc's own target: linked statically it needs nothing that is not on every machine with a Rust toolchain.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What the agent's program may weigh: it is carried to hundreds of hosts.
const AGENT_LIMIT: u64 = 15 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Cargo profile to build with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Where the packages go [default: packages/ in the target folder]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Only build and check the programs
    #[arg(long)]
    programs_only: bool,
}

/// One package: its name, what it is, and its folder here.
struct Package {
    name: &'static str,
    summary: &'static str,
    description: &'static str,
    depends: &'static str,
    /// Where its spec and maintainer scripts are, below `packaging/`.
    folder: &'static str,
    /// Its systemd units.
    units: &'static [&'static str],
    /// Its configuration, in `/etc/gantry`.
    configuration: &'static [&'static str],
}

const PACKAGES: [Package; 2] = [
    Package {
        name: "gantry-agent",
        summary: "receives cluster images, assembles their rootfs and runs their scripts",
        description: "The Gantry agent runs on every host of a cluster. It receives the layers of a cluster image\n \
                      over QUIC, verifies them, mounts them as the cluster's rootfs and runs the scripts found there.",
        depends: "init-system-helpers, systemd",
        folder: "agent",
        units: &["gantry-agent.service"],
        configuration: &["agent.toml", "policy.json"],
    },
    Package {
        name: "gantry",
        summary: "turns bare Linux hosts into a Kubernetes cluster from one file",
        description: "The Gantry orchestrator builds and keeps cluster images, and applies a Clusterfile: it plans\n \
                      what every host needs and has the agents there do it. No internet is needed.",
        depends: "",
        folder: "orchestrator",
        units: &["gantry-renew.service", "gantry-renew.timer"],
        configuration: &[],
    },
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let programs = build(&args.profile)?;
    for package in &PACKAGES {
        check_program(&programs.join(package.name))?;
    }
    if args.programs_only {
        println!("gantry and gantry-agent are in {}", programs.display());
        return Ok(());
    }
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| target_folder().join("packages"));
    let work = target_folder().join("package-work");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    for package in &PACKAGES {
        let program = programs.join(package.name);
        let inputs = Inputs::of(package, &program, &out)?;
        let made = match inputs.made() {
            Some(made) => made,
            None => {
                let made = [
                    deb::make(package, &program, &work, &out)?,
                    rpm::make(package, &program, &work, &out)?,
                ];
                inputs.note(&made)?;
                made.to_vec()
            }
        };
        for made in made {
            println!("{} ({} KiB)", made.display(), fs::metadata(&made)?.len() / 1024);
        }
    }
    let weight = fs::metadata(programs.join("gantry-agent"))?.len();
    if args.profile == "release" && weight > AGENT_LIMIT {
        bail!(
            "gantry-agent weighs {weight} bytes, more than the {AGENT_LIMIT} it may: look at what it links (`cargo tree -p gantry-agent`)"
        );
    }
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
}

/// Builds both programs without any dynamic dependency; gives the folder they are in.
fn build(profile: &str) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(repository())
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    cargo.args([
        "build",
        "--locked",
        "--target",
        TARGET,
        "--profile",
        profile,
        "-p",
        "gantry",
        "-p",
        "gantry-agent",
    ]);
    let status = cargo.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the programs do not build: {status}");
    }
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(target_folder().join(TARGET).join(folder))
}

/// A packaged program must start on any host: no interpreter, no libraries.
fn check_program(program: &Path) -> Result<()> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("cannot start ldd")?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if !said.contains("statically linked") && !said.contains("not a dynamic executable") {
        bail!("{} has dynamic dependencies:\n{said}", program.display());
    }
    Ok(())
}

/// Seconds since the epoch that all packaged files carry, so that the same commit gives the same packages.
fn timestamp() -> Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let time = must(
        Command::new("git")
            .current_dir(repository())
            .args(["log", "-1", "--format=%ct"]),
    )?;
    Ok(time.trim().to_owned())
}

/// The version both packages carry.
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
