//! Several images in, one out: the union of their layers, in order.

use std::collections::{BTreeMap, HashMap, HashSet};

use gantry_model::{Digest, ExitCode};
use gantry_store::manifest::{History, LABEL_COMMANDS, Manifest, RootFs, RunConfig};
use gantry_store::{Descriptor, Image, ImageConfig, NewImage};

use crate::exit::{OrExit as _, failure_hint};

/// The image that has everything of `images`. Layers that several have are taken once, at their first place. Of what several
/// say about one path, variable or label, the last counts. Commands are joined; one that an image before has is not repeated.
///
/// # Errors
/// When they are not for one platform, or a manifest is damaged.
pub fn merge(images: &[Image]) -> anyhow::Result<NewImage> {
    let mut union = Union::default();
    for image in images {
        if platform(image) != platform(&images[0]) {
            return Err(other_platform(&images[0], image));
        }
        union.add_layers(image)?;
        union.add_settings(image);
    }
    let (os, architecture, variant) = images.first().map_or_else(Default::default, platform);
    let mut labels = union.labels;
    labels.remove(LABEL_COMMANDS);
    if !union.commands.is_empty() {
        let commands = serde_json::to_string(&union.commands).expect("a list of texts has a JSON form");
        labels.insert(LABEL_COMMANDS.to_owned(), commands);
    }
    let config = ImageConfig {
        created: newest(images),
        architecture,
        os,
        variant,
        config: RunConfig {
            env: union.env,
            cmd: union.cmd,
            labels,
        },
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: union.diff_ids,
        },
        history: union.history,
    };
    Ok(NewImage {
        config,
        layers: union.layers,
    })
}

/// What the images so far have.
#[derive(Default)]
struct Union {
    /// As the manifests name them: a layer that arrived as gzip stays that.
    layers: Vec<Descriptor>,
    diff_ids: Vec<Digest>,
    history: Vec<History>,
    /// `NAME=VALUE`.
    env: Vec<String>,
    /// Name of a variable -> its place in the environment.
    places: HashMap<String, usize>,
    labels: BTreeMap<String, String>,
    commands: Vec<String>,
    cmd: Vec<String>,
}

impl Union {
    /// Layers that are new, with what is told of them; and what else is told that was not told before.
    fn add_layers(&mut self, image: &Image) -> anyhow::Result<()> {
        let manifest: Manifest =
            serde_json::from_slice(&image.manifest_bytes).or_exit(ExitCode::Verification)?;
        let known: HashSet<Digest> = self.diff_ids.iter().copied().collect();
        let notes = self.history.iter().filter(|entry| entry.empty_layer);
        let notes: HashSet<String> = notes.map(|entry| entry.created_by.clone()).collect();
        let mut layers = manifest.layers.into_iter().zip(&image.config.rootfs.diff_ids);
        for entry in &image.config.history {
            if entry.empty_layer {
                if !notes.contains(&entry.created_by) {
                    self.history.push(entry.clone());
                }
            } else if let Some((layer, diff_id)) = layers.next()
                && !known.contains(diff_id)
            {
                self.put(layer, *diff_id, entry.clone());
            }
        }
        // Images need not tell of their layers.
        for (layer, diff_id) in layers.filter(|(_, diff_id)| !known.contains(diff_id)) {
            self.put(layer, *diff_id, History::default());
        }
        Ok(())
    }

    fn put(&mut self, layer: Descriptor, diff_id: Digest, made_by: History) {
        self.layers.push(layer);
        self.diff_ids.push(diff_id);
        self.history.push(made_by);
    }

    fn add_settings(&mut self, image: &Image) {
        let settings = &image.config.config;
        for (name, value) in image.env() {
            let entry = format!("{name}={value}");
            match self.places.get(&name) {
                Some(place) => self.env[*place] = entry,
                None => {
                    self.places.insert(name, self.env.len());
                    self.env.push(entry);
                }
            }
        }
        self.labels.extend(settings.labels.clone());
        let before: HashSet<String> = self.commands.iter().cloned().collect();
        let more = image
            .commands()
            .into_iter()
            .filter(|command| !before.contains(command));
        self.commands.extend(more);
        if !settings.cmd.is_empty() {
            self.cmd.clone_from(&settings.cmd);
        }
    }
}

fn platform(image: &Image) -> (String, String, Option<String>) {
    let ImageConfig {
        os,
        architecture,
        variant,
        ..
    } = &image.config;
    (os.clone(), architecture.clone(), variant.clone())
}

fn other_platform(first: &Image, other: &Image) -> anyhow::Error {
    let said = |image: &Image| {
        let name = image
            .reference
            .as_ref()
            .map_or_else(|| image.manifest_digest.short(), ToString::to_string);
        let (os, architecture, variant) = platform(image);
        let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
        format!("{name} is for {os}/{architecture}{variant}")
    };
    failure_hint(
        ExitCode::Input,
        format!("{}, but {}", said(first), said(other)),
        "merge images for one platform; --platform chooses it where an image has several",
    )
}

/// The latest time at which one of them was made: the same images give the same digest at any hour.
fn newest(images: &[Image]) -> Option<String> {
    let times = images.iter().filter_map(|image| image.config.created.as_deref());
    times
        .filter_map(|text| text.parse::<jiff::Timestamp>().ok())
        .max()
        .map(|time| time.to_string())
}
