//! From where `gantry build` takes container images: archives, another registry, their own registries.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::ValueHint;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use gantry_model::ImageReference;
use gantry_registry_client::{FoundImage, Platforms, RegistryClient, RegistryError};
use gantry_store::{Descriptor, Platform, Store};

use super::connect;
use super::image_lists::{IgnoredArgs, read_image_list};
use super::registry::{RegistryArgs, registry_error};
use crate::build::{BuildMode, ContainerImageOptions, ContainerImageSource, FoundContainerImage};
use crate::completeness::{Place, places_of};
use crate::report::transfers::Transfers;

/// Container images that are looked for at a time.
const PARALLEL_IMAGES: usize = 4;
/// Container images whose blobs are fetched at a time; of each, several blobs are.
const PARALLEL_FETCHES: usize = 2;

/// Which container images an image has to have inside, and from where they are taken.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Container image options")]
pub struct ContainerImageArgs {
    /// Whether container images that are named and not inside are brought
    #[arg(long, value_enum, value_name = "MODE", default_value_t)]
    build_mode: BuildMode,

    /// File of more container images to bring, one on a line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    image_list: Vec<PathBuf>,

    #[command(flatten)]
    ignored: IgnoredArgs,

    /// Take container images from this archive (docker save, skopeo, OCI) before any registry is asked; may be repeated
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    from_archive: Vec<PathBuf>,

    /// Take container images from this registry, HOST[:PORT][/PREFIX], in the place of their own
    #[arg(long, value_name = "REGISTRY", value_parser = parse_registry)]
    from_registry: Option<String>,

    #[command(flatten)]
    registry: RegistryArgs,
}

fn parse_registry(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    // Whatever is put behind it has to be a name of an image.
    let reference: ImageReference = format!("{text}/image:tag")
        .parse()
        .map_err(|error| format!("{error}"))?;
    match reference.domain() {
        Some(_) => Ok(text.to_owned()),
        None => Err("write HOST:PORT, or a host whose name has a dot".to_owned()),
    }
}

impl ContainerImageArgs {
    /// What the image has to have inside.
    ///
    /// # Errors
    /// When a list cannot be read.
    pub(super) fn options(&self) -> anyhow::Result<ContainerImageOptions> {
        let mut listed = Vec::new();
        for file in &self.image_list {
            for (image, line) in read_image_list(file)? {
                let place = Place {
                    file: file.display().to_string(),
                    line: Some(line),
                };
                listed.push((image, place));
            }
        }
        Ok(ContainerImageOptions {
            mode: self.build_mode,
            listed,
            ignored: self.ignored.read()?,
        })
    }

    /// From where what is missing is taken, into `store`.
    pub(super) fn source<'a>(&'a self, store: &'a Store) -> Sources<'a> {
        Sources {
            args: self,
            store,
            archived: None,
            registries: None,
        }
    }
}

/// Archives and registries, looked into only when something is missing.
pub(super) struct Sources<'a> {
    args: &'a ContainerImageArgs,
    store: &'a Store,
    archived: Option<Archived>,
    registries: Option<Registries>,
}

/// Images of archives, unpacked into a store that goes with them.
struct Archived {
    store: Store,
    names: Vec<ImageReference>,
    _dir: tempfile::TempDir,
}

struct Registries {
    transfers: Arc<Transfers>,
    found: BTreeMap<ImageReference, FoundImage>,
}

impl ContainerImageSource for Sources<'_> {
    fn find(
        &mut self,
        images: &[ImageReference],
        platform: &Platform,
    ) -> anyhow::Result<Vec<anyhow::Result<FoundContainerImage>>> {
        let mut answers: BTreeMap<&ImageReference, anyhow::Result<FoundContainerImage>> = BTreeMap::new();
        if !self.args.from_archive.is_empty() {
            let store = self.store;
            let archived = self.archived()?;
            for image in images {
                if let Some(found) = archived.find(image, platform)? {
                    archived.copy(&found.manifests, store)?;
                    answers.insert(image, Ok(found));
                }
            }
        }
        let others: Vec<&ImageReference> = images
            .iter()
            .filter(|image| !answers.contains_key(image))
            .collect();
        if !others.is_empty() {
            let store = self.store;
            let (args, from) = (self.args, self.args.from_registry.as_deref());
            let registries = self.registries();
            // A client belongs to one run of its tasks.
            let client = args.registry.client(None, &registries.transfers)?;
            answers.extend(registries.find(&client, store, &others, from, platform)?);
        }
        Ok(images
            .iter()
            .map(|image| {
                answers
                    .remove(image)
                    .unwrap_or_else(|| Err(anyhow!("it is named twice")))
            })
            .collect())
    }

    fn fetch(&mut self, wanted: &[(&ImageReference, Vec<Descriptor>)]) -> anyhow::Result<()> {
        let mut remote = Vec::new();
        for (image, blobs) in wanted {
            let found = self
                .registries
                .as_ref()
                .and_then(|registries| registries.found.get(*image));
            match (found, &self.archived) {
                (Some(found), _) => remote.push((found, blobs.as_slice())),
                (None, Some(archived)) => archived.copy(blobs, self.store)?,
                (None, None) => {}
            }
        }
        let Some(registries) = self.registries.as_ref().filter(|_| !remote.is_empty()) else {
            return Ok(());
        };
        let client = self.args.registry.client(None, &registries.transfers)?;
        let fetched = connect::block_on(
            async {
                let fetches = remote.into_iter().map(Ok);
                let fetch = |(found, blobs)| client.fetch_blobs_of(self.store, found, blobs);
                let fetched = stream::iter(fetches)
                    .try_for_each_concurrent(PARALLEL_FETCHES, fetch)
                    .await;
                fetched.map_err(registry_error)
            },
            "what arrived is kept; run the same command again to go on",
        );
        registries.transfers.end(fetched.is_ok());
        fetched
    }
}

impl Sources<'_> {
    fn archived(&mut self) -> anyhow::Result<&Archived> {
        if self.archived.is_none() {
            let tmp = self.store.tmp_dir();
            let dir = tempfile::Builder::new().prefix("archives-").tempdir_in(&tmp);
            let dir = dir.with_context(|| format!("cannot create a folder in {}", tmp.display()))?;
            let store = Store::open(dir.path()).map_err(super::store_error)?;
            let mut names = Vec::new();
            for file in &self.args.from_archive {
                let loaded = store.load(file, None, &mut |_| {}).map_err(super::store_error)?;
                names.extend(loaded.into_iter().map(|image| image.reference));
            }
            self.archived = Some(Archived {
                store,
                names,
                _dir: dir,
            });
        }
        Ok(self.archived.as_ref().expect("it was just made"))
    }

    fn registries(&mut self) -> &mut Registries {
        self.registries.get_or_insert_with(|| Registries {
            transfers: Arc::new(Transfers::new("pulled", false)),
            found: BTreeMap::new(),
        })
    }
}

impl Archived {
    fn find(
        &self,
        image: &ImageReference,
        platform: &Platform,
    ) -> anyhow::Result<Option<FoundContainerImage>> {
        let wanted = places_of(image);
        let same = |name: &&ImageReference| {
            places_of(name) == wanted
                && match image.digest() {
                    Some(digest) => self
                        .store
                        .target(name)
                        .is_ok_and(|target| target.digest == *digest),
                    None => name.tag() == image.tag(),
                }
        };
        let Some(name) = self.names.iter().find(same) else {
            return Ok(None);
        };
        let found = self.store.image_for(name, platform).map_err(super::store_error)?;
        let contents = self
            .store
            .contents(name, Some(platform))
            .map_err(super::store_error)?;
        let config = &found.config;
        if (&config.os, &config.architecture) != (&platform.os, &platform.architecture) {
            return Ok(None);
        }
        Ok(contents
            .manifests
            .last()
            .map(|(manifest, _)| FoundContainerImage {
                digest: manifest.digest,
                manifests: contents
                    .manifests
                    .iter()
                    .map(|(manifest, _)| manifest.clone())
                    .collect(),
                blobs: contents.blobs.clone(),
            }))
    }

    fn copy(&self, blobs: &[Descriptor], into: &Store) -> anyhow::Result<()> {
        for blob in blobs {
            let what = format!("blob {} of an archive", blob.digest.short());
            let file = self
                .store
                .blobs()
                .open(&blob.digest, &what)
                .map_err(super::store_error)?;
            into.blobs()
                .put(file, &blob.digest, blob.size, &what)
                .map_err(super::store_error)?;
        }
        Ok(())
    }
}

impl Registries {
    fn find<'i>(
        &mut self,
        client: &RegistryClient,
        store: &Store,
        images: &[&'i ImageReference],
        from: Option<&str>,
        platform: &Platform,
    ) -> anyhow::Result<Vec<(&'i ImageReference, anyhow::Result<FoundContainerImage>)>> {
        let platforms = Platforms::One(platform.clone());
        let found: Vec<(&ImageReference, Result<FoundImage, RegistryError>)> = connect::block_on(
            async {
                let searches = images.iter().map(|image| async {
                    let answer = match from.map(|from| elsewhere(image, from)) {
                        Some(Ok(name)) => client.find(store, &name, &platforms).await,
                        Some(Err(reason)) => Err(RegistryError::Name(reason)),
                        None => client.find(store, image, &platforms).await,
                    };
                    (*image, answer)
                });
                Ok(stream::iter(searches)
                    .buffer_unordered(PARALLEL_IMAGES)
                    .collect()
                    .await)
            },
            "nothing was built; run the same command again",
        )?;
        Ok(found
            .into_iter()
            .map(|(image, answer)| {
                let answer = answer.map_err(registry_error).map(|found| {
                    let answer = FoundContainerImage {
                        digest: found.digest,
                        manifests: found.manifests.clone(),
                        blobs: found.blobs.clone(),
                    };
                    self.found.insert(image.clone(), found);
                    answer
                });
                (image, answer)
            })
            .collect())
    }
}

/// What `image` is called in the registry `from`.
fn elsewhere(image: &ImageReference, from: &str) -> Result<ImageReference, String> {
    // Without its own registry, and with the folder that Docker Hub has for what has no owner.
    let path = places_of(image).shared;
    let mut name = format!("{from}/{path}");
    if let Some(tag) = image.tag() {
        name.push_str(&format!(":{tag}"));
    }
    if let Some(digest) = image.digest() {
        name.push_str(&format!("@{digest}"));
    }
    name.parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_registry_has_images_by_their_paths() {
        for (image, name) in [
            ("nginx:1.25", "10.0.0.9:5000/mirror/library/nginx:1.25"),
            (
                "registry.k8s.io/coredns/coredns:v1",
                "10.0.0.9:5000/mirror/coredns/coredns:v1",
            ),
        ] {
            let from = parse_registry("10.0.0.9:5000/mirror/").unwrap();
            assert_eq!(
                elsewhere(&image.parse().unwrap(), &from).unwrap().to_string(),
                name
            );
        }
        assert!(parse_registry("mirror").is_err());
    }
}
