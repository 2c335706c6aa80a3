//! `gantry tag`.

use gantry_model::{ExitCode, ImageReference};
use gantry_store::Store;

use super::image_signing;
use crate::context::Context;

/// Flags of `gantry tag`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An image that this orchestrator's own key signed is signed by it as the new name, too.")]
pub struct Args {
    /// Name or id of the image
    image: String,

    /// Names it shall have as well
    #[arg(required = true, value_name = "NAME")]
    names: Vec<ImageReference>,
}

/// Runs `gantry tag`.
///
/// # Errors
/// When there is no such image, or the store cannot be written.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let source = store.find_name(&args.image).map_err(super::store_error)?;
    add_names(&store, &source, &args.names, context)?;
    Ok(ExitCode::Done)
}

/// Makes `names` lead where `source` leads, signed as those if it is signed.
///
/// # Errors
/// When the store or the key cannot be read or written.
pub(super) fn add_names(
    store: &Store,
    source: &ImageReference,
    names: &[ImageReference],
    context: &Context,
) -> anyhow::Result<()> {
    for name in names {
        if let Some(replaced) = store.tag(source, name).map_err(super::store_error)? {
            anstream::eprintln!("{name} was {} before", replaced.short());
        }
        image_signing::sign_renamed(store, name, context)?;
    }
    Ok(())
}
