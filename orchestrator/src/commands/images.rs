//! `gantry images`.

use gantry_model::ExitCode;
use gantry_store::{Image, Store};
use serde_json::json;

use crate::context::Context;
use crate::output::{self, OutputFormat, Table, bytes};

/// Flags of `gantry images`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Form of the list
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs `gantry images`.
///
/// # Errors
/// When the store cannot be read.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let images = store.images().map_err(super::store_error)?;
    let mut table = Table::new(["REPOSITORY", "TAG", "IMAGE ID", "PLATFORM", "CREATED", "SIZE"]);
    let mut list = Vec::new();
    let mut damaged = false;
    for (name, image) in images {
        let (repository, tag) = (name.name().to_owned(), name.tag().unwrap_or("-").to_owned());
        match image {
            Ok(image) => {
                table.row([
                    repository.clone(),
                    tag.clone(),
                    image.manifest_digest.short(),
                    platform(&image),
                    created(&image),
                    bytes(image.size()),
                ]);
                list.push(json!({
                    "repository": repository,
                    "tag": tag,
                    "digest": image.manifest_digest,
                    "platform": platform(&image),
                    "created": image.config.created,
                    "size": image.size(),
                    "layers": image.layers.iter().map(|layer| layer.digest).collect::<Vec<_>>(),
                }));
            }
            Err(error) => {
                damaged = true;
                anstream::eprintln!("warning: image {name}: {error}");
                table.row([
                    repository.clone(),
                    tag.clone(),
                    "damaged".into(),
                    "-".into(),
                    "-".into(),
                    "-".into(),
                ]);
                list.push(json!({ "repository": repository, "tag": tag, "damage": error.to_string() }));
            }
        }
    }
    match args.output {
        OutputFormat::Table => output::print(&table.render())?,
        OutputFormat::Json => output::print_json(&list)?,
    }
    Ok(if damaged {
        ExitCode::Verification
    } else {
        ExitCode::Done
    })
}

/// `linux/amd64`.
pub(super) fn platform(image: &Image) -> String {
    format!("{}/{}", image.config.os, image.config.architecture)
}

/// The day the image was made.
pub(super) fn created(image: &Image) -> String {
    day(image.config.created.as_deref())
}

/// The day of a time in RFC 3339; `-` where there is none, and for images that keep none, as reproducible ones do.
pub(super) fn day(time: Option<&str>) -> String {
    let time = time.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match time.filter(|time| time.as_second() > 0) {
        Some(time) => time.strftime("%Y-%m-%d").to_string(),
        None => "-".to_owned(),
    }
}
