//! This module owns [`ClusterState`]: what is kept of one cluster, and the lock that lets one command at a time
//! change its hosts.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use gantry_model::{ClusterName, ExitCode};
use gantry_system::files::{FileLock, write_atomically};

use super::{SECRET_MODE, State, create_dir, write_json};
use crate::clusterfile::Source;
use crate::exit::{OrExit as _, failure_hint};
use crate::plan::Plan;

/// The folder of one cluster.
#[derive(Debug, Clone)]
pub struct ClusterState {
    name: ClusterName,
    dir: PathBuf,
}

/// The right to change a cluster's hosts from this machine, held until it is dropped.
#[derive(Debug)]
pub struct ClusterLock {
    _lock: FileLock,
    holder: PathBuf,
}

impl Drop for ClusterLock {
    fn drop(&mut self) {
        // Only a note for people: who comes next writes it anew.
        let _ = fs::remove_file(&self.holder);
    }
}

impl State {
    /// What is kept of the cluster `name`.
    #[must_use]
    pub fn cluster(&self, name: &ClusterName) -> ClusterState {
        ClusterState {
            name: name.clone(),
            dir: self.dir.join("clusters").join(name.as_str()),
        }
    }
}

/// Names of the clusters that were applied from here, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub fn known_clusters(state: &State) -> anyhow::Result<Vec<ClusterName>> {
    let dir = state.dir.join("clusters");
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.display())),
    };
    let mut names: Vec<ClusterName> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|name| state.cluster(name).dir.join("plan.json").exists())
        .collect();
    names.sort();
    Ok(names)
}

impl ClusterState {
    /// Takes the cluster's lock; does not wait.
    ///
    /// # Errors
    /// When another command holds it: exit code 8, naming the holder.
    pub fn lock(&self, command: &str) -> anyhow::Result<ClusterLock> {
        create_dir(&self.dir)?;
        let holder = self.dir.join("lock.holder");
        let lock = FileLock::try_exclusive(&self.dir.join("lock")).context("cannot lock the cluster")?;
        let Some(lock) = lock else {
            let who = fs::read_to_string(&holder).unwrap_or_else(|_| "another command".into());
            return Err(failure_hint(
                ExitCode::Locked,
                format!("cluster {} is being changed by {}", self.name, who.trim()),
                "wait until it ends; `gantry status` can be used meanwhile",
            ));
        };
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let since = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC");
        let text = format!(
            "`gantry {command}`, process {} on {host}, since {since}\n",
            std::process::id()
        );
        fs::write(&holder, text).context("cannot note who holds the cluster's lock")?;
        Ok(ClusterLock { _lock: lock, holder })
    }

    /// Keeps what is applied: the Clusterfile (without secrets), if it came from one, and the plan.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, source: Option<&Source>, plan: &Plan) -> anyhow::Result<()> {
        create_dir(&self.dir)?;
        if let Some(source) = source {
            let path = self.dir.join("Clusterfile");
            write_atomically(&path, source.without_secrets().as_bytes(), SECRET_MODE)
                .with_context(|| format!("cannot write {}", path.display()))
                .or_exit(ExitCode::Failed)?;
        }
        write_json(&self.dir.join("plan.json"), plan)
    }

    /// The plan that was applied last.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn plan(&self) -> anyhow::Result<Plan> {
        let path = self.dir.join("plan.json");
        let text = fs::read(&path).map_err(|_| {
            failure_hint(
                ExitCode::Input,
                format!("cluster {} was never applied from here", self.name),
                "name its Clusterfile with -f",
            )
        })?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged", path.display()))
            .or_exit(ExitCode::Failed)
    }

    /// Forgets the cluster.
    ///
    /// # Errors
    /// When its files cannot be removed.
    pub fn forget(&self) -> anyhow::Result<()> {
        for name in ["Clusterfile", "plan.json"] {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).context(format!("cannot forget cluster {}", self.name));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_command_is_told_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = State::new(folder.path()).cluster(&"demo".parse().unwrap());
        let lock = cluster.lock("apply").unwrap();
        let refused = cluster.lock("reset").unwrap_err();
        let failure = refused.downcast_ref::<crate::exit::Failure>().unwrap();
        assert_eq!(failure.code(), ExitCode::Locked);
        let holder = format!("`gantry apply`, process {}", std::process::id());
        assert!(refused.to_string().contains(&holder), "{refused}");
        drop(lock);
        cluster.lock("reset").unwrap();
    }
}
