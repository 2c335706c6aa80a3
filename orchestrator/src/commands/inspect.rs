//! `gantry inspect`.
//!
//! The layers are unpacked here, not by `build` or `load`: whoever wants to look into `data/overlay2/<layer-id>` asks
//! for the layer ids first, and nobody else pays for a second copy of the rootfs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Context as _;
use gantry_model::ExitCode;
use gantry_store::{Application, Image, Store};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::OrExit as _;
use crate::output::{self, OutputFormat, Table, bytes};
use crate::report::printable;

use super::image_trust;
use super::images::{created, platform};
use super::rootfs::PlatformArgs;
use super::transports;

/// Flags of `gantry inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Templates have Go's functions, and json, join, split, lower, upper. Nothing is unpacked for them.

Examples:
  gantry inspect kubernetes:v1.31.4
  gantry inspect -f '{{.Digest}} {{.Architecture}}' kubernetes:v1.31.4
  gantry inspect -f '{{range .Layers}}{{println .}}{{end}}' kubernetes:v1.31.4
  gantry inspect -f '{{json .Config.Labels}}' kubernetes:v1.31.4")]
pub struct Args {
    /// Name or id of the image
    #[arg(value_parser = transports::in_store)]
    image: String,

    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: OutputFormat,

    /// Go template over the fields that docker, podman and skopeo know; `json` shows all of them
    #[arg(short, long, value_name = "TEMPLATE", conflicts_with = "output")]
    format: Option<String>,

    /// Do not unpack the layers to look into them
    #[arg(long)]
    no_unpack: bool,

    #[command(flatten)]
    platform: PlatformArgs,
}

/// Runs `gantry inspect`.
///
/// # Errors
/// When there is no such image, or it is damaged.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let _nothing_vanishes = store.share().map_err(super::store_error)?;
    let image = args.platform.find(&store, &args.image)?;
    if let Some(name) = &image.reference {
        image_trust::warn_of_damage(&store, name).map_err(super::store_error)?;
    }
    if let Some(format) = &args.format {
        let fields = fields(&image, &store)?;
        if format == "json" {
            output::print_json(&fields)?;
            return Ok(ExitCode::Done);
        }
        let rendered = gantry_template::render_document(format, &fields)
            .context("the template of --format cannot be rendered")
            .or_exit_hint(
                ExitCode::Input,
                format!("`gantry inspect -f json {}` shows every field", args.image),
            )?;
        output::print(&format!("{rendered}\n"))?;
        return Ok(ExitCode::Done);
    }
    if !args.no_unpack {
        for layer in image
            .layers
            .iter()
            .filter(|layer| !store.has_layer(&layer.digest))
        {
            // Everything but the path to look at is known without it.
            if let Err(error) = store.unpack_layer(layer) {
                let error = anyhow::Error::from(error);
                anstream::eprintln!(
                    "warning: layer {} is not unpacked: {error:#}",
                    layer.digest.short()
                );
            }
        }
    }
    match args.output {
        OutputFormat::Table => output::print(&table(&image, &store)?)?,
        OutputFormat::Json => output::print_json(&document(&image, &store)?)?,
    }
    Ok(ExitCode::Done)
}

fn table(image: &Image, store: &Store) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {}", printable(value.as_bytes()));
    };
    line(
        "Name",
        &image
            .reference
            .as_ref()
            .map_or("-".to_owned(), ToString::to_string),
    );
    line("Digest", &image.manifest_digest.to_string());
    line("Config", &image.config_digest.to_string());
    line("Platform", &platform(image));
    line("Created", &created(image));
    line("Size", &bytes(image.size()));
    for identity in signed_as(image, store)? {
        line("Signed as", &format!("{identity} (`gantry verify` says by whom)"));
    }
    for (name, value) in &image.config.config.labels {
        line("Label", &format!("{name}={value}"));
    }
    for entry in &image.config.config.env {
        line("Env", entry);
    }
    for application in applications(image)? {
        let kind = if application.kind.is_empty() {
            "-"
        } else {
            &application.kind
        };
        line("App", &format!("{} ({kind})", application.name));
    }
    for command in image.commands().map_err(super::store_error)? {
        line("Command", &command);
    }
    text.push('\n');
    let mut table = Table::new(["LAYER ID", "SIZE", "MADE BY"]);
    let made_by: Vec<&str> = image
        .config
        .history
        .iter()
        .filter(|entry| !entry.empty_layer)
        .map(|entry| entry.created_by.as_str())
        .collect();
    for (position, layer) in image.layers.iter().enumerate() {
        let made_by: String = made_by
            .get(position)
            .copied()
            .unwrap_or("-")
            .chars()
            .take(60)
            .collect();
        table.row([
            layer.digest.hex(),
            bytes(layer.size),
            printable(made_by.as_bytes()),
        ]);
    }
    text.push_str(&table.render());
    if image.layers.iter().any(|layer| store.has_layer(&layer.digest)) {
        let _ = writeln!(text, "\nUnpacked in {}", store.overlay2_dir().display());
    }
    Ok(text)
}

fn signed_as(image: &Image, store: &Store) -> anyhow::Result<Vec<String>> {
    image_trust::signed_as(store, image.reference.as_ref(), &image.manifest_digest)
        .map_err(super::store_error)
}

fn applications(image: &Image) -> anyhow::Result<Vec<Application>> {
    let extension = image.extension().map_err(super::store_error)?;
    Ok(extension
        .map(|extension| extension.applications)
        .unwrap_or_default())
}

/// The fields of `--format`, called as docker, podman, skopeo and sealer call them. One that an image says nothing for is empty, as it is
/// there: whoever asks for it makes no mistake.
fn fields(image: &Image, store: &Store) -> anyhow::Result<Value> {
    let config: Value = serde_json::from_slice(&image.config_bytes)?;
    let layers: Vec<_> = image.layers.iter().map(|layer| layer.digest).collect();
    // Names that lead elsewhere, or to what is damaged, are not this image's.
    let names = store.images().map_err(super::store_error)?.into_iter();
    let names: Vec<_> = names
        .filter(|(_, other)| matches!(other, Ok(other) if other.manifest_digest == image.manifest_digest))
        .map(|(name, _)| name)
        .collect();
    let mut digests = BTreeSet::new();
    for name in &names {
        let target = store.target(name).map_err(super::store_error)?.digest;
        digests.extend([target, image.manifest_digest].map(|digest| format!("{}@{digest}", name.name())));
    }
    let container_images = image.container_images().map_err(super::store_error)?;
    let extension = image.extension().map_err(super::store_error)?;
    Ok(json!({
        "Id": image.config_digest.hex(),
        "ID": image.config_digest.hex(),
        "Name": image.reference,
        "Digest": image.manifest_digest,
        "RepoTags": names,
        "RepoDigests": digests,
        "Created": image.config.created.as_deref().unwrap_or_default(),
        "Author": image.config.author.as_deref().unwrap_or_default(),
        "Architecture": image.config.architecture,
        "Os": image.config.os,
        "Variant": image.config.variant.as_deref().unwrap_or_default(),
        "Size": image.size(),
        "Labels": image.config.config.labels,
        "Env": image.config.config.env,
        "Commands": image.commands().map_err(super::store_error)?,
        "Applications": applications(image)?,
        "SignedAs": signed_as(image, store)?,
        "ImageExtension": extension.map_or_else(|| json!({}), |extension| json!(extension)),
        "ContainerImages": container_images,
        "ContainerImageList": container_images,
        "Annotations": image.manifest().map_err(super::store_error)?.annotations,
        "Layers": layers,
        "Config": run_config(config.get("config")),
        "RootFS": { "Type": "layers", "Layers": image.config.rootfs.diff_ids },
        "History": config.get("history").cloned().unwrap_or_else(|| json!([])),
        "Manifest": serde_json::from_slice::<Value>(&image.manifest_bytes)?,
    }))
}

/// What an image's config says of its containers, with every field of the specification (OCI image-spec, "Image Configuration").
fn run_config(said: Option<&Value>) -> Value {
    let mut all = json!({
        "User": "",
        "ExposedPorts": {},
        "Env": [],
        "Entrypoint": [],
        "Cmd": [],
        "Volumes": {},
        "WorkingDir": "",
        "Labels": {},
        "StopSignal": "",
    });
    for (name, value) in said.and_then(Value::as_object).into_iter().flatten() {
        if !value.is_null() {
            all[name] = value.clone();
        }
    }
    all
}

fn document(image: &Image, store: &Store) -> anyhow::Result<Value> {
    let layers: Vec<Value> = image
        .layers
        .iter()
        .map(|layer| {
            let path = store
                .has_layer(&layer.digest)
                .then(|| store.layer_dir(&layer.digest));
            json!({
                "id": layer.digest.hex(),
                "digest": layer.digest,
                "size": layer.size,
                "diff_id": layer.diff_id,
                "path": path,
            })
        })
        .collect();
    Ok(json!({
        "name": image.reference,
        "digest": image.manifest_digest,
        "platform": platform(image),
        "created": image.config.created,
        "size": image.size(),
        "labels": image.config.config.labels,
        "env": image.config.config.env,
        "commands": image.commands().map_err(super::store_error)?,
        "applications": applications(image)?,
        "signedAs": signed_as(image, store)?,
        "layers": layers,
        "manifest": serde_json::from_slice::<Value>(&image.manifest_bytes)?,
        "config": serde_json::from_slice::<Value>(&image.config_bytes)?,
    }))
}
