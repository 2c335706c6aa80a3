//! Controllers of control groups that are there for kubelet, by the names of cgroup v1.

use std::path::Path;

const ROOT: &str = "/sys/fs/cgroup";
/// What cgroup v2 has without listing it: freezing is its own, devices are for BPF programs, accounts are cpu's.
const IN_V2_ALWAYS: [&str; 3] = ["cpuacct", "devices", "freezer"];

/// Those that this host has.
pub(super) fn controllers() -> Vec<String> {
    let v2 = super::read(&format!("{ROOT}/cgroup.controllers"));
    if !v2.trim().is_empty() {
        let listed = v2.split_ascii_whitespace();
        return listed.chain(IN_V2_ALWAYS).map(str::to_owned).collect();
    }
    let mounted = |name: &str| Path::new(ROOT).join(name).is_dir();
    enabled(&super::read("/proc/cgroups"))
        .filter(|name| mounted(name))
        .map(str::to_owned)
        .collect()
}

/// The controllers that `/proc/cgroups` (cgroups(7)) lists as enabled.
fn enabled(table: &str) -> impl Iterator<Item = &str> {
    table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let name = words.next()?;
            (words.nth(2)? == "1").then_some(name)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_that_the_kernel_was_told_to_leave_out_does_not_count() {
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t5\t1\t1\nmemory\t0\t1\t0\n";
        assert_eq!(enabled(table).collect::<Vec<_>>(), ["cpu"]);
    }
}
