//! One cgroup per test host: systemd inside sees it as its root, and all that runs there can be found and ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_until;

/// A cgroup of the same name in every hierarchy of this machine (one on cgroup v2, several on v1).
#[derive(Debug, Clone)]
pub struct Cgroup {
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Names the cgroup; nothing is created yet.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            folders: hierarchies()
                .into_iter()
                .map(|folder| folder.join(name))
                .collect(),
        }
    }

    /// All cgroups whose names start so.
    #[must_use]
    pub fn starting_with(prefix: &str) -> Vec<Self> {
        let mut names: Vec<String> = hierarchies()
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(prefix))
            .collect();
        names.sort();
        names.dedup();
        names.iter().map(|name| Self::named(name)).collect()
    }

    /// Creates it.
    ///
    /// # Errors
    /// When the machine does not allow that (not root).
    pub fn create(&self) -> Result<()> {
        for folder in &self.folders {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create the cgroup {}", folder.display()))?;
            // A cpuset starts empty, and nothing may enter it then.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let parent = folder.parent().map(|parent| parent.join(file));
                if let Some(value) = parent.and_then(|path| fs::read_to_string(path).ok()) {
                    // On cgroup v2 the file is not there in a child; then there is nothing to fill in.
                    let _ = fs::write(folder.join(file), value);
                }
            }
        }
        Ok(())
    }

    /// Shell words that move the running shell into it.
    #[must_use]
    pub fn enter_script(&self) -> String {
        let one = |folder: &PathBuf| {
            format!(
                "echo $$ 2>/dev/null >'{}/cgroup.procs' || true; ",
                folder.display()
            )
        };
        self.folders.iter().map(one).collect()
    }

    /// CPU seconds used so far by all that runs or ran in it; none where the machine does not count them.
    #[must_use]
    pub fn cpu_seconds(&self) -> Option<f64> {
        let usage = |folder: &PathBuf| {
            if let Ok(nanoseconds) = fs::read_to_string(folder.join("cpuacct.usage")) {
                return nanoseconds.trim().parse::<f64>().ok().map(|value| value / 1e9);
            }
            let stat = fs::read_to_string(folder.join("cpu.stat")).ok()?;
            let line = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
            line.parse::<f64>().ok().map(|value| value / 1e6)
        };
        self.folders.iter().find_map(usage)
    }

    /// Lets what runs in it go before everything else on the machine. Does nothing where the machine does not
    /// share its CPUs by cgroup.
    pub fn go_first(&self) {
        for folder in &self.folders {
            // Of cgroup v1 and v2, each the largest value there is; the file of the other version is not there.
            for (file, most) in [("cpu.shares", "262144"), ("cpu.weight", "10000")] {
                if folder.join(file).exists() {
                    // Without the right to it, measurements are only less steady.
                    let _ = fs::write(folder.join(file), most);
                }
            }
        }
    }

    /// Ends every process in it and removes it.
    ///
    /// # Errors
    /// When a process does not go away.
    pub fn remove(&self) -> Result<()> {
        wait_until(
            "the processes of a test host end",
            Duration::from_secs(20),
            || {
                let processes: Vec<i32> = self
                    .folders
                    .iter()
                    .flat_map(|folder| processes_below(folder))
                    .collect();
                for process in &processes {
                    // It may have ended since it was listed.
                    let _ = kill(Pid::from_raw(*process), Signal::SIGKILL);
                }
                Ok(processes.is_empty().then_some(()))
            },
        )?;
        wait_until(
            "the cgroups of a test host can be removed",
            Duration::from_secs(20),
            || {
                Ok(self
                    .folders
                    .iter()
                    .all(|folder| remove_below(folder))
                    .then_some(()))
            },
        )
    }
}

/// The roots of this machine's cgroup hierarchies.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.procs").exists() {
        return vec![root.to_owned()];
    }
    let mut folders: Vec<PathBuf> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        // On v1 some names are links to a hierarchy of another name.
        .filter(|path| !path.is_symlink() && path.join("cgroup.procs").exists())
        .collect();
    folders.sort();
    folders
}

fn processes_below(folder: &Path) -> Vec<i32> {
    let mut found: Vec<i32> = fs::read_to_string(folder.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|process| *process > 0)
        .collect();
    for child in children(folder) {
        found.extend(processes_below(&child));
    }
    found
}

/// Removes a cgroup with those below it; true when it is gone.
fn remove_below(folder: &Path) -> bool {
    for child in children(folder) {
        remove_below(&child);
    }
    !folder.exists() || fs::remove_dir(folder).is_ok()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect()
}
