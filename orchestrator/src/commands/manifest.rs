//! `gantry manifest`: images for several platforms under one name.

use gantry_model::{ExitCode, ImageReference};
use gantry_store::{Descriptor, Platform, Store, StoreError};

use crate::context::Context;
use crate::exit::{OrExit as _, failure_hint};
use crate::output::{self, OutputFormat, Table, bytes};

use super::{image_signing, push};

/// Flags of `gantry manifest`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gantry manifest create kubernetes:v1.31.4 kubernetes:amd64 kubernetes:arm64
  gantry manifest inspect kubernetes:v1.31.4
  gantry manifest push kubernetes:v1.31.4 sea.hub:5000/kubernetes:v1.31.4
`gantry rmi NAME` takes the name away again.")]
pub struct Args {
    #[command(subcommand)]
    command: ManifestCommand,
}

const PUSH_EXAMPLES: &str = "\
Examples:
  gantry manifest push sea.hub:5000/kubernetes:v1.31.4
  gantry manifest push kubernetes:v1.31.4 sea.hub:5000/team/kubernetes:v1.31.4    under another name";

#[derive(Debug, clap::Subcommand)]
enum ManifestCommand {
    /// Put images for several platforms together under a new name
    Create(ImagesArgs),
    /// Add images for further platforms
    Add(ImagesArgs),
    /// Take the image for a platform out
    Remove(RemoveArgs),
    /// Show for which platforms there are images
    Inspect(InspectArgs),
    /// Send it to a registry, with the images for all platforms
    #[command(after_help = PUSH_EXAMPLES)]
    Push(push::Args),
}

#[derive(Debug, clap::Args)]
struct ImagesArgs {
    /// Name of the whole
    name: ImageReference,

    /// Names or ids of the images; of one for several platforms all are taken
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// Name of the whole
    name: String,

    /// OS/ARCH[/VARIANT]
    #[arg(value_parser = crate::build::platform::parse)]
    platform: Platform,
}

#[derive(Debug, clap::Args)]
struct InspectArgs {
    /// Name or id of the image
    name: String,

    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: OutputFormat,
}

/// Runs `gantry manifest`.
///
/// # Errors
/// When there is no such image, two are for one platform, or the store cannot be written.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    if let ManifestCommand::Push(args) = args.command {
        return push::run(args, context);
    }
    let store = Store::open(context.root()).map_err(super::store_error)?;
    match args.command {
        ManifestCommand::Create(args) => {
            if store.target(&args.name).is_ok() {
                return Err(failure_hint(
                    ExitCode::Input,
                    format!("there is an image {} already", args.name),
                    "`gantry manifest add` adds platforms to it, `gantry rmi` takes the name away",
                ));
            }
            let hint = "name one image for each platform";
            put_together(&store, &args.name, entries(&store, &args.images)?, hint)?;
            image_signing::sign_renamed(&store, &args.name, context)?;
        }
        ManifestCommand::Add(args) => {
            let before = store.platforms(&args.name).map_err(super::store_error)?;
            let hint = format!(
                "`gantry manifest remove {} PLATFORM` takes that one out",
                args.name
            );
            put_together(
                &store,
                &args.name,
                [before, entries(&store, &args.images)?].concat(),
                &hint,
            )?;
            image_signing::sign_renamed(&store, &args.name, context)?;
        }
        ManifestCommand::Remove(args) => {
            let name = store.find_name(&args.name).map_err(super::store_error)?;
            let left = without(&store, &name, &args.platform)?;
            set(&store, &name, left)?;
            image_signing::sign_renamed(&store, &name, context)?;
        }
        ManifestCommand::Inspect(args) => inspect(&store, &args)?,
        ManifestCommand::Push(_) => {}
    }
    Ok(ExitCode::Done)
}

fn entries(store: &Store, images: &[String]) -> anyhow::Result<Vec<Descriptor>> {
    let mut entries = Vec::new();
    for image in images {
        let name = store.find_name(image).map_err(super::store_error)?;
        entries.extend(store.platforms(&name).map_err(super::store_error)?);
    }
    Ok(entries)
}

/// What `name` leads to besides the image for `platform`.
///
/// # Errors
/// When it leads to none for it.
pub(super) fn without(
    store: &Store,
    name: &ImageReference,
    platform: &Platform,
) -> anyhow::Result<Vec<Descriptor>> {
    let before = store.platforms(name).map_err(super::store_error)?;
    let is_other = |entry: &&Descriptor| entry.platform.as_ref() != Some(platform);
    let left: Vec<_> = before.iter().filter(is_other).cloned().collect();
    if left.len() == before.len() {
        return Err(failure_hint(
            ExitCode::Input,
            format!("image {name} has none for {platform}"),
            format!("`gantry manifest inspect {name}` lists its platforms"),
        ));
    }
    Ok(left)
}

/// Makes `name` lead to the images of `entries`, and prints that.
///
/// # Errors
/// When the store cannot be written.
pub(super) fn set(store: &Store, name: &ImageReference, entries: Vec<Descriptor>) -> anyhow::Result<()> {
    let digest = store.set_platforms(name, entries).map_err(super::store_error)?;
    output::print(&format!("{name}@{digest}\n"))
}

/// As [`set`]; `hint` is what to do when two images are for one platform.
fn put_together(
    store: &Store,
    name: &ImageReference,
    entries: Vec<Descriptor>,
    hint: &str,
) -> anyhow::Result<()> {
    let digest = match store.set_platforms(name, entries) {
        Err(error @ StoreError::TwoForPlatform { .. }) => Err(error).or_exit_hint(ExitCode::Input, hint),
        put => put.map_err(super::store_error),
    }?;
    output::print(&format!("{name}@{digest}\n"))
}

fn inspect(store: &Store, args: &InspectArgs) -> anyhow::Result<()> {
    let name = store.find_name(&args.name).map_err(super::store_error)?;
    let entries = store.platforms(&name).map_err(super::store_error)?;
    if args.output == OutputFormat::Json {
        return output::print_json(&entries);
    }
    let mut table = Table::new(["PLATFORM", "DIGEST", "SIZE", "HERE"]);
    for entry in entries.iter().filter(|entry| entry.is_image()) {
        let image = store.image_by_digest(&entry.digest).ok();
        table.row([
            entry
                .platform
                .as_ref()
                .map_or("-".to_owned(), ToString::to_string),
            entry.digest.to_string(),
            image.as_ref().map_or("-".to_owned(), |image| bytes(image.size())),
            if image.is_some() { "yes" } else { "no" }.to_owned(),
        ]);
    }
    output::print(&table.render())
}
