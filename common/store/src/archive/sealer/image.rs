//! This module owns how an image that sealer saved becomes one of this store: its document becomes a config and a
//! manifest, what it launches its extension.

use gantry_model::{Digest, ImageReference};
use serde_json::Value;

use super::document::{ImageDocument, Metadata, OneManifest, SaidPlatform};
use super::{IMAGE_METADATA, METADATA, Saved, YamlReader};
use crate::extension::{ANNOTATION_EXTENSION, Launch};
use crate::images::check_layer_count;
use crate::layer_import::layer_from_plain_tar;
use crate::manifest::{History, LABEL_COMMANDS, RootFs, RunConfig};
use crate::{Descriptor, Extension, ImageConfig, NewImage, Platform, Store, StoreError};

/// The images of a save file: for each its manifest or index in the store, and its name.
pub(in crate::archive) fn images(
    store: &Store,
    saved: &Saved,
    read_yaml: YamlReader,
    archive: &str,
) -> Result<Vec<(Descriptor, Vec<ImageReference>)>, StoreError> {
    let what = format!("{METADATA} of {archive}");
    let metadata = saved.metadata.as_deref().unwrap_or_default();
    let metadata = Metadata::read(metadata).map_err(|reason| StoreError::malformed(&what, reason))?;
    let making = Making {
        store,
        saved,
        read_yaml,
        archive,
    };
    let name = |text: &str| -> Result<ImageReference, StoreError> {
        text.parse()
            .map_err(|error| StoreError::malformed(&what, format!("its image name {error}")))
    };
    match metadata {
        Metadata::One(one) => {
            let (target, _) = making.image(IMAGE_METADATA, &SaidPlatform::default(), &one.created)?;
            Ok(vec![(target, vec![name(&one.name)?])])
        }
        Metadata::Named(named) => {
            let mut images = Vec::new();
            for (text, manifests) in named {
                images.push((making.named(&manifests.manifests)?, vec![name(&text)?]));
            }
            Ok(images)
        }
        Metadata::List(_) => Err(StoreError::malformed(
            what,
            "it names an image, and no image is there",
        )),
    }
}

/// The name of the image whose platforms are archives in the archive.
pub(in crate::archive) fn list_name(saved: &Saved, archive: &str) -> Result<ImageReference, StoreError> {
    let what = format!("{METADATA} of {archive}");
    match Metadata::read(saved.metadata.as_deref().unwrap_or_default()) {
        Ok(Metadata::List(name)) => {
            let name = name.parse();
            name.map_err(|error| StoreError::malformed(what, format!("its image name {error}")))
        }
        _ => Err(StoreError::malformed(
            what,
            "beside archives it is the name of an image, and nothing else",
        )),
    }
}

struct Making<'a> {
    store: &'a Store,
    saved: &'a Saved,
    read_yaml: YamlReader,
    archive: &'a str,
}

impl Making<'_> {
    /// The images of one name: an index, if they are several.
    fn named(&self, manifests: &[OneManifest]) -> Result<Descriptor, StoreError> {
        if manifests.is_empty() {
            return Err(StoreError::malformed(
                self.archive,
                "there is no image under a name of it",
            ));
        }
        let mut made = Vec::new();
        for one in manifests {
            let hex = one.id.strip_prefix("sha256:").unwrap_or(&one.id);
            let (target, platform) = self.image(&format!("{hex}.yaml"), &one.platform, &one.created)?;
            made.push(Descriptor {
                platform: Some(platform),
                ..target
            });
        }
        if made.len() == 1 {
            let only = made.remove(0);
            return Ok(Descriptor {
                platform: None,
                ..only
            });
        }
        self.store.put_index(made)
    }

    fn image(
        &self,
        document: &str,
        said: &SaidPlatform,
        created: &str,
    ) -> Result<(Descriptor, Platform), StoreError> {
        let what = format!("{document} of {}", self.archive);
        let document = self.read(document, &what)?;
        let platform = platform(&document.spec.platform, said);
        let (mut layers, mut diff_ids, mut history) = (Vec::new(), Vec::new(), Vec::new());
        for directive in &document.spec.layers {
            history.push(History {
                created: None,
                created_by: format!("{} {}", directive.kind, directive.value),
                empty_layer: directive.id.is_empty(),
            });
            if !directive.id.is_empty() {
                let (layer, diff_id) = self.layer(&directive.id, &what)?;
                layers.push(layer);
                diff_ids.push(diff_id);
            }
        }
        let commands = commands(&document);
        let mut config = ImageConfig {
            created: is_time(created).then(|| created.to_owned()),
            author: None,
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            config: run_config(&document),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids,
            },
            history,
        };
        let mut annotations = document.metadata.annotations.clone();
        if !commands.is_empty() || !document.spec.image_config.image_type.is_empty() {
            let lines = serde_json::to_string(&commands).expect("lines are plain data");
            config.config.labels.insert(LABEL_COMMANDS.to_owned(), lines);
            annotations.insert(
                ANNOTATION_EXTENSION.to_owned(),
                extension(&document, commands).to_annotation(),
            );
        }
        check_layer_count(layers.len(), &config, &what)?;
        let image = NewImage {
            config,
            layers,
            annotations,
        };
        Ok((self.store.put_image(&image, &what)?, platform))
    }

    fn read(&self, document: &str, what: &str) -> Result<ImageDocument, StoreError> {
        let Some(bytes) = self.saved.documents.get(document) else {
            return Err(StoreError::CutShort {
                what: self.archive.to_owned(),
                reason: format!("{document} is missing"),
            });
        };
        let text = std::str::from_utf8(bytes).map_err(|_| StoreError::malformed(what, "it is no text"))?;
        let value: Result<Value, String> = (self.read_yaml)(text);
        let read = value.and_then(|value| serde_json::from_value(value).map_err(|error| error.to_string()));
        read.map_err(|reason| StoreError::malformed(what, reason))
    }

    fn layer(&self, id: &str, what: &str) -> Result<(Descriptor, Digest), StoreError> {
        let hex = id.strip_prefix("sha256:").unwrap_or(id);
        let digest = Digest::from_hex(hex)
            .map_err(|_| StoreError::malformed(what, format!("{id:?} is no id of a layer")))?;
        let layer = match self.saved.layers.get(&digest) {
            Some(layer) => layer.clone(),
            // A folder with nothing in it is a layer with nothing in it.
            None if self.saved.folders.contains(&digest) => {
                layer_from_plain_tar(self.store, &mut &[0; 1024][..])
                    .map_err(StoreError::layer(format!("layer {hex}")))?
            }
            None => {
                return Err(StoreError::CutShort {
                    what: self.archive.to_owned(),
                    reason: format!("layer {hex} is missing"),
                });
            }
        };
        Ok((Descriptor::of_chunked_layer(&layer), layer.diff_id))
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
