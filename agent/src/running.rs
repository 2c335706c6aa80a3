//! Which programs run on this host, by the names of their processes.

use std::fs;
use std::path::Path;

/// The first of `names` that a process has in the folder `processes`, which is /proc (proc_pid_comm(5)).
pub(crate) fn any<'a>(processes: &Path, names: &[&'a str]) -> Option<&'a str> {
    let entries = fs::read_dir(processes).into_iter().flatten().flatten();
    let running: Vec<String> = entries
        .filter_map(|process| fs::read_to_string(process.path().join("comm")).ok())
        .collect();
    names
        .iter()
        .copied()
        .find(|name| running.iter().any(|running| running.trim() == *name))
}
