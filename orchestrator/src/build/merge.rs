//! Several images in, one out: the union of their layers, in order.

use std::collections::{BTreeMap, HashMap, HashSet};

use gantry_model::{Digest, ExitCode};
use gantry_store::manifest::{History, RootFs, RunConfig};
use gantry_store::{
    ContainerImage, Descriptor, Extension, Image, ImageConfig, LaunchItem, NewImage, StoreError,
};

use super::assemble::describe;
use crate::exit::{OrExit as _, failure, failure_hint};

/// The image that has everything of `images`. Layers that several have are taken once, at their first place. Of what several
/// say about one path, variable, label, annotation or application, the last counts. What they launch is joined; what an image
/// before launches is not repeated.
///
/// # Errors
/// When they are not for one platform, or a manifest is damaged.
pub fn merge(images: &[Image]) -> anyhow::Result<NewImage> {
    let mut union = Union::default();
    for image in images {
        if platform(image) != platform(&images[0]) {
            return Err(other_platform(&images[0], image));
        }
        union
            .add(image)
            .map_err(|error| (error.exit_code(), error))
            .or_else(|(code, error)| Err(error).or_exit(code))?;
    }
    let (os, architecture, variant) = images.first().map_or_else(Default::default, platform);
    let mut settings = RunConfig {
        env: union.env,
        cmd: union.cmd,
        labels: union.labels,
    };
    let mut annotations = union.annotations;
    let mut extension = union.extension.unwrap_or_default();
    extension
        .set_launched(&union.launched)
        .and_then(|()| {
            describe(
                &mut settings,
                &mut annotations,
                extension,
                &union.container_images,
            )
        })
        .map_err(|error| failure(ExitCode::Input, format!("the images cannot be merged: {error}")))?;
    let config = ImageConfig {
        created: newest(images),
        author: images.iter().rev().find_map(|image| image.config.author.clone()),
        architecture,
        os,
        variant,
        config: settings,
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: union.diff_ids,
        },
        history: union.history,
    };
    Ok(NewImage {
        config,
        layers: union.layers,
        annotations,
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
    cmd: Vec<String>,
    annotations: BTreeMap<String, String>,
    /// With the applications of all.
    extension: Option<Extension>,
    launched: Vec<LaunchItem>,
    container_images: Vec<ContainerImage>,
}

impl Union {
    fn add(&mut self, image: &Image) -> Result<(), StoreError> {
        let manifest = image.manifest()?;
        self.annotations.extend(manifest.annotations);
        self.add_layers(manifest.layers, image);
        self.add_settings(image);
        self.add_launched(image)?;
        for brought in image.container_images()? {
            if !self.container_images.contains(&brought) {
                self.container_images.push(brought);
            }
        }
        Ok(())
    }

    /// Layers that are new, with what is told of them; and what else is told that was not told before.
    fn add_layers(&mut self, layers: Vec<Descriptor>, image: &Image) {
        let known: HashSet<Digest> = self.diff_ids.iter().copied().collect();
        let notes = self.history.iter().filter(|entry| entry.empty_layer);
        let notes: HashSet<String> = notes.map(|entry| entry.created_by.clone()).collect();
        let mut layers = layers.into_iter().zip(&image.config.rootfs.diff_ids);
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
        if !settings.cmd.is_empty() {
            self.cmd.clone_from(&settings.cmd);
        }
    }

    /// Its applications and what it launches.
    fn add_launched(&mut self, image: &Image) -> Result<(), StoreError> {
        let launched = match image.extension()? {
            None => image.commands()?.into_iter().map(LaunchItem::Line).collect(),
            Some(mut extension) => {
                let launched = extension.launched();
                extension.build_client = Default::default();
                let before = self.extension.take().unwrap_or_default();
                let mut applications = before.applications;
                for application in std::mem::take(&mut extension.applications) {
                    match applications
                        .iter_mut()
                        .find(|known| known.name == application.name)
                    {
                        Some(known) => *known = application,
                        None => applications.push(application),
                    }
                }
                let mut env = before.env;
                env.append(&mut extension.env);
                let mut other = before.other;
                other.append(&mut extension.other);
                self.extension = Some(Extension {
                    applications,
                    env,
                    other,
                    ..extension
                });
                launched
            }
        };
        let known: Vec<LaunchItem> = launched
            .into_iter()
            .filter(|item| !self.launched.contains(item))
            .collect();
        self.launched.extend(known);
        Ok(())
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
