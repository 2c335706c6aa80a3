//! This module owns [`EtcdSnapshots`]: snapshots of etcd that stay on a control plane, each from before an upgrade.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use gantry_model::ClusterName;
use gantry_system::files::sync_dir;

use super::EtcdError;
use super::snapshot::Snapshot;

/// How many snapshots of a cluster are kept: the newest.
const KEPT: usize = 3;
/// Their mode is for root alone: they hold the cluster's secrets.
const FOLDER_MODE: u32 = 0o700;

/// Why no snapshot is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// etcd gives none.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// It cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
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
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Keeps a snapshot of what etcd holds now, named after the version that the cluster is taken to next. It appears once it is
    /// whole; one of that name is replaced.
    ///
    /// # Errors
    /// When this host has no etcd, etcd has no quorum, or the disk fails.
    pub(crate) async fn keep(&self, cluster: &ClusterName, before: &str) -> Result<(), KeepError> {
        let folder = self.of(cluster);
        let path = folder.join(format!("before-{before}.db"));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KeepError::Io { path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(&folder)
            .map_err(failed(&folder))?;
        let mut snapshot = Snapshot::begin().await?;
        // tempfile makes it with mode 0600.
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(&folder)
            .map_err(failed(&path))?;
        while let Some(part) = snapshot.next().await? {
            file.write_all(&part).map_err(failed(&path))?;
        }
        let digest = snapshot.finish()?;
        file.as_file().sync_all().map_err(failed(&path))?;
        file.persist(&path).map_err(|error| failed(&path)(error.error))?;
        sync_dir(&folder).map_err(failed(&folder))?;
        tracing::info!(%cluster, "snapshot of etcd kept at {}: {digest}", path.display());
        keep_newest(&folder).map_err(failed(&folder))
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

    fn of(&self, cluster: &ClusterName) -> PathBuf {
        self.folder.join(cluster.as_str())
    }
}

/// Removes all but the newest.
fn keep_newest(folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.push((entry.metadata()?.modified()?, entry.path()));
    }
    files.sort();
    let surplus = files.len().saturating_sub(KEPT);
    files
        .into_iter()
        .take(surplus)
        .try_for_each(|(_, path)| fs::remove_file(path))
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
        keep_newest(&of).unwrap();
        let mut left: Vec<_> = fs::read_dir(&of)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            ["before-v1.20.0.db", "before-v1.20.1.db", "before-v1.20.2.db"]
        );
        snapshots.remove(&cluster).unwrap();
        snapshots.remove(&cluster).unwrap();
        assert!(snapshots.is_removed(&cluster));
    }
}
