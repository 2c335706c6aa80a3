//! `gantry search`: the tags of a repository.

use std::sync::Arc;

use gantry_model::{ExitCode, ImageReference};
use serde_json::json;

use super::registry::{RegistryArgs, registry_error};
use super::{connect, transports};
use crate::context::Context;
use crate::output::{self, OutputFormat, Table};
use crate::report::transfers::Transfers;

/// Flags of `gantry search`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the repository, [REGISTRY/]PATH
    #[arg(value_name = "REPOSITORY", value_parser = transports::from_registry)]
    repository: ImageReference,

    /// Form of the list
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: OutputFormat,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs `gantry search`.
///
/// # Errors
/// When there is no such repository, or its registry does not answer.
pub fn run(args: Args, _: &Context) -> anyhow::Result<ExitCode> {
    let transfers = Arc::new(Transfers::new("", false));
    let client = args.registry.client(None, &transfers)?;
    let (repository, tags) = connect::block_on(
        async { client.tags(&args.repository).await.map_err(registry_error) },
        "nothing was changed",
    )?;
    match args.output {
        OutputFormat::Table => {
            let mut table = Table::new(["REPOSITORY", "TAG"]);
            for tag in tags {
                table.row([repository.clone(), tag]);
            }
            output::print(&table.render())?;
        }
        OutputFormat::Json => output::print_json(&json!({ "repository": repository, "tags": tags }))?,
    }
    Ok(ExitCode::Done)
}
