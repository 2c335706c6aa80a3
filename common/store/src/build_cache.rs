//! This module owns [`CachedStep`]: what a step of a build made, so that the same step need not be carried out again.
//!
//! A step lives as long as an image has its layer. Until its build has ended well no image has, so it lives by itself: a
//! build that failed or was killed goes on where it was. `gantry prune` ends that.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use gantry_model::{Digest, LayerDescriptor};
use serde::{Deserialize, Serialize};

use crate::reachable::Reachable;
use crate::{Store, StoreError, documents};

/// What a step of a build made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachedStep {
    /// The layer; none when the step changed nothing.
    pub layer: Option<LayerDescriptor>,
    /// The topmost layer after the step, without which the entry is worth nothing.
    pub top: Digest,
    /// What was built: one unfinished build of each name is kept.
    pub build: String,
    /// Whether that build has not ended well yet.
    pub unfinished: bool,
}

impl Store {
    /// What the step with this key made, if that is known and still there.
    #[must_use]
    pub fn cached_step(&self, key: &Digest) -> Option<CachedStep> {
        // An entry that cannot be read is one that is not there: the step is carried out.
        let step: CachedStep = documents::read(&self.cached_step_path(key)).ok()??;
        let there =
            |layer: &LayerDescriptor| self.blobs().size(&layer.digest).ok().flatten() == Some(layer.size);
        step.layer.as_ref().is_none_or(there).then_some(step)
    }

    /// Remembers what a step made. The store has to be shared (see [`Store::share`]) since the layer was made.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn cache_step(&self, key: &Digest, step: &CachedStep) -> Result<(), StoreError> {
        documents::write(&self.cached_step_path(key), step)
    }

    /// A build called `build` has ended: what it began and did not use goes with the next removal. When it ended well, what
    /// it `used` lives on with its image.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn end_build(&self, build: &str, used: &BTreeSet<Digest>, well: bool) -> Result<(), StoreError> {
        for (key, mut step) in self.cached_steps()? {
            let ours = step.unfinished && step.build == build;
            let used = used.contains(&key);
            if ours && !used {
                self.forget_step(&key)?;
            } else if well && used && step.unfinished {
                step.unfinished = false;
                self.cache_step(&key, &step)?;
            }
        }
        if well {
            self.forget_fetched(build)?;
        }
        Ok(())
    }

    /// Adds what unfinished builds need.
    pub(crate) fn reach_cache(&self, reachable: &mut Reachable) -> Result<(), StoreError> {
        for (_, step) in self
            .cached_steps()?
            .into_iter()
            .filter(|(_, step)| step.unfinished)
        {
            for layer in step.layer.map(|layer| layer.digest).into_iter().chain([step.top]) {
                reachable.blobs.insert(layer);
                reachable.layers.insert(layer);
            }
        }
        Ok(())
    }

    /// Forgets every step whose layers are not among `needed`; says how many.
    pub(crate) fn sweep_cache(&self, needed: &Reachable) -> Result<usize, StoreError> {
        let mut forgotten = 0;
        for (key, step) in self.cached_steps()? {
            let layer = step.layer.map(|layer| layer.digest);
            if !layer
                .into_iter()
                .chain([step.top])
                .all(|one| needed.blobs.contains(&one))
            {
                self.forget_step(&key)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    fn cached_steps(&self) -> Result<Vec<(Digest, CachedStep)>, StoreError> {
        let mut steps = Vec::new();
        for entry in fs::read_dir(self.cache_dir()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let key = name
                .to_str()
                .and_then(|name| Digest::from_hex(name.strip_suffix(".json")?).ok());
            let Some(key) = key else { continue };
            match documents::read(&entry.path()) {
                Ok(Some(step)) => steps.push((key, step)),
                Ok(None) => {}
                // Damaged: it is worth nothing.
                Err(_) => self.forget_step(&key)?,
            }
        }
        Ok(steps)
    }

    fn forget_step(&self, key: &Digest) -> Result<(), StoreError> {
        let path = self.cached_step_path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    fn cached_step_path(&self, key: &Digest) -> PathBuf {
        self.cache_dir().join(format!("{}.json", key.hex()))
    }

    fn cache_dir(&self) -> PathBuf {
        self.store_dir().join("build-cache")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::{LayerOptions, layer_from_tree};

    #[test]
    fn an_unfinished_build_is_kept_until_another_of_its_name_ends_or_it_is_pruned() {
        let test = testing::store();
        let store = &test.store;
        let step = |content: &str, build: &str| {
            let tree = tempfile::tempdir().unwrap();
            fs::write(tree.path().join("file"), content).unwrap();
            let layer = layer_from_tree(store, tree.path(), &LayerOptions::default()).unwrap();
            let (key, top) = (Digest::of(content.as_bytes()), layer.digest);
            let step = CachedStep {
                layer: Some(layer),
                top,
                build: build.to_owned(),
                unfinished: true,
            };
            store.cache_step(&key, &step).unwrap();
            key
        };
        let (old, new, other) = (step("old", "a:1"), step("new", "a:1"), step("other", "b:1"));
        store.sweep([]).unwrap();
        assert!(store.cached_step(&old).is_some());
        store.end_build("a:1", &[new].into(), false).unwrap();
        assert_eq!(store.sweep([]).unwrap().blobs.len(), 1);
        assert!(store.cached_step(&old).is_none() && store.cached_step(&new).is_some());
        // Ended well, but no image has it: then nothing needs it.
        store.end_build("a:1", &[new].into(), true).unwrap();
        store.sweep([]).unwrap();
        assert!(store.cached_step(&new).is_none() && store.cached_step(&other).is_some());
        let pruned = store.prune([]).unwrap();
        assert_eq!((pruned.blobs.len(), pruned.steps), (1, 1));
        assert_eq!(store.blobs().list().unwrap(), []);
    }

    #[test]
    fn what_is_damaged_or_lost_is_not_used() {
        let test = testing::store();
        let key = Digest::of(b"key");
        fs::create_dir_all(test.store.cache_dir()).unwrap();
        fs::write(test.store.cached_step_path(&key), "{").unwrap();
        assert_eq!(test.store.cached_step(&key), None);
        test.store.sweep([]).unwrap();
        assert!(!test.store.cached_step_path(&key).exists());
    }
}
