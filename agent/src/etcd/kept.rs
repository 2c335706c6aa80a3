//! This module owns [`EtcdSnapshots`]: snapshots of etcd that stay on a control plane, from before upgrades and restores, and
//! those that an operator gave to be restored.

use std::fs::{self, DirBuilder, DirEntry};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use gantry_model::{BEFORE_RESTORE, ClusterName, Digest, KeptSnapshot, SnapshotName};

use super::arriving::{ARRIVING, ArrivingSnapshot};
use super::snapshot::Snapshot;
use super::{EtcdError, RestoreError, check_origin, restore};

/// How many snapshots from before something are kept of a cluster: the newest.
const KEPT: usize = 3;
/// What their names begin with.
const BEFORE: &str = "before-";
/// What the names of those begin with that an operator gave.
const GIVEN: &str = "given-";
/// What they end with.
const ENDING: &str = ".db";
/// The manifest of an API server that is stopped.
const STOPPED: &str = "kube-apiserver.yaml";
/// Their mode is for root alone: they hold the cluster's secrets.
const FOLDER_MODE: u32 = 0o700;

/// Why no snapshot is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// etcd gives none.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// Another one came.
    #[error("a snapshot came whose database is {came}, not {database}")]
    Other {
        /// The digest of what came.
        came: Digest,
        /// The digest it should have.
        database: Digest,
    },
    /// It cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a snapshot does not become what etcd holds.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreKeptError {
    /// There is none.
    #[error("this host has no snapshot {}", .0.display())]
    NoSnapshot(PathBuf),
    /// It was not restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// It was, and cannot be removed.
    #[error("cannot remove {}: {source}", path.display())]
    Remove {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The snapshots of every cluster, in folders named after them.
#[derive(Debug, Clone)]
pub(crate) struct EtcdSnapshots {
    folder: PathBuf,
}

impl EtcdSnapshots {
    /// Those in `folder`, which need not be there.
    pub(crate) fn new(folder: &Path) -> Self {
        let snapshots = Self {
            folder: folder.to_owned(),
        };
        if let Err(error) = snapshots.sweep() {
            tracing::warn!(
                "what is left of snapshots that did not arrive stays in {}: {error}",
                folder.display()
            );
        }
        snapshots
    }

    /// Removes what an agent that was killed left of snapshots on their way.
    fn sweep(&self) -> io::Result<()> {
        for cluster in read_dir(&self.folder)? {
            for file in read_dir(&cluster?.path())? {
                let path = file?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with(ARRIVING) {
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Keeps a snapshot of what etcd holds now, named after the version that the cluster is taken to next. It appears once it is
    /// whole; one of that name is replaced.
    ///
    /// # Errors
    /// When this host has no etcd, etcd has no quorum, or the disk fails.
    pub(crate) async fn keep(&self, cluster: &ClusterName, before: &str) -> Result<(), KeepError> {
        let mut snapshot = Snapshot::begin().await?;
        let name = SnapshotName::Before(before.to_owned());
        let mut arriving = self.arriving(cluster, &name)?;
        while let Some(part) = snapshot.next().await? {
            arriving.write(&part)?;
        }
        snapshot.finish()?;
        arriving.keep()?;
        // The one that is about to be restored may be the oldest.
        if before.starts_with(BEFORE_RESTORE) {
            return Ok(());
        }
        self.keep_newest(cluster)
    }

    /// Removes what is too many of them.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn keep_newest(&self, cluster: &ClusterName) -> Result<(), KeepError> {
        let folder = self.of(cluster);
        let remove = || {
            let files = before(&folder)?;
            let surplus = files.len().saturating_sub(KEPT);
            let mut surplus = files.into_iter().take(surplus);
            surplus.try_for_each(|file| fs::remove_file(file.path))
        };
        remove().map_err(failed(&folder))
    }

    /// Those of every cluster that were kept before something, oldest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn kept(&self) -> io::Result<Vec<KeptSnapshot>> {
        let mut kept = Vec::new();
        for entry in read_dir(&self.folder)? {
            let entry = entry?;
            let Some(cluster) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<ClusterName>().ok())
            else {
                continue;
            };
            kept.extend(before(&entry.path())?.into_iter().map(|file| KeptSnapshot {
                cluster: cluster.clone(),
                before: file.before,
                at: file.at,
                len: file.len,
            }));
        }
        kept.sort_by_key(|snapshot| snapshot.at);
        Ok(kept)
    }

    /// Begins to take a snapshot of this name.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn arriving(
        &self,
        cluster: &ClusterName,
        name: &SnapshotName,
    ) -> Result<ArrivingSnapshot, KeepError> {
        let path = self.path(cluster, name);
        let folder = self.make_folder(cluster)?;
        ArrivingSnapshot::new(&folder, path)
    }

    /// Whether the snapshot of this name is here.
    pub(crate) fn has(&self, cluster: &ClusterName, name: &SnapshotName) -> bool {
        self.path(cluster, name).is_file()
    }

    /// Removes a snapshot that came and is of another cluster; else those that came before it.
    ///
    /// # Errors
    /// When it is, or that cannot be found out.
    pub(crate) async fn refuse_foreign(
        &self,
        cluster: &ClusterName,
        name: &SnapshotName,
    ) -> Result<(), RestoreKeptError> {
        let path = self.path(cluster, name);
        let removed = |path: PathBuf| {
            fs::remove_file(&path).map_err(|source| RestoreKeptError::Remove { path, source })
        };
        if let Err(foreign) = check_origin(&path).await {
            removed(path)?;
            return Err(foreign.into());
        }
        let folder = self.of(cluster);
        let entries = read_dir(&folder).into_iter().flatten().flatten();
        let given = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(GIVEN));
        given
            .map(|entry| entry.path())
            .filter(|other| *other != path)
            .try_for_each(removed)
    }

    /// Makes etcd hold what the snapshot of this name holds. One that was given is no longer needed then.
    ///
    /// # Errors
    /// When it is not here, or etcd does not come to hold it.
    pub(crate) async fn restore(
        &self,
        cluster: &ClusterName,
        name: &SnapshotName,
    ) -> Result<(), RestoreKeptError> {
        let path = self.path(cluster, name);
        if !path.is_file() {
            return Err(RestoreKeptError::NoSnapshot(path));
        }
        let restored = restore(&path).await?;
        tracing::info!(
            %cluster, snapshot = %name, kept = restored.kept, written = restored.written, removed = restored.removed,
            "etcd restored"
        );
        if let SnapshotName::Given(_) = name {
            fs::remove_file(&path).map_err(|source| RestoreKeptError::Remove { path, source })?;
        }
        // Older ones stay until the API servers run again: it may be begun anew until then.
        Ok(())
    }

    /// Where the manifest of an API server waits that is stopped for a restore.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn stopped_api_server(&self, cluster: &ClusterName) -> Result<PathBuf, KeepError> {
        Ok(self.make_folder(cluster)?.join(STOPPED))
    }

    /// Whether an API server is stopped for a restore.
    pub(crate) fn has_stopped_api_server(&self, cluster: &ClusterName) -> bool {
        self.of(cluster).join(STOPPED).is_file()
    }

    fn make_folder(&self, cluster: &ClusterName) -> Result<PathBuf, KeepError> {
        let folder = self.of(cluster);
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(&folder)
            .map_err(failed(&folder))?;
        Ok(folder)
    }

    /// Removes those of `cluster`.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn remove(&self, cluster: &ClusterName) -> io::Result<()> {
        match fs::remove_dir_all(self.of(cluster)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether there are none of `cluster`.
    pub(crate) fn is_removed(&self, cluster: &ClusterName) -> bool {
        !self.of(cluster).exists()
    }

    fn path(&self, cluster: &ClusterName, name: &SnapshotName) -> PathBuf {
        self.of(cluster).join(format!("{name}{ENDING}"))
    }

    fn of(&self, cluster: &ClusterName) -> PathBuf {
        self.folder.join(cluster.as_str())
    }
}

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> KeepError {
    let path = path.to_owned();
    move |source| KeepError::Io { path, source }
}

/// A snapshot that was kept before something.
struct Before {
    before: String,
    /// Seconds since the epoch.
    at: i64,
    len: u64,
    path: PathBuf,
}

/// Those in `folder`, oldest first.
fn before(folder: &Path) -> io::Result<Vec<Before>> {
    let mut files = Vec::new();
    for entry in read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let word = name
            .to_str()
            .and_then(|name| name.strip_prefix(BEFORE)?.strip_suffix(ENDING));
        let Some(word) = word else { continue };
        let metadata = entry.metadata()?;
        files.push(Before {
            before: word.to_owned(),
            at: metadata.mtime(),
            len: metadata.len(),
            path: entry.path(),
        });
    }
    files.sort_by_key(|file| file.at);
    Ok(files)
}

/// What is in `folder`; one that is not there is empty.
fn read_dir(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_newest_are_kept_until_the_cluster_goes() {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = EtcdSnapshots::new(folder.path());
        let cluster: ClusterName = "demo".parse().unwrap();
        assert!(snapshots.is_removed(&cluster));
        let of = snapshots.of(&cluster);
        fs::create_dir_all(&of).unwrap();
        for age in 0..5 {
            let file = File::create(of.join(format!("before-v1.20.{age}.db"))).unwrap();
            let then = SystemTime::now() - Duration::from_secs(60 * age);
            file.set_modified(then).unwrap();
        }
        File::create(of.join("given-0.db")).unwrap();
        File::create(of.join("kube-apiserver.yaml")).unwrap();
        File::create(of.join(".new-cut-off")).unwrap();
        EtcdSnapshots::new(folder.path());
        assert!(!of.join(".new-cut-off").exists());
        snapshots.keep_newest(&cluster).unwrap();
        assert!(of.join("given-0.db").exists() && of.join("kube-apiserver.yaml").exists());
        let left: Vec<_> = snapshots
            .kept()
            .unwrap()
            .into_iter()
            .map(|kept| kept.before)
            .collect();
        assert_eq!(left, ["v1.20.2", "v1.20.1", "v1.20.0"]);
        snapshots.remove(&cluster).unwrap();
        snapshots.remove(&cluster).unwrap();
        assert!(snapshots.is_removed(&cluster));
    }
}
