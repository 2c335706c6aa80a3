//! This module owns what an image needs: the walk from a name to every blob and layer behind it.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use gantry_model::{Digest, Generation};

use crate::images::{is_index, parse};
use crate::manifest::{Index, MAX_CONFIG_LEN, MAX_MANIFEST_LEN, Manifest};
use crate::references::References;
use crate::{Descriptor, ImageConfig, Store, StoreError, documents};

/// Everything that some images need.
#[derive(Debug, Default)]
pub(crate) struct Reachable {
    /// Index, manifests, configs and layers, chunked forms and signatures included.
    pub(crate) blobs: BTreeSet<Digest>,
    /// The layers in chunked form: what may lie unpacked in `data/overlay2`.
    pub(crate) layers: BTreeSet<Digest>,
}

impl Store {
    /// What every image of the store needs.
    pub(crate) fn reachable(&self, references: &References) -> Result<Reachable, StoreError> {
        let mut reachable = Reachable::default();
        references
            .images
            .values()
            .try_for_each(|target| self.reach(target, &mut reachable))?;
        Ok(reachable)
    }

    /// Adds what the image at `target` needs.
    pub(crate) fn reach(&self, target: &Descriptor, reachable: &mut Reachable) -> Result<(), StoreError> {
        reachable.blobs.insert(target.digest);
        self.reach_signatures(&target.digest, reachable)?;
        self.reach_attestations(&target.digest, reachable)?;
        let what = format!("image manifest {}", target.digest);
        let bytes = self.blobs().read(&target.digest, &what, MAX_MANIFEST_LEN)?;
        if is_index(&target.media_type) {
            let index: Index = parse(&bytes, &what)?;
            let mut seen = BTreeSet::new();
            let mut here = index
                .manifests
                .iter()
                .filter(|entry| seen.insert(entry.digest) && self.blobs().exists(&entry.digest));
            return here.try_for_each(|entry| self.reach(entry, reachable));
        }
        let manifest: Manifest = parse(&bytes, &what)?;
        reachable.blobs.insert(manifest.config.digest);
        reachable
            .blobs
            .extend(manifest.layers.iter().map(|layer| layer.digest));
        let what = format!("image config {}", manifest.config.digest);
        let config = self
            .blobs()
            .read(&manifest.config.digest, &what, MAX_CONFIG_LEN)?;
        let config: ImageConfig = parse(&config, &what)?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
            // A layer whose chunked form is lost needs nothing more than itself.
            if let Ok(chunked) = self.chunked_layer(layer, *diff_id) {
                reachable.blobs.insert(chunked.digest);
                reachable.layers.insert(chunked.digest);
            }
        }
        Ok(())
    }

    /// The layers that some generation of some cluster on this host is made of.
    pub(crate) fn layers_of_generations(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut layers = BTreeSet::new();
        for cluster in folders(&self.root().join("data"))? {
            for generation in folders(&cluster.join("generations"))? {
                let generation: Option<Generation> = documents::read(&generation.join("generation.json"))?;
                layers.extend(generation.into_iter().flat_map(|generation| generation.layers));
            }
        }
        Ok(layers)
    }
}

fn folders(dir: &std::path::Path) -> Result<Vec<std::path::PathBuf>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(source) => return Err(StoreError::io("list", dir)(source)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}
