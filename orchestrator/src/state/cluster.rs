//! This module owns [`ClusterState`]: what is kept of one cluster, and the lock that lets one command at a time
//! change its hosts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gantry_model::{ClusterName, ExitCode};
use gantry_system::files::{FileLock, write_atomically};
use serde::{Deserialize, Serialize};

use super::{SECRET_MODE, State, create_dir, write_json};
use crate::clusterfile::Source;
use crate::exit::{OrExit as _, failure, failure_hint};
use crate::plan::planner::Back;
use crate::plan::{Plan, PlannedHost, PlannedImage};

/// The folder of one cluster.
#[derive(Debug, Clone)]
pub struct ClusterState {
    name: ClusterName,
    dir: PathBuf,
}

/// What is kept of what was applied, of images and of a rollback.
const CLUSTERFILE: &str = "Clusterfile";
const FORMER_IMAGES: &str = "former-images.json";
const ROLLBACK: &str = "rollback.json";
/// How many images are remembered that a cluster had.
const MAX_FORMER_IMAGES: usize = 16;

/// A rollback that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// The image it goes back to.
    pub to: PlannedImage,
    /// How.
    pub back: Back,
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
            let path = self.clusterfile();
            write_atomically(&path, source.without_secrets().as_bytes(), SECRET_MODE)
                .with_context(|| format!("cannot write {}", path.display()))
                .or_exit(ExitCode::Failed)?;
        }
        self.remember_image(plan)?;
        write_json(&self.dir.join("plan.json"), plan)
    }

    /// Where the Clusterfile that was applied last is kept, without secrets.
    #[must_use]
    pub fn clusterfile(&self) -> PathBuf {
        self.dir.join(CLUSTERFILE)
    }

    /// The image the cluster had before the one it was given last, by what was applied from here.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn former_image(&self) -> anyhow::Result<Option<PlannedImage>> {
        Ok(self.former_images()?.pop())
    }

    /// The rollback that has begun and not come to its end.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn rollback(&self) -> anyhow::Result<Option<Rollback>> {
        read_json(&self.dir.join(ROLLBACK))
    }

    /// Notes that a rollback begins.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin_rollback(&self, rollback: &Rollback) -> anyhow::Result<()> {
        write_json(&self.dir.join(ROLLBACK), rollback)
    }

    /// Notes that what was applied is whole: no rollback is under way.
    ///
    /// # Errors
    /// When the note cannot be removed.
    pub fn end_rollback(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.dir.join(ROLLBACK)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context(format!("cannot note that cluster {} is rolled back", self.name))
            }
            _ => Ok(()),
        }
    }

    fn former_images(&self) -> anyhow::Result<Vec<PlannedImage>> {
        Ok(read_json(&self.dir.join(FORMER_IMAGES))?.unwrap_or_default())
    }

    /// The image before comes to the former ones; who goes back to the last of these takes it out of them.
    fn remember_image(&self, plan: &Plan) -> anyhow::Result<()> {
        let before = read_json::<Plan>(&self.dir.join("plan.json"))?.and_then(|plan| plan.image);
        let (Some(before), Some(now)) = (before, &plan.image) else {
            return Ok(());
        };
        if before.digest == now.digest {
            return Ok(());
        }
        let mut former = self.former_images()?;
        if former.last().is_some_and(|last| last.digest == now.digest) {
            former.pop();
        } else {
            former.push(before);
        }
        let surplus = former.len().saturating_sub(MAX_FORMER_IMAGES);
        former.drain(..surplus);
        write_json(&self.dir.join(FORMER_IMAGES), &former)
    }

    /// The hosts of the plan that was applied last, as they are remembered; none when none was, from here.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn applied_hosts(&self) -> anyhow::Result<Vec<PlannedHost>> {
        let plan = read_json::<Plan>(&self.dir.join("plan.json"))?;
        Ok(plan.map(|plan| plan.hosts).unwrap_or_default())
    }

    /// The plan that was applied last.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn plan(&self) -> anyhow::Result<Plan> {
        let path = self.dir.join("plan.json");
        let text = fs::read(&path).map_err(|_| {
            failure(
                ExitCode::Input,
                format!("cluster {} was never applied from here", self.name),
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
        for name in [CLUSTERFILE, "plan.json", FORMER_IMAGES, ROLLBACK] {
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

/// What is in a file; none when there is no such file.
fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> anyhow::Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let read = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()));
    read.map(Some).or_exit(ExitCode::Failed)
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
