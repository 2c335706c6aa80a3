//! This module owns the clusters' rootfs on this host: generations, the links that lead to the current one, removal.
//!
//! ```text
//! data/<cluster>/generations/<n>/generation.json    written when all of it is mounted and right
//!                               /upper  /work       the writable folder, and overlay's own
//!                               /rootfs             the overlay mount
//!                               /configs            what config files stand over, and their digests
//! data/<cluster>/rootfs  ->  generations/<n>/rootfs the current one; switched by one rename
//! <sealer data>/<cluster>/rootfs  ->  data/<cluster>/rootfs   for scripts written for sealer
//! ```

mod error;
mod generations;
mod mounter;
mod sealer_link;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gantry_model::{ClusterName, Digest, Generation, GenerationId};
use gantry_store::Store;
use gantry_system::files;

use crate::configs::Configs;
use crate::templates;

pub use error::RootfsError;
pub use mounter::{HostMounts, Mounter};

/// Every rootfs of this host.
#[derive(Debug, Clone)]
pub struct Rootfs<M = HostMounts> {
    data: PathBuf,
    sealer_data: PathBuf,
    store: Store,
    mounts: M,
}

impl<M: Mounter> Rootfs<M> {
    /// The rootfs below `data`, whose layers lie in `store`; `sealer_data` is where old scripts look.
    pub fn new(data: &Path, sealer_data: &Path, store: Store, mounts: M) -> Self {
        Self {
            data: data.to_owned(),
            sealer_data: sealer_data.to_owned(),
            store,
            mounts,
        }
    }

    /// The path of the current rootfs of `cluster`, as scripts see it: links resolved.
    ///
    /// # Errors
    /// When the cluster has none, or it is not mounted.
    pub fn path(&self, cluster: &ClusterName) -> Result<PathBuf, RootfsError> {
        let current = self.current(cluster)?.ok_or_else(|| RootfsError::NoRootfs {
            cluster: cluster.clone(),
        })?;
        let path = self.folder(cluster, current).join("rootfs");
        if self
            .mounts
            .is_mounted(&path)
            .map_err(RootfsError::io("look at", &path))?
        {
            Ok(path)
        } else {
            Err(RootfsError::NotMounted {
                cluster: cluster.clone(),
                generation: current,
                path,
            })
        }
    }

    /// What is mounted there now, if it is exactly these layers of this image; mounts it again if it is not mounted
    /// and puts back the link for old scripts. None when another generation has to be made.
    ///
    /// # Errors
    /// When it should be mounted and cannot be.
    pub fn ensure(
        &self,
        cluster: &ClusterName,
        image: &Digest,
        layers: &[Digest],
    ) -> Result<Option<GenerationId>, RootfsError> {
        let Some(generation) = self.current_generation(cluster)? else {
            return Ok(None);
        };
        if generation.image != *image || generation.layers != layers {
            return Ok(None);
        }
        sealer_link::make(&self.sealer_data, &self.data, cluster)?;
        self.mount(&generation)?;
        Ok(Some(generation.id))
    }

    /// Makes a generation of these layers (bottom first) and makes it current.
    ///
    /// # Errors
    /// When a layer is missing, something that is not Gantry's stands in the way, or the mount fails. The current
    /// generation is then the same as before.
    pub fn assemble(
        &self,
        cluster: &ClusterName,
        image: &Digest,
        layers: &[Digest],
    ) -> Result<GenerationId, RootfsError> {
        if let Some(layer) = layers.iter().find(|layer| !self.store.has_layer(layer)) {
            return Err(RootfsError::MissingLayer { layer: *layer });
        }
        // Staged and verified before this step; whatever was touched since is not built on.
        if let Some(layer) = layers.iter().find(|layer| !self.store.is_layer_unchanged(layer)) {
            return Err(RootfsError::ChangedLayer { layer: *layer });
        }
        if layers.is_empty() {
            return Err(RootfsError::NoLayers {
                cluster: cluster.clone(),
            });
        }
        sealer_link::check(&self.sealer_data, &self.data, cluster)?;
        self.remove_unfinished(cluster)?;
        let generation = match self.generations(cluster)?.pop() {
            // An agent was ended just before the switch.
            Some(last)
                if last.image == *image
                    && last.layers == layers
                    && self.current(cluster)? < Some(last.id) =>
            {
                self.mount(&last)?;
                last
            }
            last => {
                let id = GenerationId(last.map_or(0, |last| last.id.0) + 1);
                let next = Generation {
                    id,
                    cluster: cluster.clone(),
                    image: *image,
                    layers: layers.to_vec(),
                };
                self.prepare(&next)?;
                self.mount(&next)?;
                self.write_generation(&next)?;
                next
            }
        };
        self.make_current(&generation)?;
        sealer_link::make(&self.sealer_data, &self.data, cluster)?;
        Ok(generation.id)
    }

    /// Mounts the current generation of every cluster that is not mounted: after a reboot none is.
    /// What could not be mounted comes back.
    #[must_use]
    pub fn mount_all_current(&self) -> Vec<(ClusterName, RootfsError)> {
        let mut failed = Vec::new();
        for cluster in self.clusters() {
            let mounted = match self.current_generation(&cluster) {
                Ok(Some(generation)) => self.mount(&generation),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = mounted {
                failed.push((cluster, error));
            }
        }
        failed
    }

    /// Unmounts and removes every generation of `cluster` and the links that lead to it. Gives mounts that were busy:
    /// they are gone from the tree, and for good when their last user lets go.
    ///
    /// # Errors
    /// When something cannot be unmounted or removed. What was removed by then stays removed; remove again to go on.
    pub fn remove(&self, cluster: &ClusterName) -> Result<Vec<PathBuf>, RootfsError> {
        sealer_link::remove(&self.sealer_data, &self.data, cluster)?;
        let folder = self.data.join(cluster.as_str());
        if !folder.try_exists().map_err(RootfsError::io("look at", &folder))? {
            return Ok(Vec::new());
        }
        let link = folder.join("rootfs");
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RootfsError::io("remove", &link)(error));
            }
            _ => {}
        }
        let busy = self
            .mounts
            .unmount_all(&folder)
            .map_err(RootfsError::io("unmount what is in", &folder))?;
        files::remove_tree(&folder).map_err(RootfsError::io("remove", &folder))?;
        files::sync_dir(&self.data).map_err(RootfsError::io("sync", &self.data))?;
        Ok(busy)
    }

    /// Whether nothing of `cluster` is left.
    #[must_use]
    pub fn is_removed(&self, cluster: &ClusterName) -> bool {
        fs::symlink_metadata(self.data.join(cluster.as_str())).is_err()
            && !sealer_link::is_ours(&self.sealer_data, &self.data, cluster)
    }

    /// What about the rootfs of `cluster` is not as it should be; empty when all is well.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn drift(&self, cluster: &ClusterName) -> Result<Vec<String>, RootfsError> {
        let Some(generation) = self.current_generation(cluster)? else {
            return Ok(vec!["it is gone".to_owned()]);
        };
        let mut drift = Vec::new();
        let target = self.folder(cluster, generation.id).join("rootfs");
        if !self
            .mounts
            .is_mounted(&target)
            .map_err(RootfsError::io("look at", &target))?
        {
            drift.push(format!(
                "generation {} is not mounted at {}",
                generation.id,
                target.display()
            ));
        }
        for layer in generation
            .layers
            .iter()
            .filter(|layer| !self.store.has_layer(layer))
        {
            drift.push(format!(
                "layer {} of generation {} is gone",
                layer.short(),
                generation.id
            ));
        }
        if !sealer_link::is_ours(&self.sealer_data, &self.data, cluster) {
            let link = sealer_link::path(&self.sealer_data, cluster);
            drift.push(format!("{} does not lead to the rootfs", link.display()));
        }
        Ok(drift)
    }

    /// Which rendered files of the current generation of `cluster` are not as they were made.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn drift_of_templates(&self, cluster: &ClusterName) -> Result<Vec<String>, RootfsError> {
        let Some(generation) = self.current_generation(cluster)? else {
            return Ok(Vec::new());
        };
        let rendered = self.rendered(&generation)?;
        if rendered.is_empty() {
            return Ok(Vec::new());
        }
        let configs = self.configs(cluster)?;
        Ok(templates::changed(configs.rootfs(), &rendered, &configs)?)
    }

    /// The config files of the current generation of `cluster`.
    ///
    /// # Errors
    /// When it has none, it is not mounted, or what is noted of them cannot be read.
    pub fn configs(&self, cluster: &ClusterName) -> Result<Configs, RootfsError> {
        let rootfs = self.path(cluster)?;
        let folder = rootfs.with_file_name("configs");
        Ok(Configs::open(rootfs, folder)?)
    }

    /// Which config files of the current generation of `cluster` are not as they were written.
    ///
    /// # Errors
    /// As [`Self::configs`], and when a file cannot be read.
    pub fn drift_of_configs(&self, cluster: &ClusterName) -> Result<Vec<String>, RootfsError> {
        if self.current_generation(cluster)?.is_none() {
            return Ok(Vec::new());
        }
        Ok(self.configs(cluster)?.changed()?)
    }

    fn mount(&self, generation: &Generation) -> Result<(), RootfsError> {
        let folder = self.folder(&generation.cluster, generation.id);
        let target = folder.join("rootfs");
        if self
            .mounts
            .is_mounted(&target)
            .map_err(RootfsError::io("look at", &target))?
        {
            return Ok(());
        }
        if let Some(layer) = generation
            .layers
            .iter()
            .find(|layer| !self.store.has_layer(layer))
        {
            return Err(RootfsError::MissingLayer { layer: *layer });
        }
        let lower = generation
            .layers
            .iter()
            .rev()
            .map(|layer| self.store.layer_dir(layer))
            .collect();
        self.mounts
            .mount(lower, &folder.join("upper"), &folder.join("work"), &target)
            .map_err(|source| RootfsError::Mount { source })
    }
}

#[cfg(test)]
mod tests;
