//! `gantry cat`: a file of an image, without unpacking it.

use std::io::{self, Write as _};

use gantry_model::ExitCode;

use super::rootfs::{PlatformArgs, kind, nothing_at};
use crate::context::Context;
use crate::exit::failure_hint;

/// Flags of `gantry cat`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gantry cat kubernetes:v1.31.4 Metadata
  gantry cat kubernetes:v1.31.4 bin/kubectl > kubectl")]
pub struct Args {
    /// Name or id of the image
    image: String,

    /// File in the rootfs; links are followed inside it
    #[arg(value_name = "PATH")]
    path: String,

    #[command(flatten)]
    platform: PlatformArgs,
}

/// Runs `gantry cat`.
///
/// # Errors
/// When there is no such image or file, or a chunk of it is damaged: then what came before that chunk is written.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let Args {
        image,
        path,
        platform,
    } = args;
    let rootfs = platform.rootfs(context, &image)?;
    let found = rootfs.resolve(&path);
    let found = found.ok_or_else(|| nothing_at(&path, &image))?;
    // Chunks are large: a buffer would only copy them.
    let mut out = io::stdout().lock();
    if !rootfs.copy_file(&found, &mut out).map_err(super::layer_error)? {
        let is = rootfs.get(&found).map_or("folder", kind);
        return Err(failure_hint(
            ExitCode::Input,
            format!("{path} in image {image} is a {is}, not a file"),
            format!("`gantry ls {image} {path}` lists what is in it"),
        ));
    }
    out.flush()?;
    Ok(ExitCode::Done)
}
