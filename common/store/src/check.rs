//! This module owns `gantry store check`: does everything in the store still match its digest?

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use gantry_model::Digest;

use crate::reachable::Reachable;
use crate::references::References;
use crate::{Store, StoreError};

/// What [`Store::check`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Images looked through.
    pub images: usize,
    /// Blobs read and compared.
    pub blobs: usize,
    /// Unpacked layers read and compared.
    pub layers: usize,
    /// Everything that is damaged.
    pub damage: Vec<Damage>,
}

/// One damaged object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// Where it lies.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
    /// The images that need it.
    pub images: Vec<String>,
}

impl Store {
    /// Reads everything and compares it with its digest, on all cores. Changes nothing.
    ///
    /// # Errors
    /// When the store cannot be read at all. What is damaged is no error: it is in the report.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        let _nothing_vanishes = self.share()?;
        let references = self.references()?;
        let mut report = CheckReport {
            images: references.images.len(),
            ..CheckReport::default()
        };
        let users = self.users(&references, &mut report.damage);
        let users_of = |digest: &Digest| users.get(digest).cloned().unwrap_or_default();

        let blobs = self.blobs().list()?;
        report.blobs = blobs.len();
        let damaged: Vec<(Digest, String)> = on_all_cores(&blobs, |digest| self.check_blob(digest));
        for (digest, reason) in &damaged {
            let path = self.blobs().path(digest);
            report.damage.push(Damage {
                path,
                reason: reason.clone(),
                images: users_of(digest),
            });
        }
        let here: BTreeSet<_> = blobs.into_iter().collect();
        for (digest, images) in users.iter().filter(|(digest, _)| !here.contains(*digest)) {
            let path = self.blobs().path(digest);
            report.damage.push(Damage {
                path,
                reason: "is missing".to_owned(),
                images: images.clone(),
            });
        }

        let layers = self
            .layers()
            .map_err(StoreError::layer("cannot list the unpacked layers"))?;
        report.layers = layers.len();
        for (layer, damage) in on_all_cores(&layers, |layer| self.check_unpacked(layer)) {
            for (path, reason) in damage {
                report.damage.push(Damage {
                    path,
                    reason,
                    images: users_of(&layer),
                });
            }
        }
        report.damage.sort();
        report.damage.dedup();
        Ok(report)
    }

    /// What is wrong with a blob, which is read whole; none when it is what its digest says. Who needs it is not asked.
    #[must_use]
    pub fn blob_damage(&self, digest: &Digest) -> Option<Damage> {
        self.check_blob(digest).map(|reason| Damage {
            path: self.blobs().path(digest),
            reason,
            images: Vec::new(),
        })
    }

    /// Which images need which blob. An image that cannot be walked is damage.
    fn users(&self, references: &References, damage: &mut Vec<Damage>) -> BTreeMap<Digest, Vec<String>> {
        let mut users: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for (name, target) in &references.images {
            let mut reachable = Reachable::default();
            if let Err(error) = self.reach(target, &mut reachable) {
                // A blob that is damaged or missing is named with its own path below.
                if !matches!(
                    error,
                    StoreError::WrongDigest { .. } | StoreError::MissingBlob { .. }
                ) {
                    damage.push(Damage {
                        path: self.blobs().path(&target.digest),
                        reason: error.to_string(),
                        images: vec![name.to_string()],
                    });
                }
            }
            for digest in reachable.blobs {
                users.entry(digest).or_default().push(name.to_string());
            }
        }
        users
    }

    fn check_blob(&self, digest: &Digest) -> Option<String> {
        match self.blobs().verify(digest, "blob") {
            Ok(_) => None,
            Err(StoreError::WrongDigest { found, .. }) => {
                Some(format!("does not match its digest: its content is {found}"))
            }
            Err(error) => Some(with_cause(&error)),
        }
    }

    fn check_unpacked(&self, layer: &Digest) -> Option<Vec<(PathBuf, String)>> {
        let dir = self.layer_dir(layer);
        match self.check_layer(layer) {
            Ok(damage) if damage.is_empty() => None,
            Ok(damage) => Some(
                damage
                    .into_iter()
                    .map(|one| (dir.join(one.path), one.reason))
                    .collect(),
            ),
            Err(error) => Some(vec![(dir, with_cause(&error))]),
        }
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Runs `check` over `items` on as many threads as there are cores; gives what it found, in the items' order.
fn on_all_cores<T: Sync + Copy + Send, R: Send>(
    items: &[T],
    check: impl Fn(&T) -> Option<R> + Sync,
) -> Vec<(T, R)> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(items.len().max(1));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let position = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(position) else { break };
                    if let Some(result) = check(item) {
                        found
                            .lock()
                            .expect("no thread panics with it")
                            .insert(position, (*item, result));
                    }
                }
            });
        }
    });
    found
        .into_inner()
        .expect("no thread panics with it")
        .into_values()
        .collect()
}
