//! This module owns [`KernelSettings`]: what the kernel was told before anything of an image ran on this host, given back when the
//! last cluster leaves it.
//!
//! Container runtimes and kubelet change settings of the kernel, and leave them changed. What was before is written down before
//! the first program of an image starts. It is given back only where the kernel has what such programs set, for a third value is
//! somebody else's, and where nobody is left who needs them: a runtime that the cluster did not take along (`reset --no-clean`),
//! or came meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_system::files;
use gantry_system::processes::{self, ProcessError};
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::timeout;

use crate::running;

/// The settings that are given back, each with what programs of images set: docker and containerd's CNI plugins the first three,
/// kube-proxy the next, the bridge's those that prepare for kubeadm, kubelet the rest (`--protect-kernel-defaults` names them).
const SETTINGS: [(&str, &str); 11] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/default/forwarding", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/route_localnet", "1"),
    ("net/bridge/bridge-nf-call-iptables", "1"),
    ("net/bridge/bridge-nf-call-ip6tables", "1"),
    ("vm/overcommit_memory", "1"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
/// Programs that lead packets to containers and virtual machines, by the names of their processes.
const RUNTIMES: [&str; 8] = [
    "dockerd",
    "containerd",
    "crio",
    "conmon",
    "lxd",
    "incusd",
    "libvirtd",
    "virtnetworkd",
];
/// How long a runtime that clean.sh ended may take to be gone.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked for.
const END_LOOK: Duration = Duration::from_millis(100);
/// Where settings are told to be other than the kernel's own at every boot (sysctl.d(5)).
const DEMANDS: [&str; 5] = [
    "/etc/sysctl.conf",
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
];
/// The kernel's settings as files (proc_sys(5)).
const KERNEL: &str = "/proc/sys";
/// The most that is read of a file which demands settings.
const MAX_DEMANDS_LEN: u64 = 1 << 20;
/// How long systemd may take to run what sets them.
const SYSTEMD_LIMIT: Duration = Duration::from_secs(60);
/// Sets `PATH VALUE …`: each on its own, so that one that the kernel refuses keeps none of the others.
const SET: &str = "while [ $# -gt 1 ]; do echo \"$2\" >\"$1\"; shift 2; done; true";

/// Why the settings cannot be kept or given back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelSettingsError {
    /// The file system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// systemd did not run what sets them.
    #[error("the kernel's settings from before cannot be given back: {0}; run it again")]
    Systemd(#[from] ProcessError),
}

/// What was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Settings by their path below `/proc/sys`.
    settings: BTreeMap<String, String>,
}

/// The kernel's settings on this host.
#[derive(Debug, Clone)]
pub(crate) struct KernelSettings {
    record: PathBuf,
    kernel: PathBuf,
    processes: PathBuf,
    demands: Vec<PathBuf>,
}

impl KernelSettings {
    /// The settings of this host; what was before is kept in the file `record`.
    pub(crate) fn new(record: &Path) -> Self {
        Self {
            record: record.to_owned(),
            kernel: KERNEL.into(),
            processes: "/proc".into(),
            demands: DEMANDS.map(PathBuf::from).to_vec(),
        }
    }

    /// Writes down what is now, unless that was done before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep(&self) -> Result<(), KernelSettingsError> {
        if self.record.exists() {
            return Ok(());
        }
        let settings = SETTINGS
            .iter()
            .filter_map(|(name, _)| Some(((*name).to_owned(), self.value(name)?)));
        let kept = Kept {
            settings: settings.collect(),
        };
        let text = serde_json::to_vec_pretty(&kept).expect("names and values are plain data");
        files::write_atomically(&self.record, &text, 0o600).map_err(failed("write", &self.record))
    }

    /// Gives back what was before, unless somebody needs what is.
    ///
    /// # Errors
    /// When systemd does not do it, or what was kept cannot be removed. What stays as it is, is told in the log alone.
    pub(crate) async fn restore(&self) -> Result<(), KernelSettingsError> {
        let mut due = self.due();
        if !due.is_empty()
            && let Some(program) = self.needed_by().await
        {
            let names: Vec<String> = due.iter().map(|(name, _)| name.replace('/', ".")).collect();
            tracing::warn!(
                "{} stay as the cluster left them: {program} runs, and may need them",
                names.join(", ")
            );
            due.clear();
        }
        if !due.is_empty() {
            let mut run = Command::new("systemd-run");
            run.env("LC_ALL", "C").env_remove("NOTIFY_SOCKET");
            // The agent itself has no rights over the network.
            run.args(["--quiet", "--wait", "--collect", "--", "/bin/sh", "-c"]);
            // systemd replaces $NAME in a unit's words.
            run.args([&SET.replace('$', "$$"), "sh"]);
            for (name, value) in &due {
                run.arg(self.kernel.join(name)).arg(value);
            }
            processes::run_successfully(&mut run, SYSTEMD_LIMIT).await?;
        }
        for (name, value) in due {
            let setting = name.replace('/', ".");
            match self.value(name) {
                Some(found) if found == value => tracing::info!("{setting} is {value} again"),
                _ => tracing::warn!("{setting} was {value} before and cannot be set to it"),
            }
        }
        match fs::remove_file(&self.record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.record)(error))
            }
            _ => Ok(()),
        }
    }

    /// Whether nothing is to be given back.
    pub(crate) fn is_restored(&self) -> bool {
        !self.record.exists()
    }

    /// What is to be set, and to what.
    fn due(&self) -> Vec<(&'static str, String)> {
        let Some(kept) = self.kept() else {
            return Vec::new();
        };
        let mut due = Vec::new();
        for (name, made) in SETTINGS {
            let (Some(before), Some(now)) = (kept.settings.get(name), self.value(name)) else {
                continue;
            };
            if *before != now && now == made && !self.is_demanded(name, &now) {
                due.push((name, before.clone()));
            }
        }
        due
    }

    /// What was written down; none where nothing was, or what was cannot be read.
    fn kept(&self) -> Option<Kept> {
        let read = match fs::read(&self.record) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error.to_string()),
            Ok(text) => serde_json::from_slice(&text).map_err(|error| error.to_string()),
        };
        let damaged = |reason: &String| {
            tracing::warn!(
                "the kernel's settings stay as they are: what they were before is unknown, for {} cannot be read: {reason}",
                self.record.display()
            );
        };
        read.inspect_err(damaged).ok()
    }

    fn value(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.kernel.join(name)).ok()?;
        Some(text.trim().to_owned())
    }

    /// A program that needs what is and stays; clean.sh may have ended it, and it be there a moment longer.
    async fn needed_by(&self) -> Option<&'static str> {
        let runs = || running::any(&self.processes, &RUNTIMES);
        let ends = async {
            while runs().is_some() {
                tokio::time::sleep(END_LOOK).await;
            }
        };
        timeout(END_LIMIT, ends).await.err().and_then(|_| runs())
    }

    /// Whether the host's own configuration says that a setting has this value.
    fn is_demanded(&self, name: &str, value: &str) -> bool {
        let files = self.demands.iter().flat_map(|place| match fs::read_dir(place) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => vec![place.clone()],
        });
        let read = |path: PathBuf| {
            let short =
                fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= MAX_DEMANDS_LEN);
            short.then(|| fs::read_to_string(path).ok()).flatten()
        };
        files
            .filter_map(read)
            .any(|text| text.lines().any(|line| demands(line, name, value)))
    }
}

/// Whether a line of sysctl.d(5) gives the setting this value. In names `.` and `/` are the same, where no name has both.
fn demands(line: &str, name: &str, value: &str) -> bool {
    let line = line.trim();
    let line = line.strip_prefix('-').unwrap_or(line);
    line.split_once('=')
        .is_some_and(|(said, set)| said.trim().replace('.', "/") == name && set.trim() == value)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KernelSettingsError {
    move |source| KernelSettingsError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        /// Where packets are not forwarded, and containers are unknown.
        fn new() -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            host.set("net/ipv4/ip_forward", "0");
            host.set("kernel/panic", "0");
            fs::create_dir_all(host.0.path().join("proc")).unwrap();
            host
        }

        fn settings(&self) -> KernelSettings {
            let path = |name: &str| self.0.path().join(name);
            KernelSettings {
                record: path("kept.json"),
                kernel: path("kernel"),
                processes: path("proc"),
                demands: vec![path("sysctl.conf"), path("sysctl.d")],
            }
        }

        fn set(&self, name: &str, value: &str) {
            self.write(&format!("kernel/{name}"), value);
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }

        fn due(&self) -> Vec<(&'static str, String)> {
            self.settings().due()
        }
    }

    const FORWARD: &str = "net/ipv4/ip_forward";

    fn forward_off() -> Vec<(&'static str, String)> {
        vec![(FORWARD, "0".to_owned())]
    }

    #[test]
    fn what_was_before_the_first_program_is_given_back() {
        let host = Host::new();
        host.settings().keep().unwrap();
        assert_eq!(host.due(), []);
        host.set(FORWARD, "1");
        host.set("net/bridge/bridge-nf-call-iptables", "1");
        // What is kept is what was before the first one.
        host.settings().keep().unwrap();
        assert_eq!(
            host.due(),
            forward_off(),
            "nothing is known of what was not there"
        );
        host.set("kernel/panic", "10");
        assert_eq!(host.due().len(), 2);
        assert!(!host.settings().is_restored());
    }

    #[test]
    fn a_host_that_forwarded_before_goes_on() {
        let host = Host::new();
        host.set(FORWARD, "1");
        host.settings().keep().unwrap();
        assert_eq!(host.due(), []);
    }

    #[test]
    fn a_third_value_is_somebody_elses() {
        let host = Host::new();
        host.settings().keep().unwrap();
        host.set("kernel/panic", "30");
        assert_eq!(host.due(), []);
    }

    #[test]
    fn what_the_host_demands_at_every_boot_stays() {
        for (file, line, stays) in [
            ("sysctl.d/router.conf", "net.ipv4.ip_forward = 1", true),
            ("sysctl.conf", "-net/ipv4/ip_forward=1", true),
            ("sysctl.conf", "# net.ipv4.ip_forward = 1", false),
            ("sysctl.conf", "net.ipv4.ip_forward = 0", false),
        ] {
            let host = Host::new();
            host.settings().keep().unwrap();
            host.set(FORWARD, "1");
            host.write(file, line);
            assert_eq!(host.due().is_empty(), stays, "{line}");
        }
    }

    /// Its settings after a cluster that made it forward packets has left, and `stays` is there.
    async fn left_beside(stays: &[(&str, &str)]) -> String {
        let host = Host::new();
        host.settings().keep().unwrap();
        host.set(FORWARD, "1");
        for (path, text) in stays {
            host.write(path, text);
        }
        host.settings().restore().await.unwrap();
        assert!(host.settings().is_restored());
        host.settings().value(FORWARD).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn settings_stay_where_somebody_needs_them_who_came_with_the_cluster_or_after_it() {
        for stays in [
            ("proc/7/comm", "dockerd"),
            ("proc/7/comm", "containerd"),
            ("proc/7/comm", "libvirtd"),
            ("proc/7/comm", "lxd"),
        ] {
            assert_eq!(left_beside(&[stays]).await, "1", "{stays:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_ends_or_leads_no_packets_keeps_no_settings() {
        let host = Host::new();
        host.write("proc/7/comm", "sshd");
        assert_eq!(host.settings().needed_by().await, None);
        host.write("proc/8/comm", "containerd");
        let ends = async {
            tokio::time::sleep(END_LIMIT / 2).await;
            fs::remove_dir_all(host.0.path().join("proc/8")).unwrap();
        };
        let settings = host.settings();
        assert_eq!(tokio::join!(settings.needed_by(), ends).0, None);
    }

    #[tokio::test(start_paused = true)]
    async fn settings_stay_where_it_is_unknown_what_they_were() {
        let damaged = [("kept.json", "{\"settings\": {\"net/ipv4/ip_fo")];
        assert_eq!(left_beside(&damaged).await, "1");
    }

    #[tokio::test]
    async fn what_is_given_back_is_forgotten() {
        let host = Host::new();
        host.settings().keep().unwrap();
        host.settings().restore().await.unwrap();
        assert!(host.settings().is_restored());
        host.settings().restore().await.unwrap();
    }
}
