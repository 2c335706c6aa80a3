//! The folders of generations: names, records, which one is current.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use gantry_model::{ClusterName, Generation, GenerationId};
use gantry_system::files;

use super::{Mounter, Rootfs, RootfsError};
use crate::templates::Rendered;

const RECORD: &str = "generation.json";
/// What was rendered into the generation's writable folder: paths and digests.
const RENDERED: &str = "templates.json";

impl<M: Mounter> Rootfs<M> {
    /// Clusters that have a folder here.
    #[must_use]
    pub fn clusters(&self) -> Vec<ClusterName> {
        let mut clusters: Vec<ClusterName> = names_in(&self.data)
            .into_iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        clusters.sort();
        clusters
    }

    /// Generations of `cluster` that were assembled to their end, oldest first.
    ///
    /// # Errors
    /// When a record cannot be read or is damaged.
    pub fn generations(&self, cluster: &ClusterName) -> Result<Vec<Generation>, RootfsError> {
        let mut found = Vec::new();
        for id in self.numbers(cluster) {
            found.extend(self.read_generation(cluster, id)?);
        }
        found.sort_by_key(|generation| generation.id);
        Ok(found)
    }

    /// The number of the current generation of `cluster`.
    ///
    /// # Errors
    /// When the link cannot be read.
    pub fn current(&self, cluster: &ClusterName) -> Result<Option<GenerationId>, RootfsError> {
        let link = self.link(cluster);
        match fs::read_link(&link) {
            Ok(target) => Ok(number_in(&target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Not a link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(RootfsError::io("read the link", &link)(error)),
        }
    }

    /// The current generation of `cluster`.
    ///
    /// # Errors
    /// When the link or the record cannot be read.
    pub fn current_generation(&self, cluster: &ClusterName) -> Result<Option<Generation>, RootfsError> {
        match self.current(cluster)? {
            Some(id) => self.read_generation(cluster, id),
            None => Ok(None),
        }
    }

    pub(super) fn folder(&self, cluster: &ClusterName, id: GenerationId) -> PathBuf {
        self.data
            .join(cluster.as_str())
            .join("generations")
            .join(id.to_string())
    }

    /// Makes the empty folders of a generation.
    pub(super) fn prepare(&self, generation: &Generation) -> Result<(), RootfsError> {
        let folder = self.folder(&generation.cluster, generation.id);
        let part = |name: &str, mode| {
            let path = folder.join(name);
            // The writable folder's mode is the mode of the rootfs itself; the umask must not change it.
            DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&path)
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
                .map_err(RootfsError::io("make", &path))
        };
        part("upper", 0o755)?;
        part("work", 0o700)?;
        part("rootfs", 0o755)
    }

    pub(super) fn write_generation(&self, generation: &Generation) -> Result<(), RootfsError> {
        let folder = self.folder(&generation.cluster, generation.id);
        let path = folder.join(RECORD);
        let text = serde_json::to_vec_pretty(generation).expect("a generation is plain data");
        files::write_atomically(&path, &text, 0o644).map_err(RootfsError::io("write", &path))?;
        for folder in folder.ancestors().skip(1).take(3) {
            files::sync_dir(folder).map_err(RootfsError::io("sync", folder))?;
        }
        Ok(())
    }

    /// Remembers what was rendered into the current generation of `cluster`.
    ///
    /// # Errors
    /// When there is none, or the record cannot be written.
    pub fn note_rendered(&self, cluster: &ClusterName, rendered: &Rendered) -> Result<(), RootfsError> {
        let id = self.current(cluster)?.ok_or_else(|| RootfsError::NoRootfs {
            cluster: cluster.clone(),
        })?;
        let path = self.folder(cluster, id).join(RENDERED);
        let text = serde_json::to_vec_pretty(rendered).expect("paths and digests are plain data");
        files::write_atomically(&path, &text, 0o644).map_err(RootfsError::io("write", &path))
    }

    /// What was rendered into the generation; nothing when it has no templates.
    ///
    /// # Errors
    /// When the record cannot be read or is damaged.
    pub(super) fn rendered(&self, generation: &Generation) -> Result<Rendered, RootfsError> {
        let path = self.folder(&generation.cluster, generation.id).join(RENDERED);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Rendered::new()),
            Err(error) => Err(RootfsError::io("read", &path)(error)),
            Ok(text) => serde_json::from_slice(&text).map_err(|error| RootfsError::Damaged {
                path,
                reason: error.to_string(),
            }),
        }
    }

    pub(super) fn make_current(&self, generation: &Generation) -> Result<(), RootfsError> {
        let link = self.link(&generation.cluster);
        let target = Path::new("generations")
            .join(generation.id.to_string())
            .join("rootfs");
        files::replace_symlink(&target, &link).map_err(RootfsError::io("switch", &link))
    }

    /// Removes generations that were not assembled to their end.
    pub(super) fn remove_unfinished(&self, cluster: &ClusterName) -> Result<(), RootfsError> {
        for id in self.numbers(cluster) {
            if self.read_generation(cluster, id)?.is_none() {
                let folder = self.folder(cluster, id);
                self.mounts
                    .unmount_all(&folder)
                    .map_err(RootfsError::io("unmount what is in", &folder))?;
                files::remove_tree(&folder).map_err(RootfsError::io("remove", &folder))?;
            }
        }
        Ok(())
    }

    fn link(&self, cluster: &ClusterName) -> PathBuf {
        self.data.join(cluster.as_str()).join("rootfs")
    }

    fn numbers(&self, cluster: &ClusterName) -> Vec<GenerationId> {
        let folder = self.data.join(cluster.as_str()).join("generations");
        names_in(&folder)
            .iter()
            .filter_map(|name| name.parse().ok().map(GenerationId))
            .collect()
    }

    fn read_generation(
        &self,
        cluster: &ClusterName,
        id: GenerationId,
    ) -> Result<Option<Generation>, RootfsError> {
        let path = self.folder(cluster, id).join(RECORD);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RootfsError::io("read", &path)(error)),
        };
        let generation: Generation = serde_json::from_slice(&text).map_err(|error| RootfsError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        if generation.id == id && generation.cluster == *cluster {
            Ok(Some(generation))
        } else {
            Err(RootfsError::Damaged {
                path,
                reason: "it describes another generation".into(),
            })
        }
    }
}

fn number_in(target: &Path) -> Option<GenerationId> {
    target
        .parent()?
        .file_name()?
        .to_str()?
        .parse()
        .ok()
        .map(GenerationId)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
