//! `gantry load`.

use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::{ExitCode, ImageReference};
use gantry_store::{LoadEvent, Store};

use crate::context::Context;
use crate::output;
use crate::output::bytes;

/// Flags of `gantry load`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An OCI archive, an OCI folder or a docker archive; gzip and zstd are recognised
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    input: PathBuf,

    /// Name of the image, for an archive that holds one and does not say
    #[arg(short, long, value_name = "NAME")]
    tag: Option<ImageReference>,
}

/// Runs `gantry load`.
///
/// # Errors
/// When the archive cannot be read, is damaged, or is no archive of images.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let mut show = |event: LoadEvent| match event {
        LoadEvent::ChunkingLayer { layer, size } => {
            anstream::eprintln!("layer {}, {}: cutting it into chunks", layer.short(), bytes(size));
        }
    };
    let loaded = store
        .load(&args.input, args.tag.as_ref(), &mut show)
        .map_err(super::store_error)?;
    for image in loaded {
        output::print(&format!("{}@{}\n", image.reference, image.digest))?;
    }
    Ok(ExitCode::Done)
}
