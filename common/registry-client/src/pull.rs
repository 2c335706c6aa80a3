//! This module owns pulling an image: its documents are read and checked, what is missing of its blobs is fetched, and only
//! when all of it is here does a name lead to it.

mod find;
mod manifest;

use std::collections::{BTreeSet, VecDeque};

use futures_util::{TryStreamExt as _, stream};
use gantry_model::{Digest, ImageReference};
use gantry_store::manifest::{Index, MAX_CONFIG_LEN, MAX_LAYERS, MEDIA_TYPE_CONFIG, Manifest};
use gantry_store::{Descriptor, LoadEvent, LoadedImage, Platform, Store, StoreError};

pub use self::find::FoundImage;
pub(crate) use self::manifest::RemoteManifest;
use crate::client::{RegistryClient, said_in};
use crate::limits::{MAX_INDEX_ENTRIES, PARALLEL_BLOBS};
use crate::transfer::Event;
use crate::{Endpoint, RegistryError, RemoteImage};

/// Which images of an index are pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    /// The one for this platform.
    One(Platform),
    /// Every one, and what else the index names.
    All,
}

/// How an image is pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOptions {
    /// Which images of an index.
    pub platforms: Platforms,
}

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its name and digest.
    pub image: LoadedImage,
    /// The repository it came from, `REGISTRY/PATH`.
    pub repository: String,
}

/// What an image consists of, before any of its blobs is here.
#[derive(Debug, Default)]
struct Plan {
    documents: Vec<RemoteManifest>,
    /// Manifests and indexes that there may be signatures over.
    signable: Vec<Digest>,
    blobs: Vec<Descriptor>,
    /// Configs of images, and how many layers each has to tell of.
    configs: Vec<(Descriptor, usize)>,
}

impl RegistryClient {
    /// Brings the image that `name` means into the store, under that name. `event` is told of layers that are given
    /// their chunked form.
    ///
    /// What an interrupted pull brought is used by the next one. Signatures come along.
    ///
    /// # Errors
    /// When no registry has it, or what one sends is not what it announced; the name leads where it led before then.
    pub async fn pull(
        &self,
        store: &Store,
        name: &ImageReference,
        options: &PullOptions,
        event: impl FnMut(LoadEvent) + Send + 'static,
    ) -> Result<Pulled, RegistryError> {
        let _nothing_vanishes = store.share()?;
        let (target, endpoint) = self
            .ask_each(name, async |wanted, endpoint| {
                self.fetch_image(store, name, wanted, endpoint, options).await
            })
            .await?;
        self.admit(store, name, target, &endpoint, event).await
    }

    /// What the first registry answers that has the image `name`: mirrors are asked before the registry itself. Where that does not
    /// answer either, mirrors that did not may be back meanwhile.
    async fn ask_each<T>(
        &self,
        name: &ImageReference,
        ask: impl AsyncFn(&RemoteImage, &Endpoint) -> Result<T, RegistryError>,
    ) -> Result<(T, Endpoint), RegistryError> {
        let mut first = None;
        for full in self.conf().full_names(name)? {
            let wanted = RemoteImage::of(&full).map_err(RegistryError::Name)?;
            let (repository, by_digest) = (&wanted.repository, wanted.digest.is_some());
            let said = said_in(name, repository);
            let mut endpoints = VecDeque::from(self.endpoints(repository, by_digest, said)?);
            let (mut silent, mut once_more) = (Vec::new(), false);
            while let Some(endpoint) = endpoints.pop_front() {
                if once_more {
                    self.ask_once_more(endpoint.repository.registry()).await;
                }
                let error = match ask(&wanted, &endpoint).await {
                    Ok(answer) => return Ok((answer, endpoint)),
                    Err(error) if error.is_of_this_registry() => error,
                    Err(error) => return Err(error),
                };
                if endpoint.mirror {
                    self.event(Event::Passed {
                        reason: error.on_the_way(),
                    });
                    if endpoint.is_passed_over(&error) && !once_more {
                        silent.push(endpoint);
                    }
                    first.get_or_insert(error);
                } else {
                    if matches!(error, RegistryError::Unreachable { .. }) {
                        once_more = true;
                        endpoints.extend(std::mem::take(&mut silent));
                    }
                    // The registry itself is asked after its mirrors, and what it says matters most.
                    first = Some(error);
                }
            }
        }
        Err(first.expect("a name leads to one registry at least"))
    }

    /// Fetches everything an image needs from one registry.
    async fn fetch_image(
        &self,
        store: &Store,
        name: &ImageReference,
        wanted: &RemoteImage,
        endpoint: &Endpoint,
        options: &PullOptions,
    ) -> Result<Descriptor, RegistryError> {
        let (target, mut plan) = self
            .plan_image(store, name, wanted, endpoint, &options.platforms)
            .await?;
        self.fetch_signatures(store, endpoint, plan.signable.iter().copied())
            .await?;
        let documents = std::mem::take(&mut plan.documents);
        let (at, asked_for) = (target.clone(), name.clone());
        let guarded = store.clone();
        // Before anything large travels.
        crate::transfer::on_thread(move || {
            documents
                .iter()
                .try_for_each(|manifest| guarded.blobs().put_bytes(&manifest.bytes).map(drop))?;
            guarded.ask_guard(&asked_for, &at)
        })
        .await?;
        self.fetch_configs(store, name, endpoint, &plan).await?;
        self.fetch_blobs(store, endpoint, &plan.missing(store)?).await?;
        Ok(target)
    }

    /// Fetches what images say about themselves, and makes sure that it is about their layers before any of these travels.
    async fn fetch_configs(
        &self,
        store: &Store,
        name: &ImageReference,
        endpoint: &Endpoint,
        plan: &Plan,
    ) -> Result<(), RegistryError> {
        for (config, layers) in &plan.configs {
            if config.size > MAX_CONFIG_LEN {
                return Err(RegistryError::TooLarge {
                    registry: endpoint.repository.registry().name().to_owned(),
                    what: format!("config {} of {}", config.digest.short(), endpoint.repository),
                    limit: MAX_CONFIG_LEN,
                    why: "the most that is accepted",
                });
            }
            self.fetch_blob(endpoint, config, store).await?;
            let what = format!("image {}", endpoint.repository);
            let is_of_early_sealer = store.check_config(&config.digest, *layers, &what)?;
            if is_of_early_sealer && name.digest().is_some() {
                let reason = "it was pushed by sealer 0.8 or an older one: here it becomes an image with another digest, and cannot \
                              have a name with this one; pull it by its tag";
                return Err(StoreError::malformed(what, reason).into());
            }
        }
        Ok(())
    }

    /// Reads what an image consists of.
    async fn plan_image(
        &self,
        store: &Store,
        name: &ImageReference,
        wanted: &RemoteImage,
        endpoint: &Endpoint,
        platforms: &Platforms,
    ) -> Result<(Descriptor, Plan), RegistryError> {
        let top = self.top_manifest(store, name, wanted, endpoint).await?;
        let mut plan = Plan::default();
        if top.is_index() {
            for entry in entries(&top, endpoint, platforms)? {
                let digest = entry.digest.to_string();
                let manifest = match store_document(store, &entry.digest) {
                    Some(bytes) => RemoteManifest::known(&entry, bytes),
                    None => self.manifest(endpoint, &digest, Some(&entry)).await?,
                };
                // An index within an index names nothing that could be run here.
                if !manifest.is_index() {
                    plan.add(&manifest, entry.is_image(), endpoint)?;
                }
                if entry.is_image() {
                    plan.signable.push(entry.digest);
                }
                plan.documents.push(manifest);
            }
        } else {
            plan.add(&top, true, endpoint)?;
        }
        let target = top.descriptor.clone();
        plan.signable.push(target.digest);
        plan.documents.push(top);
        Ok((target, plan))
    }

    /// The manifest that the name leads to. One that is here already is not sent again.
    async fn top_manifest(
        &self,
        store: &Store,
        name: &ImageReference,
        wanted: &RemoteImage,
        endpoint: &Endpoint,
    ) -> Result<RemoteManifest, RegistryError> {
        let reference = wanted.reference();
        if let Ok(target) = store.target(name)
            && let Some(bytes) = store_document(store, &target.digest)
        {
            let same = match wanted.digest {
                Some(digest) => digest == target.digest,
                None => self.manifest_digest(endpoint, &reference, "pull").await? == Some(target.digest),
            };
            if same {
                return Ok(RemoteManifest::known(&target, bytes));
            }
        }
        let manifest = self.manifest(endpoint, &reference, None).await?;
        match wanted.digest {
            Some(expected) if expected != manifest.descriptor.digest => Err(RegistryError::WrongDigest {
                registry: endpoint.repository.registry().name().to_owned(),
                what: format!("manifest of {wanted}"),
                expected,
                found: manifest.descriptor.digest,
            }),
            _ => Ok(manifest),
        }
    }

    async fn fetch_blobs(
        &self,
        store: &Store,
        endpoint: &Endpoint,
        blobs: &[Descriptor],
    ) -> Result<(), RegistryError> {
        let bytes = blobs
            .iter()
            .fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
        store.check_room(bytes, &format!("what is missing of {}", endpoint.repository))?;
        self.event(Event::Planned {
            blobs: blobs.len(),
            bytes,
        });
        let fetches = blobs
            .iter()
            .map(|blob| Ok(self.fetch_blob(endpoint, blob, store)));
        stream::iter(fetches)
            .try_buffer_unordered(PARALLEL_BLOBS)
            .try_collect::<()>()
            .await
    }

    async fn admit(
        &self,
        store: &Store,
        name: &ImageReference,
        target: Descriptor,
        endpoint: &Endpoint,
        mut event: impl FnMut(LoadEvent) + Send + 'static,
    ) -> Result<Pulled, RegistryError> {
        let repository = endpoint.repository.to_string();
        let (store, name, source) = (store.clone(), name.clone(), repository.clone());
        let image = crate::transfer::on_thread(move || {
            let image = store.admit(&target, &name, &source, &mut event)?;
            let contents = store.contents(&name, None)?;
            // What early sealer pushed gets a config here, which the registry does not have.
            let made_here =
                |blob: &&Descriptor| image.digest != target.digest && blob.media_type == MEDIA_TYPE_CONFIG;
            let came = contents.blobs.iter().filter(|blob| !made_here(blob));
            store.add_origin(&source, came.map(|blob| blob.digest))?;
            Ok(image)
        })
        .await?;
        Ok(Pulled { image, repository })
    }
}

impl Plan {
    /// Adds the blobs of a manifest, which may be no image's.
    fn add(
        &mut self,
        manifest: &RemoteManifest,
        is_image: bool,
        endpoint: &Endpoint,
    ) -> Result<(), RegistryError> {
        let parsed: Manifest = manifest.parse(endpoint)?;
        if parsed.layers.len() > MAX_LAYERS {
            let reason = format!(
                "it has {} layers, more than the {MAX_LAYERS} that are accepted",
                parsed.layers.len()
            );
            return Err(manifest.malformed(endpoint, reason));
        }
        // Statements about an image have layers that are none.
        if !parsed.layers.is_empty() && is_image {
            self.configs.push((parsed.config.clone(), parsed.layers.len()));
        }
        self.blobs.push(parsed.config);
        self.blobs.extend(parsed.layers);
        Ok(())
    }

    /// The blobs that are not in the store, each once.
    fn missing(&self, store: &Store) -> Result<Vec<Descriptor>, RegistryError> {
        let (mut seen, mut missing) = (BTreeSet::new(), Vec::new());
        for blob in &self.blobs {
            if seen.insert(blob.digest) && store.blobs().size(&blob.digest)? != Some(blob.size) {
                missing.push(blob.clone());
            }
        }
        Ok(missing)
    }
}

/// The entries of an index that are wanted.
fn entries(
    top: &RemoteManifest,
    endpoint: &Endpoint,
    platforms: &Platforms,
) -> Result<Vec<Descriptor>, RegistryError> {
    let index: Index = top.parse(endpoint)?;
    let count = index.manifests.len();
    if count > MAX_INDEX_ENTRIES {
        let reason = format!("it names {count} images, more than the {MAX_INDEX_ENTRIES} that are accepted");
        return Err(top.malformed(endpoint, reason));
    }
    let Platforms::One(wanted) = platforms else {
        return Ok(index.manifests);
    };
    let fits = |entry: &&Descriptor| {
        let platform = entry.platform.as_ref();
        platform.is_some_and(|platform| platform.fits(wanted))
    };
    if let Some(entry) = index.manifests.iter().find(fits) {
        return Ok(vec![entry.clone()]);
    }
    let images = index.manifests.iter().filter(|entry| entry.is_image());
    let there: Vec<String> = images
        .filter_map(|entry| entry.platform.as_ref())
        .map(ToString::to_string)
        .collect();
    Err(RegistryError::NotFound {
        registry: endpoint.repository.registry().name().to_owned(),
        what: format!("an image of {} for {wanted}", endpoint.repository),
        reason: format!(
            "there is one for {}",
            crate::printable::printable(&there.join(", "))
        ),
    })
}

/// A document that is in the store, whole.
fn store_document(store: &Store, digest: &Digest) -> Option<Vec<u8>> {
    let limit = gantry_store::manifest::MAX_MANIFEST_LEN;
    store.blobs().read(digest, "image manifest", limit).ok()
}
