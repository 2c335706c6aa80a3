//! `gantry rmi`.

use gantry_model::ExitCode;
use gantry_store::{Descriptor, Platform, Store, StoreError};

use super::{manifest, prune};
use crate::context::Context;
use crate::output;
use crate::output::bytes;

/// Flags of `gantry rmi`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gantry rmi kubernetes:v1.30.8
  gantry rmi -f kubernetes:v1.30.8 shop:v6                in scripts: whether they are there or not
  gantry rmi --platform linux/arm64 kubernetes:v1.31.4    the other platforms stay")]
pub struct Args {
    /// Names or ids of the images
    #[arg(required_unless_present = "prune", value_name = "IMAGE")]
    images: Vec<String>,

    /// An image that is not in the store is no error
    #[arg(short, long)]
    force: bool,

    /// Of images for several platforms, remove only those for OS/ARCH[/VARIANT]
    #[arg(long, value_parser = crate::build::platform::parse)]
    platform: Option<Platform>,

    /// Then remove what no image needs, as `gantry prune` does
    #[arg(short, long, hide = true)]
    prune: bool,
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
        if let Err(error) = remove(&store, image, &args) {
            if result.is_err() {
                anstream::eprintln!("error: {error:#}");
            } else {
                result = Err(error);
            }
        }
    }
    if args.prune && result.is_ok() {
        drop(store);
        return prune::run(prune::Args {}, context);
    }
    result
}

fn remove(store: &Store, image: &str, args: &Args) -> anyhow::Result<()> {
    let name = match store.find_name(image) {
        Err(StoreError::NoSuchImage { .. }) if args.force => {
            anstream::eprintln!("{image} is not in the store");
            return Ok(());
        }
        found => found.map_err(super::store_error)?,
    };
    if let Some(platform) = &args.platform {
        let left = manifest::without(store, &name, platform)?;
        if left.iter().any(Descriptor::is_image) {
            return manifest::set(store, &name, left);
        }
    }
    let removal = store.remove_image(&name).map_err(super::store_error)?;
    output::print(&format!("{name}\n"))?;
    match removal.postponed {
        Some(reason) => anstream::eprintln!("{name}: the name is gone, its space is not free yet: {reason}"),
        None if removal.freed > 0 => anstream::eprintln!("{name}: {} freed", bytes(removal.freed)),
        None => {}
    }
    Ok(())
}
