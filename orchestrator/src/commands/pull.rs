//! `gantry pull`.

use std::sync::Arc;

use gantry_model::{ExitCode, ImageReference};
use gantry_registry_client::{Platforms, PullOptions, RegistryError};
use gantry_store::Platform;

use super::registry::{RegistryArgs, registry_error};
use super::{connect, transports};
use crate::context::Context;
use crate::exit::OrExit as _;
use crate::output;
use crate::report::transfers::Transfers;

/// Flags of `gantry pull`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Names: what has no registry before its first / is looked up in registries.conf (aliases, then
  unqualified-search-registries), else at docker.io, where sealer looked at docker.io/sealerio.
  Mirrors, insecure and blocked registries are taken from registries.conf, too.

Examples:
  gantry pull sea.hub:5000/kubernetes:v1.31.4
  gantry pull --all-platforms registry.example/kubernetes:v1.31.4    to push it on as it is
  gantry pull --insecure 10.0.0.9:5000/kubernetes:v1.31.4            a registry without TLS")]
pub struct Args {
    /// Name of the image, [REGISTRY/]PATH[:TAG][@DIGEST]
    #[arg(value_name = "IMAGE", value_parser = transports::from_registry)]
    image: ImageReference,

    /// Platform to pull, OS/ARCH[/VARIANT] [default: this host's]
    #[arg(long, value_parser = crate::build::platform::parse)]
    platform: Option<Platform>,

    /// Pull the images for all platforms
    #[arg(long, visible_alias = "all", conflicts_with = "platform")]
    all_platforms: bool,

    /// When to ask the registry
    #[arg(long, value_enum, default_value_t)]
    policy: Policy,

    /// Show nothing but the name and digest
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// When to ask the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Policy {
    /// Always; what is in the store already does not travel
    #[default]
    #[value(alias = "ifnewer")]
    Always,
    /// When no image of this name is in the store
    Missing,
    /// Never: the image has to be in the store
    Never,
}

/// Runs `gantry pull`.
///
/// # Errors
/// When no registry has the image, or it is not what it should be.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = connect::store(context)?;
    if args.policy != Policy::Always {
        match store.target(&args.image) {
            Ok(target) => {
                output::print(&format!("{}@{}\n", args.image, target.digest))?;
                return Ok(ExitCode::Done);
            }
            Err(error) if args.policy == Policy::Never => return Err(super::store_error(error)),
            Err(_) => {}
        }
    }
    let transfers = Arc::new(Transfers::new("pulled", args.quiet));
    let client = args.registry.client(None, &transfers)?;
    let options = PullOptions {
        platforms: if args.all_platforms {
            Platforms::All
        } else {
            Platforms::One(args.platform.unwrap_or_else(Platform::host))
        },
    };
    let shown = transfers.clone();
    let pulled = connect::block_on(
        async {
            let pulled = client
                .pull(&store, &args.image, &options, move |event| shown.chunking(event))
                .await;
            pulled.map_err(|error| not_pulled(error, &args.image))
        },
        "what arrived is kept; run the same command again to go on",
    );
    transfers.end(pulled.is_ok());
    let pulled = pulled?;
    output::print(&format!("{}@{}\n", pulled.image.reference, pulled.image.digest))?;
    Ok(ExitCode::Done)
}

/// The error of a pull.
fn not_pulled(error: RegistryError, image: &ImageReference) -> anyhow::Error {
    let Some(hint) = of_another_registry(&error, image) else {
        return registry_error(error);
    };
    let code = error.exit_code();
    let failed: Result<(), _> = Err(error).or_exit_hint(code, hint);
    failed.expect_err("it is an error")
}

/// What to do about an image that a registry does not have: a name without one may have been meant for another than it leads to.
pub(super) fn of_another_registry(error: &RegistryError, image: &ImageReference) -> Option<String> {
    // Registries that know nobody refuse what they do not have.
    let is_elsewhere = matches!(
        error,
        RegistryError::NotFound { .. } | RegistryError::NotLoggedIn { .. } | RegistryError::Denied { .. }
    );
    if image.domain().is_some() || !is_elsewhere {
        return None;
    }
    let of_sealer = if image.name().contains('/') {
        String::new()
    } else {
        format!(" (sealer took such names from docker.io/sealerio: `gantry pull docker.io/sealerio/{image}`)")
    };
    Some(format!(
        "name its registry, or write into registries.conf where names without one lead{of_sealer}"
    ))
}
