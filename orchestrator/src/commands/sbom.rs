//! `gantry sbom`: what is in an image, for programs that look for known weaknesses, and for those who have to answer for it.

use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::ExitCode;
use gantry_store::{Rootfs, Store};

use super::output_file;
use super::rootfs::PlatformArgs;
use crate::context::Context;
use crate::exit::failure;
use crate::{output, sbom};

/// The time of the document, for who wants the same bytes again (<https://reproducible-builds.org/specs/source-date-epoch/>).
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Flags of `gantry sbom`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The document is SPDX 2.3 in JSON. It lists every file with its digests; the container images in
registry/; Go programs with their versions and the modules they were made with; charts; what the
databases of dpkg and RPM say is installed; and archives of packages (*.deb, *.rpm). Databases that
are not read (Berkeley DB, or damaged) are named in the image's comment. What is in container images
is not looked into. Nothing is unpacked. The time in it is SOURCE_DATE_EPOCH where that is set.

Examples:
  gantry sbom kubernetes:v1.31.4 -o kubernetes.spdx.json
  gantry sbom kubernetes:v1.31.4 | jq -r '.packages[] | .name + \" \" + .versionInfo'")]
pub struct Args {
    /// Name or id of the image
    image: String,

    /// Write it to FILE; - is standard output [default: -]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    #[command(flatten)]
    platform: PlatformArgs,
}

/// Runs `gantry sbom`.
///
/// # Errors
/// When there is no such image, it is damaged, or the file cannot be written.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let created = match std::env::var(EPOCH) {
        Ok(text) => text.parse().map_err(|_| {
            failure(
                ExitCode::Input,
                format!("{EPOCH} is {text:?}, not a number of seconds"),
            )
        })?,
        Err(_) => jiff::Timestamp::now().as_second(),
    };
    let file = args.output.as_deref();
    let file = file.filter(|file| !output_file::is_standard_output(file));
    if let Some(file) = file {
        output_file::folder(file)?;
    }
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let _nothing_vanishes = store.share().map_err(super::store_error)?;
    let image = args.platform.find(&store, &args.image)?;
    let rootfs = Rootfs::read(&store, &image).map_err(super::layer_error)?;
    let document = sbom::document(&image, &rootfs, created).map_err(super::layer_error)?;
    let Some(file) = file else {
        output::print_json(&document)?;
        return Ok(ExitCode::Done);
    };
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    output_file::write(file, &text, 0o644)?;
    Ok(ExitCode::Done)
}
