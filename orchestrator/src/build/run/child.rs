//! This module owns the two processes between `gantry build` and a RUN command.

use std::fs;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

use super::{CANNOT_START, ROOTFS, RunSpec, sandbox};

/// The hidden command that starts a child.
pub(super) const COMMAND: &str = "build-run-child";

/// Flags of hidden commands that start a child in namespaces of its own; nobody types them.
#[derive(Debug, clap::Args)]
pub struct ChildArgs {
    /// The file with what to do
    pub(crate) spec: PathBuf,
    /// This is the inner process
    #[arg(long)]
    pub(crate) inner: bool,
}

/// Runs one of the two processes and ends this one with the status of the command.
pub fn run_child(args: &ChildArgs) -> ! {
    let result = if args.inner {
        inner(&args.spec)
    } else {
        outer(&args.spec)
    };
    let status = result.unwrap_or_else(|error| {
        eprintln!("cannot start the command: {error}");
        CANNOT_START
    });
    std::process::exit(status)
}

fn outer(spec_file: &Path) -> io::Result<i32> {
    let spec = read(spec_file)?;
    first_of_new_namespaces(COMMAND, spec_file, spec.network)
}

/// Makes new namespaces, but for the network's where `keeps_network`, and runs `gantry COMMAND --inner SPEC` there; gives its status.
/// It is the first of the new process namespace and ends all others when it ends; it is ended when this process is.
pub(crate) fn first_of_new_namespaces(
    command: &str,
    spec_file: &Path,
    keeps_network: bool,
) -> io::Result<i32> {
    use nix::sched::{CloneFlags, unshare};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if !keeps_network {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    unshare(namespaces)?;
    let status = Command::new("/proc/self/exe")
        .arg0("gantry")
        .arg(command)
        .arg("--inner")
        .arg(spec_file)
        .status()?;
    Ok(status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

fn inner(spec_file: &Path) -> io::Result<i32> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let spec = read(spec_file)?;
    if spec.alone {
        sandbox::enter_alone(&spec)?;
    } else {
        sandbox::enter(&spec)?;
    }
    let (program, arguments) = spec
        .arguments
        .split_first()
        .ok_or_else(|| io::Error::other("the command is empty"))?;
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&spec.env)
        .current_dir(if spec.alone { "/" } else { ROOTFS })
        .exec();
    Err(io::Error::new(error.kind(), format!("{program}: {error}")))
}

fn read(spec_file: &Path) -> io::Result<RunSpec> {
    Ok(serde_json::from_slice(&fs::read(spec_file)?)?)
}
