//! This module owns how an image of sealer before 0.9 becomes one of this store: its document becomes a config, what it
//! launches its extension.

use gantry_model::Digest;

use super::document::{ImageDocument, SaidPlatform};
use crate::extension::{ANNOTATION_EXTENSION, Launch};
use crate::manifest::{History, LABEL_COMMANDS, RootFs, RunConfig};
use crate::{Descriptor, Extension, ImageConfig, NewImage, Platform};

impl ImageDocument {
    /// Ids of the layers, bottom first. Directives that made no layer have none.
    pub(crate) fn layer_ids(&self) -> impl Iterator<Item = &str> {
        let ids = self.spec.layers.iter().map(|directive| directive.id.as_str());
        ids.filter(|id| !id.is_empty())
    }

    /// The image with these layers, one for each id; with each what its tar stream's digest is. `said` and `created` are what
    /// was said about it elsewhere.
    pub(crate) fn image(
        &self,
        layers: Vec<(Descriptor, Digest)>,
        said: &SaidPlatform,
        created: &str,
    ) -> NewImage {
        let platform = platform(&self.spec.platform, said);
        let (layers, diff_ids) = layers.into_iter().unzip();
        let commands = commands(self);
        let history = self.spec.layers.iter().map(|directive| History {
            created: None,
            created_by: format!("{} {}", directive.kind, directive.value),
            empty_layer: directive.id.is_empty(),
        });
        let mut config = ImageConfig {
            created: is_time(created).then(|| created.to_owned()),
            author: None,
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            config: run_config(self),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids,
            },
            history: history.collect(),
        };
        let mut annotations = self.metadata.annotations.clone();
        if !commands.is_empty() || !self.spec.image_config.image_type.is_empty() {
            let lines = serde_json::to_string(&commands).expect("lines are plain data");
            config.config.labels.insert(LABEL_COMMANDS.to_owned(), lines);
            annotations.insert(
                ANNOTATION_EXTENSION.to_owned(),
                extension(self, commands).to_annotation(),
            );
        }
        NewImage {
            config,
            layers,
            annotations,
        }
    }
}

/// What the image's own document says counts; before 0.8 there was only one platform, and it was not always said.
fn platform(own: &SaidPlatform, said: &SaidPlatform) -> Platform {
    let first = |own: &str, said: &str, otherwise: &str| {
        let known = [own, said, otherwise].into_iter().find(|text| !text.is_empty());
        known.unwrap_or_default().to_owned()
    };
    let variant = first(&own.variant, &said.variant, "");
    Platform {
        architecture: first(&own.architecture, &said.architecture, "amd64"),
        os: first(&own.os, &said.os, "linux"),
        variant: (!variant.is_empty()).then_some(variant),
    }
}

/// Lines that run when the cluster is up: of the base image, then its own. Before 0.6 they were directives among others.
fn commands(document: &ImageDocument) -> Vec<String> {
    let said = &document.spec.image_config.cmd;
    let lines: Vec<String> = said.parent.iter().chain(&said.current).cloned().collect();
    if !lines.is_empty() {
        return lines;
    }
    let directives = document.spec.layers.iter();
    directives
        .filter(|layer| layer.kind == "CMD")
        .map(|layer| layer.value.clone())
        .collect()
}

/// Values of `ARG` are what commands find as `${NAME}`: so they are environment.
fn run_config(document: &ImageDocument) -> RunConfig {
    let settings = &document.spec.image_config;
    let mut env = settings.args.parent.clone();
    env.extend(settings.args.current.clone());
    RunConfig {
        env: env
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        cmd: Vec::new(),
        labels: settings.labels.clone(),
    }
}

fn extension(document: &ImageDocument, cmds: Vec<String>) -> Extension {
    let mut extension = Extension {
        launch: Launch {
            cmds,
            app_names: Vec::new(),
        },
        labels: document.spec.image_config.labels.clone(),
        ..Extension::default()
    };
    extension
        .build_client
        .sealer_version
        .clone_from(&document.spec.sealer_version);
    if document.spec.image_config.image_type == "application" {
        "app-installer".clone_into(&mut extension.kind);
    }
    extension
}

/// Whether it looks like a time of RFC 3339.
fn is_time(text: &str) -> bool {
    let shape = text.len() <= 40 && text.len() >= 20 && text.as_bytes()[10] == b'T';
    shape
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-:.+".contains(&byte))
}
