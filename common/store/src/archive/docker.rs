//! This module owns reading docker archives (`docker save`, `skopeo copy … docker-archive:`).
//!
//! Nothing in them says how a registry would have their layers, so there is no such form to keep: a ClusterImage gets a
//! manifest of its chunked layers, a container image one of its layers as they are; both keep their config byte for byte.

use std::collections::BTreeMap;

use gantry_model::{Digest, ImageReference};
use serde::Deserialize;

use super::arrivals::Arrivals;
use crate::images::{check_layer_count, parse};
use crate::limits::MAX_DOCKER_IMAGES;
use crate::manifest::{MAX_CONFIG_LEN, MEDIA_TYPE_CONFIG, MEDIA_TYPE_MANIFEST, Manifest};
use crate::{Descriptor, ImageConfig, LoadEvent, Store, StoreError};

/// One entry of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The images of a docker archive: for each its manifest in the store, and the names it goes by.
pub(super) fn images(
    store: &Store,
    arrivals: &Arrivals,
    manifest: &[u8],
    archive: &str,
    event: &mut dyn FnMut(LoadEvent),
) -> Result<Vec<(Descriptor, Vec<ImageReference>)>, StoreError> {
    let mut images = Vec::new();
    for entry in entries(manifest, archive)? {
        let target = image(store, arrivals, &entry, archive, &mut |tar, diff_id, what| {
            let chunked = store.chunk_layer(tar, diff_id, what, event)?;
            Ok(Descriptor::of_chunked_layer(&chunked))
        })?;
        let names = entry.repo_tags.unwrap_or_default();
        let names = names.iter().map(|name| {
            name.parse()
                .map_err(|error| StoreError::malformed(archive, format!("its image name {error}")))
        });
        images.push((target, names.collect::<Result<_, _>>()?));
    }
    Ok(images)
}

/// The same with their layers as they are in the archive. What is no name of an image names nothing.
pub(super) fn images_as_they_are(
    store: &Store,
    arrivals: &Arrivals,
    manifest: &[u8],
    archive: &str,
) -> Result<Vec<(Descriptor, Vec<ImageReference>)>, StoreError> {
    let mut images = Vec::new();
    for entry in entries(manifest, archive)? {
        let target = image(store, arrivals, &entry, archive, &mut |file, diff_id, what| {
            store.layer_as_it_is(file, diff_id, what)
        })?;
        let names = entry.repo_tags.iter().flatten();
        images.push((target, names.filter_map(|name| name.parse().ok()).collect()));
    }
    Ok(images)
}

fn entries(manifest: &[u8], archive: &str) -> Result<Vec<Entry>, StoreError> {
    let entries: Vec<Entry> = parse(manifest, &format!("manifest.json of {archive}"))?;
    if entries.len() > MAX_DOCKER_IMAGES {
        let reason = format!(
            "it holds {} images, more than the {MAX_DOCKER_IMAGES} that are accepted",
            entries.len()
        );
        return Err(StoreError::malformed(archive, reason));
    }
    Ok(entries)
}

/// Makes what a layer is of its file, given its digest, that of its tar stream, and what it is called in errors.
type LayerOf<'l> = dyn FnMut(&Digest, &Digest, &str) -> Result<Descriptor, StoreError> + 'l;

fn image(
    store: &Store,
    arrivals: &Arrivals,
    entry: &Entry,
    archive: &str,
    layer_of: &mut LayerOf<'_>,
) -> Result<Descriptor, StoreError> {
    let missing = |name: &str| StoreError::malformed(archive, format!("{name:?} is missing from it"));
    let config_digest = arrivals
        .file(&entry.config)
        .ok_or_else(|| missing(&entry.config))?;
    check_config_name(&entry.config, config_digest, archive)?;
    let what = format!("{} of {archive}", entry.config);
    let config_bytes = store.blobs().read(&config_digest, &what, MAX_CONFIG_LEN)?;
    let config: ImageConfig = parse(&config_bytes, &what)?;
    check_layer_count(
        entry.layers.len(),
        &config,
        &format!("image {} of {archive}", entry.config),
    )?;
    let mut layers = Vec::new();
    for (name, diff_id) in entry.layers.iter().zip(&config.rootfs.diff_ids) {
        let tar = arrivals.file(name).ok_or_else(|| missing(name))?;
        layers.push(layer_of(&tar, diff_id, &format!("layer {name} of {archive}"))?);
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: MEDIA_TYPE_MANIFEST.to_owned(),
        config: Descriptor {
            media_type: MEDIA_TYPE_CONFIG.to_owned(),
            digest: config_digest,
            size: config_bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        },
        layers,
        annotations: BTreeMap::new(),
    };
    store.put_manifest(&manifest)
}

/// A config is named by its digest; that is the only promise a docker archive makes about it.
fn check_config_name(name: &str, found: Digest, archive: &str) -> Result<(), StoreError> {
    let hex = name
        .strip_suffix(".json")
        .or_else(|| name.strip_prefix("sha256:"));
    match hex.and_then(|hex| Digest::from_hex(hex).ok()) {
        Some(expected) if expected != found => Err(StoreError::WrongDigest {
            what: format!("{name} of {archive}"),
            expected,
            found,
        }),
        _ => Ok(()),
    }
}
