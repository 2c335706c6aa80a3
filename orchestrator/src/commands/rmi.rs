//! `gantry rmi`.

use gantry_model::ExitCode;
use gantry_store::Store;

use crate::context::Context;
use crate::output;
use crate::output::bytes;

/// Flags of `gantry rmi`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids of the images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Runs `gantry rmi`.
///
/// Every image is tried; the first error decides the exit code.
///
/// # Errors
/// When there is no such image, or something cannot be removed.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let mut result = Ok(ExitCode::Done);
    for image in &args.images {
        if let Err(error) = remove(&store, image) {
            if result.is_err() {
                anstream::eprintln!("error: {error:#}");
            } else {
                result = Err(error);
            }
        }
    }
    result
}

fn remove(store: &Store, image: &str) -> anyhow::Result<()> {
    let name = store.find_name(image).map_err(super::store_error)?;
    let removal = store.remove_image(&name).map_err(super::store_error)?;
    output::print(&format!("{name}\n"))?;
    match removal.postponed {
        Some(reason) => anstream::eprintln!("{name}: the name is gone, its space is not free yet: {reason}"),
        None if removal.freed > 0 => anstream::eprintln!("{name}: {} freed", bytes(removal.freed)),
        None => {}
    }
    Ok(())
}
