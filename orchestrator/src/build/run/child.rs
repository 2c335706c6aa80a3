//! This module owns the two processes between `gantry build` and a RUN command.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::{CANNOT_START, NOBODY, ROOTFS, RunSpec, sandbox};
use crate::confinement::bounds::{Excess, Guard};
use crate::confinement::{ChildArgs, Membership, begin_first, first_of_new_namespaces, rights, system_calls};

/// The hidden command that starts a child.
pub(super) const COMMAND: &str = "build-run-child";

/// How often is looked what a command takes.
const TICK: Duration = Duration::from_millis(100);
/// Processes that are taken notice of in a row.
const MAX_ENDED: usize = 256;

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

fn inner(spec_file: &Path) -> io::Result<i32> {
    begin_first()?;
    let spec = read(spec_file)?;
    // As long as paths lead there.
    let membership = spec.group.as_ref().and_then(Membership::open);
    let mut excess_file = OpenOptions::new().write(true).open(&spec.excess)?;
    if spec.alone {
        sandbox::enter_alone(&spec)?;
    } else {
        sandbox::enter(&spec)?;
    }
    rights::keep_few(spec.network)?;
    system_calls::refuse()?;
    let command = match &membership {
        Some(membership) => membership.start_in(|| start(&spec))?,
        None => start(&spec)?,
    };
    // The command is a process of its own: this one ends with the build, whatever the command asks of the kernel, and all others
    // end with this one.
    let guard = Guard::new(spec.bounds, if spec.alone { "/" } else { ROOTFS });
    let (status, excess) = match supervise(&command, &guard)? {
        Ok(0) => (0, None),
        Ok(status) => {
            let refused = membership.map(|mut membership| membership.refused(spec.bounds));
            (status, refused.transpose()?.flatten())
        }
        Err(excess) => (CANNOT_START, Some(excess)),
    };
    if let Some(excess) = excess {
        excess_file.write_all(excess.to_string().as_bytes())?;
    }
    Ok(status)
}

fn start(spec: &RunSpec) -> io::Result<Child> {
    let (program, arguments) = spec
        .arguments
        .split_first()
        .ok_or_else(|| io::Error::other("the command is empty"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&spec.env)
        .current_dir(if spec.alone { "/" } else { ROOTFS });
    if spec.alone {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))
}

/// Waits until `command` has ended or takes too much, and takes notice of all others that end meanwhile.
fn supervise(command: &Child, guard: &Guard) -> io::Result<Result<i32, Excess>> {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let mut looked = Instant::now();
    loop {
        // What ended before its signal was waited for is found, too.
        if let Some(status) = ended(command) {
            return Ok(Ok(status));
        }
        if looked.elapsed() >= TICK {
            looked = Instant::now();
            if let Some(excess) = guard.excess()? {
                return Ok(Err(excess));
            }
        }
        let mut handles = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(
            &mut handles,
            PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO),
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // One stands for all that came since.
        signals.read_signal()?;
    }
}

/// The status of `command` if it has ended, as a shell has it.
fn ended(command: &Child) -> Option<i32> {
    for _ in 0..MAX_ENDED {
        let (process, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(process, status)) => (process, status),
            Ok(WaitStatus::Signaled(process, signal, _)) => (process, 128 + signal as i32),
            Err(Errno::EINTR) => continue,
            _ => return None,
        };
        if u32::try_from(process.as_raw()) == Ok(command.id()) {
            return Some(status);
        }
    }
    None
}

fn read(spec_file: &Path) -> io::Result<RunSpec> {
    Ok(serde_json::from_slice(&fs::read(spec_file)?)?)
}
