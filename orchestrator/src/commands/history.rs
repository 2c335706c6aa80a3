//! `gantry history`: how an image was made.

use gantry_model::{ExitCode, LayerDescriptor};
use gantry_store::{Image, Store};
use serde_json::json;

use super::images::day;
use super::rootfs::PlatformArgs;
use crate::context::Context;
use crate::output::{self, OutputFormat, Table, bytes};
use crate::report::printable;

/// Most characters of a directive in the table.
const SHOWN: usize = 90;

/// Flags of `gantry history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  gantry history kubernetes:v1.31.4")]
pub struct Args {
    /// Name or id of the image
    image: String,

    /// Whole directives, however long
    #[arg(long)]
    no_trunc: bool,

    /// Form of the list
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: OutputFormat,

    #[command(flatten)]
    platform: PlatformArgs,
}

/// What one directive made.
#[derive(Debug, PartialEq, Eq)]
struct Made<'i> {
    created: Option<&'i str>,
    by: &'i str,
    layer: Option<&'i LayerDescriptor>,
}

/// Runs `gantry history`.
///
/// # Errors
/// When there is no such image, or it is damaged.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let image = args.platform.find(&store, &args.image)?;
    // The newest first, as docker and podman have it.
    let made = made(&image).into_iter().rev();
    match args.output {
        OutputFormat::Table => {
            let mut table = Table::new(["LAYER ID", "SIZE", "CREATED", "MADE BY"]);
            for one in made {
                let by = printable(one.by.as_bytes());
                table.row([
                    one.layer.map_or("-".to_owned(), |layer| layer.digest.short()),
                    one.layer.map_or("-".to_owned(), |layer| bytes(layer.size)),
                    day(one.created),
                    if args.no_trunc { by } else { shortened(&by) },
                ]);
            }
            output::print(&table.render())?;
        }
        OutputFormat::Json => {
            let list: Vec<_> = made
                .map(|one| {
                    json!({
                        "created": one.created,
                        "createdBy": one.by,
                        "layer": one.layer.map(|layer| layer.digest),
                        "size": one.layer.map_or(0, |layer| layer.size),
                    })
                })
                .collect();
            output::print_json(&list)?;
        }
    }
    Ok(ExitCode::Done)
}

/// Every directive with its layer, the oldest first. Layers that nobody tells of are there too.
fn made(image: &Image) -> Vec<Made<'_>> {
    let mut layers = image.layers.iter();
    let mut made = Vec::new();
    for entry in &image.config.history {
        made.push(Made {
            created: entry.created.as_deref(),
            by: &entry.created_by,
            layer: if entry.empty_layer { None } else { layers.next() },
        });
    }
    made.extend(layers.map(|layer| Made {
        created: None,
        by: "-",
        layer: Some(layer),
    }));
    made
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_directives_are_cut_between_characters() {
        assert_eq!(shortened("RUN true"), "RUN true");
        let long = shortened(&"ü".repeat(100));
        assert_eq!(long.chars().count(), SHOWN);
        assert!(long.ends_with("ü…"));
    }
}
