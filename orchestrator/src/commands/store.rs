//! `gantry store`: looking after the image store.

use std::collections::BTreeSet;

use gantry_model::ExitCode;
use gantry_store::{CheckReport, Store};
use serde_json::json;

use crate::context::Context;
use crate::output::{self, OutputFormat};

/// Flags of `gantry store`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, clap::Subcommand)]
enum StoreCommand {
    /// Read everything in the store and compare it with its digest
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Form of the report
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: OutputFormat,
}

/// Runs `gantry store`.
///
/// # Errors
/// When the store cannot be read.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let StoreCommand::Check(args) = args.command;
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let report = store.check().map_err(super::store_error)?;
    match args.output {
        OutputFormat::Table => output::print(&text(&report))?,
        OutputFormat::Json => output::print_json(&document(&report))?,
    }
    Ok(if report.damage.is_empty() {
        ExitCode::Done
    } else {
        ExitCode::Verification
    })
}

fn text(report: &CheckReport) -> String {
    let mut text = String::new();
    for damage in &report.damage {
        text.push_str(&format!("{}: {}\n", damage.path.display(), damage.reason));
        if !damage.images.is_empty() {
            text.push_str(&format!("  needed by {}\n", damage.images.join(", ")));
        }
    }
    text.push_str(&format!(
        "{} images, {} blobs, {} unpacked layers: {}\n",
        report.images,
        report.blobs,
        report.layers,
        match report.damage.len() {
            0 => "all whole".to_owned(),
            1 => "1 object is damaged".to_owned(),
            count => format!("{count} objects are damaged"),
        }
    ));
    let images: BTreeSet<&str> = report
        .damage
        .iter()
        .flat_map(|damage| &damage.images)
        .map(String::as_str)
        .collect();
    if !images.is_empty() {
        let images: Vec<&str> = images.into_iter().collect();
        text.push_str(&format!(
            "To repair: `gantry rmi {}`, then load or build again.\n",
            images.join(" ")
        ));
    } else if !report.damage.is_empty() {
        text.push_str("No image needs what is damaged: remove the named files and folders.\n");
    }
    text
}

fn document(report: &CheckReport) -> serde_json::Value {
    let damage: Vec<_> = report
        .damage
        .iter()
        .map(|damage| json!({ "path": damage.path, "reason": damage.reason, "images": damage.images }))
        .collect();
    json!({ "images": report.images, "blobs": report.blobs, "layers": report.layers, "damage": damage })
}
