//! `gantry push`.

use std::sync::Arc;

use gantry_model::{ExitCode, ImageReference};
use gantry_registry_client::PushOptions;
use gantry_store::Platform;

use super::registry::{RegistryArgs, registry_error};
use super::{connect, image_trust, transports};
use crate::context::Context;
use crate::output;
use crate::report::transfers::Transfers;

/// Flags of `gantry push`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gantry push sea.hub:5000/kubernetes:v1.31.4
  gantry push kubernetes:v1.31.4 sea.hub:5000/team/kubernetes:v1.31.4    under another name")]
pub struct Args {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Where to, REGISTRY/PATH[:TAG] [default: its own name]
    #[arg(value_name = "DESTINATION", value_parser = transports::to_registry)]
    destination: Option<ImageReference>,

    /// Of an image for several platforms, push only the one for OS/ARCH[/VARIANT]
    #[arg(long, value_parser = crate::build::platform::parse)]
    platform: Option<Platform>,

    /// Push every platform, which is what happens anyway
    #[arg(long, hide = true)]
    all: bool,

    /// Show nothing but the name and digest
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs `gantry push`.
///
/// # Errors
/// When there is no such image, or the registry refuses it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = connect::store(context)?;
    let name = store.find_name(&args.image).map_err(super::store_error)?;
    image_trust::warn_of_damage(&store, &name).map_err(super::store_error)?;
    let destination = args.destination.clone().unwrap_or_else(|| name.clone());
    let transfers = Arc::new(Transfers::new("pushed", args.quiet));
    let client = args.registry.client(None, &transfers)?;
    let options = PushOptions {
        platform: args.platform.clone(),
    };
    let pushed = connect::block_on(
        async {
            let pushed = client.push(&store, &name, &destination, &options).await;
            pushed.map_err(registry_error)
        },
        "no tag was changed; run the same command again, what has arrived is not sent again",
    );
    transfers.end(pushed.is_ok());
    let pushed = pushed?;
    output::print(&format!("{}@{}\n", pushed.name, pushed.digest))?;
    Ok(ExitCode::Done)
}
