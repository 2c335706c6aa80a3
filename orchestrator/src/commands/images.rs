//! `gantry images`.

use gantry_model::ExitCode;
use gantry_store::{Image, Store};
use serde_json::json;

use crate::context::Context;
use crate::output::{self, OutputFormat, Table};

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
                    size(image.size()),
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

/// The day the image was made; `-` for images that keep none, as reproducible ones do.
pub(super) fn created(image: &Image) -> String {
    let created = image
        .config
        .created
        .as_deref()
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match created.filter(|created| created.as_second() > 0) {
        Some(created) => created.strftime("%Y-%m-%d").to_string(),
        None => "-".to_owned(),
    }
}

/// Bytes for people: `375.2 MB`, in powers of 1,000 as disks and registries count.
pub(super) fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit < units.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (375_249_000, "375.2 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
