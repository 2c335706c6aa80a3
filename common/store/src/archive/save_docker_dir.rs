//! This module owns writing one image into a folder in docker's form: what skopeo calls `dir:`, and sealer and podman `docker-dir`
//! (containers/image, "Directory Transport").
//!
//! The manifest changes last. So a folder that was cut off is no image yet, and goes on from there.

use std::fs;
use std::io;
use std::path::Path;

use gantry_model::{Digest, ImageReference};
use gantry_system::files::{sync_dir, write_atomically};
use serde_json::json;

use super::folder::is_directory_transport;
use super::save_folder::{is_whole, write_verified};
use super::tar_stream::{LayerTar, measure, open_layer};
use super::{DIRECTORY_MANIFEST, DIRECTORY_VERSION, DIRECTORY_VERSION_FILE, SaveEvent};
use crate::manifest::MEDIA_TYPE_DOCKER_MANIFEST;
use crate::{Platform, Store, StoreError};

/// Docker's config of an image (distribution, "Image Manifest Version 2, Schema 2").
const MEDIA_TYPE_DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's layer that is not compressed. It knows gzip beside it, and not zstd.
const MEDIA_TYPE_DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

impl Store {
    /// Writes the image into the folder `dir`, which is made if need be: of an image for several platforms the one for `platform`,
    /// without one that for this machine's. What a folder of this form held before goes.
    ///
    /// # Errors
    /// When the image is not there or damaged, `dir` holds something else, or cannot be written.
    pub fn save_docker_dir(
        &self,
        reference: &ImageReference,
        platform: Option<&Platform>,
        dir: &Path,
        event: &mut dyn FnMut(SaveEvent),
    ) -> Result<(), StoreError> {
        let _nothing_vanishes = self.share()?;
        let image = self.image_for(reference, platform.unwrap_or(&Platform::host()))?;
        begin(dir)?;
        let mut layers = Vec::new();
        for (layer, diff_id) in image.manifest()?.layers.iter().zip(&image.config.rootfs.diff_ids) {
            event(SaveEvent::Measuring {
                layer: layer.digest,
                size: layer.size,
            });
            layers.push(measure(self, &layer.digest, diff_id)?);
        }
        let config = image.config_bytes.len() as u64;
        let total = config + layers.iter().map(|layer| layer.size).sum::<u64>();
        event(SaveEvent::Planned { total });
        for layer in &layers {
            self.write_layer(layer, dir, event)?;
        }
        write_file(&dir.join(image.config_digest.hex()), &image.config_bytes)?;
        event(SaveEvent::Written { len: config });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE_DOCKER_MANIFEST,
            "config": {
                "mediaType": MEDIA_TYPE_DOCKER_CONFIG,
                "size": config,
                "digest": image.config_digest,
            },
            "layers": layers.iter().map(|layer| json!({
                "mediaType": MEDIA_TYPE_DOCKER_LAYER,
                "size": layer.size,
                "digest": layer.diff_id,
            })).collect::<Vec<_>>(),
        });
        let manifest = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
        write_file(&dir.join(DIRECTORY_MANIFEST), &manifest)?;
        let kept = layers.iter().map(|layer| &layer.diff_id);
        remove_others(
            dir,
            &kept.chain([&image.config_digest]).copied().collect::<Vec<_>>(),
        )?;
        sync_dir(dir).map_err(StoreError::io("sync", dir))
    }

    /// Writes the tar stream of a layer, unless a whole one is there.
    fn write_layer(
        &self,
        layer: &LayerTar,
        dir: &Path,
        event: &mut dyn FnMut(SaveEvent),
    ) -> Result<(), StoreError> {
        let path = dir.join(layer.diff_id.hex());
        if is_whole(&path, &layer.diff_id, layer.size) {
            event(SaveEvent::Written { len: layer.size });
            return Ok(());
        }
        let what = format!("tar stream of layer {}", layer.blob);
        let stream = open_layer(self, &layer.blob, &what)?;
        write_verified(&path, stream, &layer.diff_id, layer.size, &what, event)
    }
}

/// Makes the folder one of this form, if it is none. It is no image until its manifest is there.
fn begin(dir: &Path) -> Result<(), StoreError> {
    let empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(source) => return Err(StoreError::io("list", dir)(source)),
    };
    let version = dir.join(DIRECTORY_VERSION_FILE);
    if !empty && !is_directory_transport(dir)? {
        let reason = "it is not empty, and no folder of an image in docker's form; name another folder";
        return Err(StoreError::malformed(dir.display().to_string(), reason));
    }
    fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
    write_file(&version, format!("{DIRECTORY_VERSION}1\n").as_bytes())?;
    let manifest = dir.join(DIRECTORY_MANIFEST);
    match fs::remove_file(&manifest) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", manifest)(source))
        }
        _ => Ok(()),
    }
}

/// Removes the blobs of an image that was here before, and what others wrote about it.
fn remove_others(dir: &Path, kept: &[Digest]) -> Result<(), StoreError> {
    let entries = fs::read_dir(dir).map_err(StoreError::io("list", dir))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let of_others = [".partial", ".manifest.json"]
            .into_iter()
            .find_map(|ending| name.strip_suffix(ending));
        let blob = Digest::from_hex(of_others.unwrap_or(&name));
        let is_signature = name
            .strip_prefix("signature-")
            .is_some_and(|number| number.parse::<u32>().is_ok());
        if is_signature || blob.is_ok_and(|digest| of_others.is_some() || !kept.contains(&digest)) {
            fs::remove_file(entry.path()).map_err(StoreError::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_atomically(path, bytes, 0o644).map_err(StoreError::io("write", path))
}
