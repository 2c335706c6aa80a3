//! This module owns [`PodLogs`]: the folders of pods' logs, which kubelet makes and `kubeadm reset` leaves.
//!
//! Which of them were not there is written down before the first program of an image starts; those go when the last cluster
//! leaves this host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gantry_system::files;

use crate::running;

/// The folders (kubernetes.io, "Logging Architecture").
const FOLDERS: [&str; 2] = ["/var/log/containers", "/var/log/pods"];
/// Who writes there, by the names of their processes: kubelet, and programs that have it in them.
const KUBELETS: [&str; 4] = ["kubelet", "kubelite", "k3s-server", "k3s-agent"];

/// Why the folders cannot be remembered or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodLogsError {
    /// The record of what was there before.
    #[error("cannot {action} {}: {source}", path.display())]
    Record {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A folder, which the error names.
    #[error("the logs of pods, of which no more are on this host, stay: {0}; run it again")]
    Folder(io::Error),
}

/// The folders of pods' logs on this host.
#[derive(Debug, Clone)]
pub(crate) struct PodLogs {
    record: PathBuf,
    root: PathBuf,
}

impl PodLogs {
    /// Those of this host; which of them were not there is kept in the file `record`.
    pub(crate) fn new(record: &Path) -> Self {
        Self {
            record: record.to_owned(),
            root: "/".into(),
        }
    }

    /// Writes down which of them are not there, unless that was done before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep(&self) -> Result<(), PodLogsError> {
        if self.record.exists() {
            return Ok(());
        }
        let is_absent = |folder: &&str| self.path(folder).symlink_metadata().is_err();
        let absent: Vec<&str> = FOLDERS.into_iter().filter(is_absent).collect();
        let text = serde_json::to_vec_pretty(&absent).expect("names are plain data");
        files::write_atomically(&self.record, &text, 0o600).map_err(failed("write", &self.record))
    }

    /// Removes those that were not there, unless a kubelet runs, which is somebody else's by now.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub(crate) fn remove(&self) -> Result<(), PodLogsError> {
        let came = self.came();
        let kubelet = running::any(&self.path("/proc"), &KUBELETS);
        for folder in came.into_iter().map(|folder| self.path(folder)) {
            match kubelet {
                Some(kubelet) => tracing::warn!("{} stays: {kubelet} runs", folder.display()),
                None => files::remove_tree(&folder).map_err(PodLogsError::Folder)?,
            }
        }
        match fs::remove_file(&self.record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.record)(error))
            }
            _ => Ok(()),
        }
    }

    /// Whether nothing is to be removed.
    pub(crate) fn are_removed(&self) -> bool {
        !self.record.exists()
    }

    /// Those that were not there.
    fn came(&self) -> Vec<&'static str> {
        let absent = match fs::read(&self.record) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => Err(error.to_string()),
            Ok(text) => serde_json::from_slice::<Vec<String>>(&text).map_err(|error| error.to_string()),
        };
        match absent {
            // What is removed is what is named here, whatever the file says.
            Ok(absent) => FOLDERS
                .into_iter()
                .filter(|folder| absent.iter().any(|absent| absent == folder))
                .collect(),
            Err(reason) => {
                tracing::warn!(
                    "{} stay: whether they were there before is unknown, for {} cannot be read: {reason}",
                    FOLDERS.join(" and "),
                    self.record.display()
                );
                Vec::new()
            }
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PodLogsError {
    move |source| PodLogsError::Record {
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
        fn new() -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            host.write("proc/1/comm", "systemd");
            host.write("var/log/wtmp", "");
            host
        }

        fn logs(&self) -> PodLogs {
            PodLogs {
                record: self.0.path().join("pod-logs.json"),
                root: self.0.path().to_owned(),
            }
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// What a kubelet makes.
        fn runs_pods(&self) {
            self.write("var/log/pods/kube-system_etcd/0.log", "started");
            self.write("var/log/containers/etcd.log", "started");
        }

        fn has(&self, path: &str) -> bool {
            self.0.path().join(path).exists()
        }
    }

    #[test]
    fn folders_that_came_with_the_cluster_go_with_it() {
        let host = Host::new();
        host.logs().keep().unwrap();
        host.runs_pods();
        // What counts is what was there before the first program.
        host.logs().keep().unwrap();
        assert!(!host.logs().are_removed());
        host.logs().remove().unwrap();
        assert!(!host.has("var/log/pods") && !host.has("var/log/containers") && host.has("var/log/wtmp"));
        assert!(host.logs().are_removed());
    }

    #[test]
    fn a_folder_of_before_stays() {
        let host = Host::new();
        fs::create_dir_all(host.0.path().join("var/log/pods")).unwrap();
        host.logs().keep().unwrap();
        host.runs_pods();
        host.logs().remove().unwrap();
        assert!(host.has("var/log/pods/kube-system_etcd/0.log") && !host.has("var/log/containers"));
    }

    #[test]
    fn what_another_kubelet_writes_or_nobody_knows_about_stays() {
        let host = Host::new();
        host.logs().keep().unwrap();
        host.runs_pods();
        host.write("proc/7/comm", "k3s-server\n");
        host.logs().remove().unwrap();
        assert!(host.has("var/log/pods") && host.logs().are_removed());
        for record in [None, Some("[\"/var/log/po"), Some("[\"/etc\"]")] {
            let host = Host::new();
            host.runs_pods();
            if let Some(record) = record {
                host.write("pod-logs.json", record);
            }
            host.logs().remove().unwrap();
            assert!(
                host.has("var/log/pods") && host.has("var/log/containers"),
                "{record:?}"
            );
        }
    }
}
