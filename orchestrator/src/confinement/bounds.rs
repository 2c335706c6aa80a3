//! This module owns how much of this machine the commands of a sandbox may take together, and who looks that they do not.
//!
//! The kernel holds them to it where there are control groups ([`super::ControlGroup`]); everywhere else, and for what those do not
//! know, the first process of the sandbox looks again and again, and ends it.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Memory that is left to the machine, in bytes.
const MIN_FREE_MEMORY: u64 = 128 << 20;
/// Space that is left to the machine on the disk that commands write to, in bytes.
const MIN_FREE_DISK: u64 = 512 << 20;
/// Files that can still be made there.
const MIN_FREE_FILES: u64 = 4096;
/// The most memory that is used where nobody says less, as a part of the machine's.
const PARTS_OF_MEMORY: (u64, u64) = (3, 4);

/// The most that all commands in a sandbox take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    /// Processes and, where the kernel counts, their threads.
    pub(crate) processes: u64,
    /// Memory in bytes, no page of files among it.
    pub(crate) memory: u64,
}

impl Bounds {
    /// For commands of somebody who builds: whatever programs need.
    pub(crate) fn of_builds() -> Self {
        Self {
            processes: 4096,
            memory: part_of_machine(u64::MAX),
        }
    }

    /// For scripts that put a host up.
    pub(crate) fn of_rehearsals() -> Self {
        Self {
            processes: 1024,
            memory: part_of_machine(2 << 30),
        }
    }
}

fn part_of_machine(most: u64) -> u64 {
    let (parts, of) = PARTS_OF_MEMORY;
    memory_of_machine("MemTotal:").map_or(most, |total| most.min(total / of * parts))
}

/// What a sandbox is ended for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// More processes than this many at once.
    Processes(u64),
    /// More memory than this many bytes.
    Memory(u64),
    /// The machine's memory is nearly used up.
    MachineMemory,
    /// The disk is nearly full.
    Disk,
    /// The disk can nearly take no more files.
    Files,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Processes(most) => write!(f, "it wanted more than {most} processes at once"),
            Self::Memory(most) => write!(f, "it wanted more than {} MiB of memory", most >> 20),
            Self::MachineMemory => write!(
                f,
                "less than {} MiB of this machine's memory are left",
                MIN_FREE_MEMORY >> 20
            ),
            Self::Disk => write!(
                f,
                "less than {} MiB of this machine's disk are left",
                MIN_FREE_DISK >> 20
            ),
            Self::Files => write!(
                f,
                "this machine's disk can take less than {MIN_FREE_FILES} more files"
            ),
        }
    }
}

/// Looks for what a sandbox takes; from inside, as the first of its process namespace.
#[derive(Debug)]
pub(crate) struct Guard {
    bounds: Bounds,
    /// A folder on the disk that commands write to.
    disk: PathBuf,
}

impl Guard {
    /// Of a sandbox whose commands write to `disk`.
    pub(crate) fn new(bounds: Bounds, disk: impl Into<PathBuf>) -> Self {
        Self {
            bounds,
            disk: disk.into(),
        }
    }

    /// What commands take too much of, if they do.
    ///
    /// # Errors
    /// When the disk cannot be asked.
    pub(crate) fn excess(&self) -> io::Result<Option<Excess>> {
        let disk = rustix::fs::statvfs(&self.disk)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < MIN_FREE_DISK {
            return Ok(Some(Excess::Disk));
        }
        // Some file systems make room for files as they come, and say none.
        if disk.f_files > 0 && disk.f_favail < MIN_FREE_FILES {
            return Ok(Some(Excess::Files));
        }
        if memory_of_machine("MemAvailable:").is_some_and(|left| left < MIN_FREE_MEMORY) {
            return Ok(Some(Excess::MachineMemory));
        }
        let (mut processes, mut memory) = (0, 0);
        for status in others() {
            processes += 1;
            memory += own_memory(&status);
        }
        let Bounds {
            processes: most,
            memory: most_memory,
        } = self.bounds;
        Ok(if processes > most {
            Some(Excess::Processes(most))
        } else {
            (memory > most_memory).then_some(Excess::Memory(most_memory))
        })
    }
}

/// What the kernel says about each other process there is (`/proc/PID/status`).
fn others() -> impl Iterator<Item = String> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(move |id| *id != own)
        .filter_map(|id| fs::read_to_string(format!("/proc/{id}/status")).ok())
}

/// Bytes that a process has for itself, in memory or swapped out. What several share is not among them: it is seen when the machine
/// has little left.
fn own_memory(status: &str) -> u64 {
    ["RssAnon:", "VmSwap:"]
        .into_iter()
        .filter_map(|field| kibibytes(status, field))
        .sum()
}

/// A field of `/proc/meminfo`, in bytes.
fn memory_of_machine(field: &str) -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, field)
}

fn kibibytes(text: &str, field: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    let count: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    count.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_process_is_what_no_file_has() {
        let status = "Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\nRssFile:\t  780 kB\nRssShmem:\t  20 kB\nVmSwap:\t 3 kB\n";
        assert_eq!(own_memory(status), 103 << 10);
        assert_eq!(own_memory("Name:\tkthreadd\n"), 0);
    }

    #[test]
    fn what_is_taken_too_much_of_is_said() {
        let guard = |processes, memory| {
            let bounds = Bounds { processes, memory };
            Guard::new(bounds, "/proc")
                .excess()
                .unwrap()
                .map(|excess| excess.to_string())
        };
        // A file system without space or files of its own.
        assert_eq!(
            guard(1, 1).as_deref(),
            Some("less than 512 MiB of this machine's disk are left")
        );
        let bounds = Bounds {
            processes: 0,
            memory: u64::MAX,
        };
        let folder = std::env::temp_dir();
        assert_eq!(
            Guard::new(bounds, &folder).excess().unwrap(),
            Some(Excess::Processes(0))
        );
        let bounds = Bounds {
            processes: u64::MAX,
            memory: 0,
        };
        assert_eq!(
            Guard::new(bounds, &folder).excess().unwrap(),
            Some(Excess::Memory(0))
        );
        let bounds = Bounds {
            processes: u64::MAX,
            memory: u64::MAX,
        };
        assert_eq!(Guard::new(bounds, &folder).excess().unwrap(), None);
    }
}
