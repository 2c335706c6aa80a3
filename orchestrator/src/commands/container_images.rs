//! From where `gantry build` takes container images: archives, another registry, their own registries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::ValueHint;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use gantry_model::{ExitCode, ImageReference};
use gantry_registry_client::{FoundImage, Platforms, Registry, RegistryClient, RegistryError, Settings};
use gantry_store::{Descriptor, Platform, Store, StoreError};

use super::connect;
use super::image_lists::{IgnoredArgs, read_image_list};
use super::image_lists_with_auth::read_image_list_with_auth;
use super::registry::{self, RegistryArgs, registry_error};
use crate::build::{BuildMode, ContainerImageOptions, ContainerImageSource, FoundContainerImage};
use crate::completeness::{Place, places_of};
use crate::exit::{OrExit as _, failure, failure_hint};
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

    /// File of more container images with who may have them, as sealer has it: YAML, a list of registry,
    /// username, password and images
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    image_list_with_auth: Vec<PathBuf>,

    #[command(flatten)]
    ignored: IgnoredArgs,

    /// Take container images from this archive (docker save, skopeo, OCI) before any registry is asked; may be repeated
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    from_archive: Vec<PathBuf>,

    /// Take container images from this registry, HOST[:PORT][/PREFIX], in the place of their own
    #[arg(long, value_name = "REGISTRY", value_parser = parse_registry)]
    from_registry: Option<String>,

    /// Accept any certificate of this registry, and plain HTTP; may be repeated. --insecure says it of --from-registry
    #[arg(long, value_name = "HOST[:PORT]", value_parser = Registry::parse, help_heading = "Registry options")]
    insecure_registry: Vec<Registry>,

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
    /// What the image has to have inside, and how registries are asked for what is missing.
    ///
    /// # Errors
    /// When a list cannot be read, or it is not said which registry is insecure.
    pub(super) fn options(&self) -> anyhow::Result<(ContainerImageOptions, Settings)> {
        let mut settings = self.registry.settings();
        settings.insecure_registries = self.insecure_registries()?;
        // They are read when something is missing; that one cannot be is to be known before the build has worked for an hour.
        for file in &self.from_archive {
            fs::metadata(file)
                .with_context(|| format!("cannot read {}", file.display()))
                .or_exit(ExitCode::Input)?;
        }
        let mut listed = Vec::new();
        for file in &self.image_list_with_auth {
            let list = read_image_list_with_auth(file)?;
            listed.extend(list.listed);
            settings.logins.extend(list.logins);
        }
        for file in &self.image_list {
            for (image, line) in read_image_list(file)? {
                let place = Place {
                    file: file.display().to_string(),
                    line: Some(line),
                };
                listed.push((image, place));
            }
        }
        let options = ContainerImageOptions {
            mode: self.build_mode,
            listed,
            ignored: self.ignored.read()?,
        };
        Ok((options, settings))
    }

    /// A build asks whatever registries files name: leave for all of them would be leave for the internet.
    fn insecure_registries(&self) -> anyhow::Result<BTreeSet<Registry>> {
        let mut named: BTreeSet<Registry> = self.insecure_registry.iter().cloned().collect();
        if self.registry.is_insecure() {
            let Some(from) = &self.from_registry else {
                return Err(failure_hint(
                    ExitCode::Input,
                    "--insecure does not say which registry: a build asks all that files of the image name",
                    "name it: --insecure-registry HOST[:PORT], or --from-registry",
                ));
            };
            let from = Registry::parse(from).map_err(|reason| failure(ExitCode::Input, reason))?;
            named.insert(from);
        }
        Ok(named)
    }

    /// From where what is missing is taken, into `store`; `settings` are those of [`Self::options`].
    pub(super) fn source<'a>(&'a self, store: &'a Store, settings: &'a Settings) -> Sources<'a> {
        Sources {
            args: self,
            settings,
            store,
            archived: None,
            registries: None,
        }
    }
}

/// Archives and registries, looked into only when something is missing.
pub(super) struct Sources<'a> {
    args: &'a ContainerImageArgs,
    settings: &'a Settings,
    store: &'a Store,
    archived: Option<Archived>,
    registries: Option<Registries>,
}

/// Images of archives, in a store that goes with them.
struct Archived {
    store: Store,
    /// Of two with the same name the first counts.
    named: Vec<(ImageReference, Descriptor)>,
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
                match archived.find(image, platform) {
                    Ok(Some(found)) => {
                        archived.copy(&found.manifests, store)?;
                        answers.insert(image, Ok(found));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        answers.insert(image, Err(error));
                    }
                }
            }
        }
        let others: Vec<&ImageReference> = images
            .iter()
            .filter(|image| !answers.contains_key(image))
            .collect();
        if !others.is_empty() {
            let store = self.store;
            let (settings, from) = (self.settings.clone(), self.args.from_registry.as_deref());
            let registries = self.registries();
            // A client belongs to one run of its tasks.
            let client = registry::client(settings, &registries.transfers)?;
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
        let client = registry::client(self.settings.clone(), &registries.transfers)?;
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
            let mut named = Vec::new();
            for file in &self.args.from_archive {
                let images = store.take_container_images(file).map_err(super::store_error)?;
                if images.unnamed > 0 {
                    let style = anstyle::AnsiColor::Yellow.on_default().bold();
                    anstream::eprintln!(
                        "{style}note:{style:#} {} of {} have no name there: only digests lead to them",
                        images.unnamed,
                        file.display()
                    );
                }
                named.extend(images.named);
            }
            self.archived = Some(Archived {
                store,
                named,
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
        let digest = image.digest().copied().or_else(|| {
            let wanted = places_of(image);
            let mut named = self.named.iter();
            let same = named.find(|(name, _)| places_of(name) == wanted && name.tag() == image.tag());
            same.map(|(_, target)| target.digest)
        });
        let Some(digest) = digest else {
            return Ok(None);
        };
        let found = self.store.archived_image(&digest, platform);
        let found = found.map_err(|error| {
            super::store_error(match error {
                StoreError::MissingBlob { digest, .. } => StoreError::CutShort {
                    what: format!("the archive that {image} is taken from"),
                    reason: format!("blob {digest} is missing"),
                },
                error => error,
            })
        })?;
        Ok(found.map(|found| FoundContainerImage {
            digest: found.digest,
            manifests: found.manifests,
            blobs: found.blobs,
        }))
    }

    fn copy(&self, blobs: &[Descriptor], into: &Store) -> anyhow::Result<()> {
        for blob in blobs {
            let what = format!("blob {} of an archive", blob.digest.short());
            let taken = into
                .blobs()
                .take_from(self.store.blobs(), &blob.digest, blob.size, &what);
            taken.map_err(super::store_error)?;
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
