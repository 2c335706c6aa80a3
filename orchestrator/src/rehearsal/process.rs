//! Processes of a rehearsal: whose a socket is, which are left, and their end. The only ones there are its own.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::trace::shown;

/// Processes whose names or handles are looked at.
const MAX_PROCESSES: usize = 256;
/// Handles of a process that are looked at.
const MAX_HANDLES: usize = 1024;
/// Processes that are taken notice of in a row: scripts can end them as fast as anybody looks.
const MAX_ENDED: usize = 256;

/// How a socket sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Tcp,
    Udp,
}

impl Way {
    /// Where the kernel lists sockets of it (proc(5)).
    const fn tables(self) -> [&'static str; 2] {
        match self {
            Self::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
            Self::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        }
    }
}

/// The name of the process that sends from `port`.
pub(super) fn that_sends_from(way: Way, port: u16) -> Option<String> {
    way.tables().into_iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        let socket = table.lines().find_map(|line| {
            let mut fields = line.split_whitespace();
            let (_, local) = fields.nth(1)?.rsplit_once(':')?;
            // After the address: the peer, state, queues, timer, retransmits, user, timeout, inode.
            let inode = fields.nth(7)?;
            (u16::from_str_radix(local, 16) == Ok(port)).then(|| format!("socket:[{inode}]"))
        })?;
        let mut asking = others().into_iter().take(MAX_PROCESSES);
        asking.find(|process| has_open(*process, &socket)).and_then(name)
    })
}

/// Whether there are processes but this one.
pub(super) fn is_any_left() -> bool {
    !others().is_empty()
}

/// Names of processes but this one, not of all where there are many.
pub(super) fn names_of_others() -> Vec<String> {
    let others = others().into_iter().take(MAX_PROCESSES);
    others.filter_map(name).collect()
}

/// Ends all processes but this one, which has to be the first of its namespace, and waits until they are gone.
pub(super) fn end_others() {
    while is_any_left() {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        while matches!(waitpid(None, None), Ok(_) | Err(Errno::EINTR)) {}
    }
}

/// Takes notice of processes that have ended; gives the status of `child` if it was one of them: its exit status, or the
/// negative number of the signal that ended it.
pub(super) fn ended(child: u32) -> Option<i32> {
    for _ in 0..MAX_ENDED {
        let (process, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(process, code)) => (process, code),
            Ok(WaitStatus::Signaled(process, signal, _)) => (process, -(signal as i32)),
            Err(Errno::EINTR) => continue,
            _ => return None,
        };
        if u32::try_from(process.as_raw()) == Ok(child) {
            return Some(code);
        }
    }
    None
}

fn others() -> Vec<u32> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| *id != own).collect()
}

fn has_open(process: u32, socket: &str) -> bool {
    let handles = fs::read_dir(format!("/proc/{process}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let mut targets = handles
        .take(MAX_HANDLES)
        .filter_map(|handle| fs::read_link(handle.path()).ok());
    targets.any(|target| target == Path::new(socket))
}

fn name(process: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(shown(name.trim_end()))
}
