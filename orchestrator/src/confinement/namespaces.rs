//! This module owns the two processes between `gantry` and the commands in a sandbox.

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use rustix::process::{Signal, set_parent_process_death_signal};

/// Flags of hidden commands that start a child in namespaces of its own; nobody types them.
#[derive(Debug, clap::Args)]
pub struct ChildArgs {
    /// The file with what to do
    pub(crate) spec: PathBuf,
    /// This is the inner process
    #[arg(long)]
    pub(crate) inner: bool,
}

/// Makes new namespaces, but for the network's where `keeps_network`, and runs `gantry COMMAND --inner SPEC` there; gives its status.
/// It is the first of the new process namespace and ends all others when it ends; it is ended when this process is.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn first_of_new_namespaces(
    command: &str,
    spec_file: &Path,
    keeps_network: bool,
) -> io::Result<i32> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    close_inherited_handles()?;
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

/// What the inner process does first, whatever it is for.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn begin_first() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Commands get no terminal: `/dev/tty` would be that of whoever started this.
    nix::unistd::setsid()?;
    // What a kernel does with the memory of who crashes, it does outside.
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}

/// Closes what whoever started `gantry` left open for all that it starts: a handle leads past every mount. Those that `gantry` has
/// opened itself are not among them.
fn close_inherited_handles() -> io::Result<()> {
    let entries = fs::read_dir("/proc/self/fd")?;
    let handles: Vec<RawFd> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for handle in handles.into_iter().filter(|handle| *handle > 2) {
        // The handle of the list itself is closed already.
        let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{handle}")) else {
            continue;
        };
        if is_inherited(&info) {
            nix::unistd::close(handle)?;
        }
    }
    Ok(())
}

/// Whether a handle stays open in what is started, from its file in `/proc/self/fdinfo` (proc(5)).
fn is_inherited(info: &str) -> bool {
    let close_on_exec = nix::libc::O_CLOEXEC as u64;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & close_on_exec == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_that_are_closed_on_exec_stay() {
        assert!(is_inherited("pos:\t0\nflags:\t0100002\nmnt_id:\t25\n"));
        assert!(!is_inherited("pos:\t0\nflags:\t02100002\nmnt_id:\t25\n"));
        assert!(!is_inherited(""));
    }
}
