//! This module owns reading images from archives and folders.
//!
//! First everything comes into the store, verified blob by blob; then each image is looked through and gets the
//! chunked form of its layers; last its name leads to it. What a refused archive left behind is swept away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use gantry_model::{Digest, ImageReference, ImageSignature};

use super::arrivals::Arrivals;
use super::sealer::YamlReader;
use super::{docker, is_signatures, sealer};
use crate::attestations::{self, is_of_attestations};
use crate::images::parse;
use crate::manifest::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, Index, MAX_MANIFEST_LEN, Manifest};
use crate::reachable::Reachable;
use crate::signatures::{candidates, is_of_signatures};
use crate::{Descriptor, Platform, Store, StoreError};

/// One image that [`Store::load`] brought in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its name.
    pub reference: ImageReference,
    /// Digest of its manifest or index.
    pub digest: Digest,
}

/// Something long is about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadEvent {
    /// A layer that is not in chunked form is given one.
    ChunkingLayer {
        /// Digest of the layer as it arrived.
        layer: Digest,
        /// Its size in bytes as it arrived.
        size: u64,
    },
}

impl Store {
    /// Brings in the images of an OCI archive, an OCI folder or a docker archive; archives may be compressed.
    ///
    /// `name` is for archives that hold one image and do not say how it is called, or to call it otherwise.
    ///
    /// # Errors
    /// When the archive is damaged, cut short or not an archive of images; no name leads to anything of it then.
    pub fn load(
        &self,
        path: &Path,
        name: Option<&ImageReference>,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<Vec<LoadedImage>, StoreError> {
        let what = path.display().to_string();
        if path.is_dir() {
            return self.load_from(|| Arrivals::from_folder(self, path), &what, name, None, event);
        }
        let file = File::open(path).map_err(StoreError::io("open", path))?;
        self.load_stream(file, &what, name, None, event)
    }

    /// Brings in the images of the archive that `stream` gives, which `archive` names in errors. See [`Store::load`].
    ///
    /// With `read_yaml` save files of sealer before 0.9 are read as well: what their images are is said in YAML.
    ///
    /// # Errors
    /// Like [`Store::load`].
    pub fn load_stream(
        &self,
        stream: impl Read,
        archive: &str,
        name: Option<&ImageReference>,
        read_yaml: Option<YamlReader>,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<Vec<LoadedImage>, StoreError> {
        let take_in = || Arrivals::from_stream(self, stream, archive);
        self.load_from(take_in, archive, name, read_yaml, event)
    }

    /// Brings in the images of an OCI layout whose blobs are in the store, by its `index.json`.
    pub(super) fn load_index(
        &self,
        index: &[u8],
        archive: &str,
        name: Option<&ImageReference>,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<Vec<LoadedImage>, StoreError> {
        let arrivals = Arrivals::of_layout(Some(index.to_vec()), true);
        self.load_from(|| Ok(arrivals), archive, name, None, event)
    }

    fn load_from(
        &self,
        take_in: impl FnOnce() -> Result<Arrivals, StoreError>,
        archive: &str,
        name: Option<&ImageReference>,
        read_yaml: Option<YamlReader>,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<Vec<LoadedImage>, StoreError> {
        let mut replaced = Vec::new();
        let result = self.share().and_then(|_nothing_vanishes| {
            let arrivals = take_in()?;
            let images = match (&arrivals.index, &arrivals.docker_manifest) {
                (Some(index), _) => self.oci_images(index, archive, event)?,
                (None, Some(manifest)) => docker::images(self, &arrivals, manifest, archive, event)?,
                (None, None) => self.sealer_images(&arrivals, archive, read_yaml, event)?,
            };
            self.name_images(images, name, archive, &mut replaced)
        });
        // Plain tar files of a docker archive, and whatever came before a mistake was found.
        let swept = self.release(&replaced);
        let loaded = result.map_err(|error| match error {
            // What an archive names it has to have: here is nothing that could be made good.
            StoreError::MissingBlob { digest, .. } => StoreError::CutShort {
                what: archive.to_owned(),
                reason: format!("blob {digest} is missing"),
            },
            error => error,
        })?;
        swept?;
        Ok(loaded)
    }

    /// The images of a save file of sealer.
    fn sealer_images(
        &self,
        arrivals: &Arrivals,
        archive: &str,
        read_yaml: Option<YamlReader>,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<Named, StoreError> {
        let mut platforms = Vec::new();
        for (file, blob) in arrivals.archives() {
            let what = format!("{file} of {archive}");
            let inner = Arrivals::from_stream(self, self.blobs().open(blob, &what)?, &what)?;
            let index = inner.index.unwrap_or_default();
            for (target, _) in self.oci_images(&index, &what, event)? {
                let config = self.image_by_digest(&target.digest)?.config;
                platforms.push(Descriptor {
                    platform: Some(Platform {
                        architecture: config.architecture,
                        os: config.os,
                        variant: config.variant,
                    }),
                    ..target
                });
            }
        }
        if !platforms.is_empty() {
            let name = sealer::list_name(&arrivals.sealer, archive)?;
            return Ok(vec![(self.put_index(platforms)?, vec![name])]);
        }
        let Some(read_yaml) = read_yaml else {
            let reason = "it is a save file of sealer, which `gantry load FILE` reads";
            return Err(StoreError::malformed(archive, reason));
        };
        sealer::images(self, &arrivals.sealer, read_yaml, archive)
    }

    fn name_images(
        &self,
        images: Named,
        name: Option<&ImageReference>,
        archive: &str,
        replaced: &mut Vec<Descriptor>,
    ) -> Result<Vec<LoadedImage>, StoreError> {
        let mut loaded = Vec::new();
        let images = names_of(images, name, archive)?;
        for (target, names) in &images {
            names
                .iter()
                .try_for_each(|reference| self.ask_guard(reference, target))?;
        }
        for (target, names) in images {
            for reference in names {
                replaced.extend(self.set_reference(&reference, target.clone())?);
                loaded.push(LoadedImage {
                    reference,
                    digest: target.digest,
                });
            }
        }
        Ok(loaded)
    }

    fn oci_images(
        &self,
        index: &[u8],
        archive: &str,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<Named, StoreError> {
        let index: Index = parse(index, &format!("index.json of {archive}"))?;
        let (mut images, mut seen) = (Vec::new(), BTreeSet::new());
        let (signatures, targets): (Vec<_>, Vec<_>) = index
            .manifests
            .into_iter()
            .partition(|entry| self.is_signatures(entry, archive));
        for target in targets {
            let names = name_in(&target).into_iter().collect();
            // Copied from a registry to which sealer before 0.9 pushed it, perhaps.
            let target = self.as_image_of_today(&target, archive, event)?;
            // One image may be there under many names.
            if seen.insert(target.digest) {
                self.take_image(&target, archive, event)?;
            }
            let target = Descriptor {
                annotations: BTreeMap::new(),
                ..target
            };
            images.push((target, names));
        }
        self.take_signatures(&signatures, &images, archive)?;
        Ok(images)
    }

    /// The images that an index names, with their names, as they are.
    pub(super) fn named_in_index(&self, index: &[u8], archive: &str) -> Result<Named, StoreError> {
        let index: Index = parse(index, &format!("index.json of {archive}"))?;
        let targets = index.manifests.into_iter();
        let targets = targets.filter(|entry| entry.is_image() && !self.is_signatures(entry, archive));
        Ok(targets
            .map(|target| {
                let names = name_in(&target).into_iter().collect();
                (target, names)
            })
            .collect())
    }

    /// Whether an entry of an index is signatures: it says so, or its manifest shows it.
    fn is_signatures(&self, entry: &Descriptor, archive: &str) -> bool {
        let read = || self.blobs().read(&entry.digest, archive, MAX_MANIFEST_LEN).ok();
        let manifest = || serde_json::from_slice::<Manifest>(&read()?).ok();
        let shows = |manifest: &Manifest| is_of_signatures(manifest) || is_of_attestations(manifest);
        is_signatures(entry) || manifest().is_some_and(|manifest| shows(&manifest))
    }

    /// Takes in signatures over the images that came. Those over anything else are left.
    fn take_signatures(
        &self,
        signatures: &[Descriptor],
        images: &Named,
        archive: &str,
    ) -> Result<(), StoreError> {
        let mut came = Reachable::default();
        if !signatures.is_empty() {
            images
                .iter()
                .try_for_each(|(target, _)| self.reach(target, &mut came))?;
        }
        for entry in signatures {
            let what = format!("manifest {} of {archive}", entry.digest);
            let bytes = self.blobs().read(&entry.digest, &what, MAX_MANIFEST_LEN)?;
            let manifest: Manifest = parse(&bytes, &what)?;
            if is_of_attestations(&manifest) {
                self.take_attestations(&manifest, &bytes, &came)?;
                continue;
            }
            // What an archive names it has to have.
            for payload in candidates(&manifest) {
                self.blobs()
                    .read(&payload.digest, &what, ImageSignature::MAX_PAYLOAD_LEN)?;
            }
            for image in self.signed_images(&manifest)? {
                if came.blobs.contains(&image) {
                    self.add_signature_manifest(&image, &bytes)?;
                }
            }
        }
        Ok(())
    }
}

impl Store {
    /// Takes in statements about the images that came. What of them is damaged is refused with its archive.
    fn take_attestations(
        &self,
        manifest: &Manifest,
        bytes: &[u8],
        came: &Reachable,
    ) -> Result<(), StoreError> {
        for envelope in attestations::candidates(manifest) {
            self.blobs()
                .read(&envelope.digest, "attestation", attestations::MAX_ENVELOPE_LEN)?;
        }
        for image in self.attested_images(manifest) {
            if came.blobs.contains(&image) {
                self.add_attestation_manifest(&image, bytes)?;
            }
        }
        Ok(())
    }
}

/// The name that an entry of an index gives its image. A ref.name may also be a bare tag or any other text; then it names nothing.
fn name_in(target: &Descriptor) -> Option<ImageReference> {
    [ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME]
        .into_iter()
        .find_map(|annotation| target.annotations.get(annotation)?.parse().ok())
}

pub(super) type Named = Vec<(Descriptor, Vec<ImageReference>)>;

/// The images with the names they get: their own, or the one that was asked for.
fn names_of(images: Named, name: Option<&ImageReference>, archive: &str) -> Result<Named, StoreError> {
    let count = images.len();
    if count == 0 {
        return Err(StoreError::malformed(archive, "there is no image in it"));
    }
    let Some(name) = name else {
        return if images.iter().all(|(_, names)| !names.is_empty()) {
            Ok(images)
        } else {
            let reason = "it does not say how its image is called; give a name: `gantry load -t NAME FILE`";
            Err(StoreError::malformed(archive, reason))
        };
    };
    if count > 1 {
        let reason = format!("it holds {count} images, they cannot all be called {name}; leave out -t");
        return Err(StoreError::malformed(archive, reason));
    }
    Ok(images
        .into_iter()
        .map(|(target, _)| (target, vec![name.clone()]))
        .collect())
}
