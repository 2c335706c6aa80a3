//! This module owns writing docker archives, as `docker save` and `podman save` make them: `manifest.json`, configs, and
//! layers as plain tar files, named by their digests.
//!
//! Docker's form has no annotations: what an image launches is in its label alone, and its manifest is made anew by
//! whoever loads it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use gantry_model::ImageReference;
use serde::Serialize;

use super::SaveEvent;
use super::tar_stream::{TarStream, measure};
use crate::{Platform, Store, StoreError};

/// One entry of `manifest.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl Store {
    /// Writes the images as one docker archive: of images for several platforms the one for `platform`, without one
    /// that for this machine's. Everything is verified on its way out.
    ///
    /// # Errors
    /// When an image is not there or damaged, or `out` cannot be written. What was written so far is useless then.
    pub fn save_docker(
        &self,
        references: &[ImageReference],
        platform: Option<&Platform>,
        out: impl Write,
        event: &mut dyn FnMut(SaveEvent),
    ) -> Result<(), StoreError> {
        let _nothing_vanishes = self.share()?;
        let host = Platform::host();
        // One image with two names is one entry with two tags.
        let (mut entries, mut positions) = (Vec::<Entry>::new(), BTreeMap::new());
        let (mut content, mut written) = (TarStream::default(), BTreeSet::new());
        for reference in references {
            let image = self.image_for(reference, platform.unwrap_or(&host))?;
            // A name without a tag is none that docker would take.
            let tag = reference.tag().map(|tag| format!("{}:{tag}", reference.name()));
            if let Some(position) = positions.get(&image.manifest_digest) {
                let entry: &mut Entry = &mut entries[*position];
                entry.repo_tags.extend(tag);
                continue;
            }
            positions.insert(image.manifest_digest, entries.len());
            let config = format!("{}.json", image.config_digest.hex());
            if written.insert(config.clone()) {
                content.file(&config, image.config_bytes.clone());
            }
            let mut layers = Vec::new();
            for (layer, diff_id) in image.manifest()?.layers.iter().zip(&image.config.rootfs.diff_ids) {
                let name = format!("{}.tar", diff_id.hex());
                if written.insert(name.clone()) {
                    event(SaveEvent::Measuring {
                        layer: layer.digest,
                        size: layer.size,
                    });
                    content.layer(&name, measure(self, &layer.digest, diff_id)?);
                }
                layers.push(name);
            }
            entries.push(Entry {
                config,
                repo_tags: tag.into_iter().collect(),
                layers,
            });
        }
        let manifest = serde_json::to_vec(&entries).expect("a manifest is plain data");
        content.file("manifest.json", manifest);
        content.end();
        content.write(self, out, event)
    }
}
