//! `gantry rollback`: a cluster goes back to the image it had before, by an edit of its Clusterfile that is applied.

use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::{ExitCode, ImageReference};
use gantry_store::Store;

use super::apply::{self, ApplyArgs};
use super::connect;
use crate::clusterfile::Source;
use crate::clusterfile::edit;
use crate::context::Context;
use crate::exit::failure_hint;
use crate::plan::PlannedImage;
use crate::plan::planner::Back;
use crate::state::{ClusterState, State};

/// Flags of `gantry rollback`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gantry rollback                    to the image before, what the cluster holds stays
  gantry rollback --kept v1.20.3     and etcd to what it held before the upgrade to v1.20.3
  gantry rollback --to demo:v1       to an image of your choice

A rollback that was cut off goes on with the same command, or with `gantry apply`.")]
pub struct Args {
    /// Clusterfile of the cluster; its image is edited, its comments and layout stay
    #[arg(short, long, value_name = "FILE", default_value = "Clusterfile", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// Image to go back to [default: the one that was applied from here before]
    #[arg(long, value_name = "IMAGE")]
    to: Option<ImageReference>,

    /// The same, as sealer has it
    #[arg(hide = true, conflicts_with = "to")]
    image: Option<ImageReference>,

    /// Restore the snapshot of etcd that was kept before this, too; what came to the cluster later is lost
    #[arg(long, value_name = "BEFORE")]
    kept: Option<String>,

    #[command(flatten)]
    apply: ApplyArgs,
}

/// Takes the cluster back.
///
/// # Errors
/// When there is no image to go back to, or the file cannot be edited; see [`apply::run`].
pub fn run(mut args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    if args.file.as_os_str() == "-" {
        let hint = "write it to a file, and name that with -f";
        return Err(failure_hint(
            ExitCode::Input,
            "standard input cannot be edited",
            hint,
        ));
    }
    let mut source = Source::read(&args.file, "-f")?;
    let clusterfile = source.clusterfile()?;
    source.refuse_masked()?;
    let cluster = State::new(context.root()).cluster(&clusterfile.name);
    let mut back = Back { kept: args.kept };
    let image = match (args.to.or(args.image), cluster.rollback()?) {
        (Some(image), begun) => {
            if let Some(begun) = begun.filter(|begun| begun.to.reference == image) {
                back.kept = back.kept.or(begun.back.kept);
            }
            image
        }
        (None, Some(begun)) => {
            anstream::eprintln!("The rollback to {} goes on.", begun.to.reference);
            back.kept = back.kept.or(begun.back.kept);
            begun.to.reference
        }
        (None, None) => former(&cluster, &clusterfile.name, &connect::store(context)?)?,
    };
    if image != clusterfile.image {
        let (text, line) = edit::set_image(&source.text, &image).map_err(|error| {
            failure_hint(
                ExitCode::Input,
                format!("{} is not changed: {error}", source.file),
                "write the image into `spec.image` by hand, then `gantry rollback --to IMAGE`",
            )
        })?;
        anstream::eprintln!("{}:{line}: {} becomes {image}", source.file, clusterfile.image);
        source.text = text;
    }
    args.apply.planning.back = Some(back);
    apply::apply_edited(source, &args.file, &args.apply, context)
}

/// The image before, if its name still leads to it.
fn former(
    cluster: &ClusterState,
    name: &gantry_model::ClusterName,
    store: &Store,
) -> anyhow::Result<ImageReference> {
    let Some(PlannedImage {
        reference, digest, ..
    }) = cluster.former_image()?
    else {
        return Err(failure_hint(
            ExitCode::Input,
            format!("cluster {name} had no other image, as far as is known here"),
            "name one with --to IMAGE; `gantry images` lists them",
        ));
    };
    match store.image(&reference) {
        Ok(image) if image.manifest_digest != digest => Err(failure_hint(
            ExitCode::Input,
            format!(
                "{reference} is another image by now than the one cluster {name} had ({})",
                digest.short()
            ),
            "give the former one another name and name that with --to IMAGE",
        )),
        // What the store lacks, applying names.
        _ => Ok(reference),
    }
}
