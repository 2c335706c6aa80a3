//! This module owns the control group of a sandbox (cgroup v2): the kernel itself holds to the bounds what is in it.
//!
//! A group is made where groups with processes may stand: below the nearest one above `gantry`'s own that counts processes and memory
//! for its children. Where there is none, as with groups of version 1 or in a container, the sandbox is looked at from inside alone.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use super::bounds::{Bounds, Excess};

/// Names of groups begin so; after that comes whose they are.
const PREFIX: &str = "gantry-sandbox-";
/// What a group counts, each with the file for the most.
const CONTROLLERS: [&str; 2] = ["pids", "memory"];
/// Most bytes of a file that the kernel writes about a group.
const MAX_EVENTS_LEN: u64 = 4096;

/// Groups that this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A group for one sandbox; removed when dropped.
#[derive(Debug)]
pub(crate) struct ControlGroup(GroupFolders);

/// Where the first process of a sandbox finds the group, and the one that it is in itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupFolders {
    group: PathBuf,
    own: PathBuf,
}

impl ControlGroup {
    /// Makes a group with these bounds; none where this machine has no such groups, or lets nobody make one.
    pub(crate) fn make(bounds: Bounds) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own_group(&mounts, &groups)?;
        Self::make_above(&own.0, own.1, bounds)
    }

    /// `own` lies below `top`, the first of all groups that can be seen.
    fn make_above(top: &Path, own: PathBuf, bounds: Bounds) -> Option<Self> {
        let parent = own
            .ancestors()
            .take_while(|folder| folder.starts_with(top))
            .find(|folder| counts_for_children(folder))?;
        remove_forsaken(parent);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let group = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&group).ok()?;
        let made = Self(GroupFolders { group, own });
        made.bound(bounds).ok()?;
        Some(made)
    }

    fn bound(&self, bounds: Bounds) -> io::Result<()> {
        let group = &self.0.group;
        fs::write(group.join("pids.max"), bounds.processes.to_string())?;
        fs::write(group.join("memory.max"), bounds.memory.to_string())?;
        // Kernels without swap have no such file.
        let swap = group.join("memory.swap.max");
        if swap.exists() {
            fs::write(swap, "0")?;
        }
        Ok(())
    }

    /// For the first process of the sandbox.
    pub(crate) fn folders(&self) -> GroupFolders {
        self.0.clone()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // One that is not empty yet is removed by whoever makes the next.
        let _ = fs::remove_dir(&self.0.group);
    }
}

/// A group as the first process of its sandbox has it: that one is not in it, all that it starts is.
#[derive(Debug)]
pub(crate) struct Membership {
    group: File,
    own: File,
    /// Processes that the kernel has refused and ended so far, as was told.
    told: [u64; 2],
}

impl Membership {
    /// Opens both groups, as long as a path leads to them; none where the kernel lets nobody go from one to the other.
    pub(crate) fn open(folders: &GroupFolders) -> Option<Self> {
        let membership = Self {
            group: File::open(&folders.group).ok()?,
            own: File::open(&folders.own).ok()?,
            told: [0; 2],
        };
        membership.start_in(|| Ok(())).ok()?;
        Some(membership)
    }

    /// Calls `start` while this process is in the group: what is started stays there.
    ///
    /// # Errors
    /// When the kernel refuses, and those of `start`.
    pub(crate) fn start_in<T>(&self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        join(&self.group)?;
        let started = start();
        join(&self.own)?;
        started
    }

    /// What the kernel has refused since the last time.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub(crate) fn refused(&mut self, bounds: Bounds) -> io::Result<Option<Excess>> {
        let count = |file: &str, event: &str| -> io::Result<u64> {
            let mut text = String::new();
            let file = openat(&self.group, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            File::from(file).take(MAX_EVENTS_LEN).read_to_string(&mut text)?;
            Ok(events(&text, event))
        };
        let counts = [count("pids.events", "max")?, count("memory.events", "oom_kill")?];
        let before = std::mem::replace(&mut self.told, counts);
        Ok(if counts[0] > before[0] {
            Some(Excess::Processes(bounds.processes))
        } else {
            (counts[1] > before[1]).then_some(Excess::Memory(bounds.memory))
        })
    }
}

/// This process, whatever its number is out there.
fn join(group: &File) -> io::Result<()> {
    let processes = openat(
        group,
        "cgroup.procs",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    File::from(processes).write_all(b"0")
}

fn events(text: &str, event: &str) -> u64 {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(event)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The folders of the first group that can be seen, and of that of this process, from `mounts` and `groups` as proc(5) has them.
fn own_group(mounts: &str, groups: &str) -> Option<(PathBuf, PathBuf)> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let top = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, target) = (fields.next()?, fields.next()?);
        (root == "/" && kind.starts_with("cgroup2 ")).then(|| PathBuf::from(target))
    })?;
    let own = top.join(path);
    (!path.split('/').any(|part| part == "..")).then_some((top, own))
}

fn counts_for_children(folder: &Path) -> bool {
    fs::read_to_string(folder.join("cgroup.subtree_control")).is_ok_and(|counted| {
        let counted: Vec<&str> = counted.split_whitespace().collect();
        CONTROLLERS.iter().all(|name| counted.contains(name))
    })
}

/// Groups of those that were ended before they could remove them.
fn remove_forsaken(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // The kernel keeps those that somebody is in.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_stands_where_children_are_counted() {
        let top = tempfile::tempdir().unwrap();
        let own = top.path().join("user.slice/user-0.slice/session-1.scope");
        fs::create_dir_all(&own).unwrap();
        let counted = |folder: &Path, text: &str| {
            fs::write(folder.join("cgroup.subtree_control"), text).unwrap();
        };
        counted(top.path(), "cpu memory pids\n");
        counted(&top.path().join("user.slice"), "memory pids\n");
        counted(&top.path().join("user.slice/user-0.slice"), "pids\n");
        counted(&own, "");
        // No process has this number.
        let forsaken = top.path().join("user.slice/gantry-sandbox-4294967295-0");
        fs::create_dir(&forsaken).unwrap();

        let bounds = Bounds {
            processes: 7,
            memory: 1 << 20,
        };
        let group = ControlGroup::make_above(top.path(), own.clone(), bounds).unwrap();
        let folder = group.folders().group;
        assert_eq!(folder.parent(), Some(&*top.path().join("user.slice")));
        assert_eq!(fs::read_to_string(folder.join("pids.max")).unwrap(), "7");
        assert_eq!(fs::read_to_string(folder.join("memory.max")).unwrap(), "1048576");
        assert!(!forsaken.exists());

        counted(&top.path().join("user.slice"), "cpu\n");
        counted(top.path(), "\n");
        assert!(ControlGroup::make_above(top.path(), own, bounds).is_none());
    }

    #[test]
    fn whoever_starts_something_is_in_the_group_meanwhile() {
        let top = tempfile::tempdir().unwrap();
        let folders = GroupFolders {
            group: top.path().join("group"),
            own: top.path().join("own"),
        };
        for folder in [&folders.group, &folders.own] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("cgroup.procs"), "").unwrap();
        }
        let members = |folder: &Path| fs::read_to_string(folder.join("cgroup.procs")).unwrap();
        let mut membership = Membership::open(&folders).unwrap();
        for folder in [&folders.group, &folders.own] {
            fs::write(folder.join("cgroup.procs"), "").unwrap();
        }
        let started = membership.start_in(|| Ok((members(&folders.group), members(&folders.own))));
        assert_eq!(started.unwrap(), ("0".to_owned(), String::new()));
        assert_eq!(members(&folders.own), "0");

        let bounds = Bounds {
            processes: 7,
            memory: 1 << 20,
        };
        let mut told = |processes: &str, memory: &str| {
            fs::write(folders.group.join("pids.events"), processes).unwrap();
            fs::write(folders.group.join("memory.events"), memory).unwrap();
            membership.refused(bounds).unwrap()
        };
        assert_eq!(
            told("max 0\n", "low 0\noom 3\noom_kill 0\noom_group_kill 0\n"),
            None
        );
        assert_eq!(told("max 2\n", "oom_kill 0\n"), Some(Excess::Processes(7)));
        assert_eq!(told("max 2\n", "oom_kill 0\n"), None, "it was told");
        assert_eq!(
            told("max 2\n", "oom 1\noom_kill 1\n"),
            Some(Excess::Memory(1 << 20))
        );
    }

    #[test]
    fn the_own_group_is_found_whatever_else_is_mounted() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw\n";
        let found = own_group(mounts, "8:pids:/\n0::/a.slice/b.scope\n").unwrap();
        assert_eq!(found.0, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(found.1, Path::new("/sys/fs/cgroup/unified/a.slice/b.scope"));
        assert_eq!(own_group(mounts, "8:pids:/\n"), None);
        assert_eq!(own_group(mounts, "0::/../other\n"), None);
        assert_eq!(own_group("", "0::/\n"), None);
    }
}
