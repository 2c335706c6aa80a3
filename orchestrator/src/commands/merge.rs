//! `gantry merge`: several images become one.

use gantry_model::{ExitCode, ImageReference};
use gantry_store::Store;

use super::image_signing::SignArgs;
use super::rootfs::PlatformArgs;
use crate::build::merge::merge;
use crate::context::Context;
use crate::output::{self, bytes};

/// Flags of `gantry merge`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Layers are put over each other in the order of the images; one that several images have is taken
once. Of what several images say about a file, a variable or a label, the last counts. Their CMDs
run one image after the other. Nothing is copied, and nothing unpacked.
What is made is signed if all of them are; see `gantry sign`.

Example:
  gantry merge -t shop:v7 kubernetes:v1.31.4 mysql:v8 shop-web:v7")]
pub struct Args {
    /// Name of the new image, NAME[:TAG]
    #[arg(short, long, value_name = "NAME")]
    tag: ImageReference,

    /// Names or ids of the images, the lowest first
    #[arg(required = true, num_args = 2.., value_name = "IMAGE")]
    images: Vec<String>,

    #[command(flatten)]
    platform: PlatformArgs,

    #[command(flatten)]
    signing: SignArgs,
}

/// Runs `gantry merge`.
///
/// # Errors
/// When there is no such image, they are not for one platform or have too many layers, or the store cannot be written.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let nothing_vanishes = store.share().map_err(super::store_error)?;
    let find = |name: &String| args.platform.find(&store, name);
    let images = args.images.iter().map(find).collect::<anyhow::Result<Vec<_>>>()?;
    let merged = merge(&images)?;
    let dropped = images.iter().map(|image| image.layers.len()).sum::<usize>() - merged.layers.len();
    let image = store
        .add_image(nothing_vanishes, &args.tag, &merged)
        .map_err(super::store_error)?;
    args.signing.sign(&store, &args.tag, &images, context)?;
    output::print(&format!("{}@{}\n", args.tag, image.manifest_digest))?;
    anstream::eprintln!(
        "layers: {}, {}; left out, because an image before has them: {dropped}",
        image.layers.len(),
        bytes(image.size())
    );
    Ok(ExitCode::Done)
}
