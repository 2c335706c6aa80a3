//! `gantry images`.

use gantry_model::{Digest, ExitCode, ImageReference};
use gantry_store::{Image, Store, StoreError};
use serde_json::json;

use super::image_trust::{self, KnownKeys, Signed};
use crate::context::Context;
use crate::output::{self, OutputFormat, Table, bytes};
use crate::state::State;

/// Flags of `gantry images`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gantry images
  gantry images hub.example/kubernetes                 those of one repository
  gantry rmi $(gantry images -q)                       every image of the store

An image that has nothing for this machine's platform is listed by its index, with the platforms
that it has. SIGNED: yes is by the own key, or by one that this machine's signature policy names
for the image; others is by other keys, or under another name; - is by nobody. `gantry verify
IMAGE` shows the signatures that count, with --key those by another key.")]
pub struct Args {
    /// Only images of this repository, or of this name
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Form of the list
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: OutputFormat,

    /// Show whole digests in the place of short ids
    #[arg(long, alias = "no-trunc", overrides_with = "digests")]
    digests: bool,

    /// Show nothing but whole digests, by which every command finds the images
    #[arg(short, long, conflicts_with_all = ["output", "json"])]
    quiet: bool,

    /// The same as -o json, as sealer has it
    #[arg(long, hide = true, conflicts_with = "output")]
    json: bool,

    /// No line of headings, as sealer has it
    #[arg(short, long, hide = true)]
    noheading: bool,
}

/// Runs `gantry images`.
///
/// # Errors
/// When the store cannot be read.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let mut images = store.images().map_err(super::store_error)?;
    if let Some(wanted) = &args.name {
        images.retain(|(name, _)| name.name() == wanted || name.to_string() == *wanted);
    }
    if args.quiet {
        for (name, _) in images {
            let target = store.target(&name).map_err(super::store_error)?;
            output::print(&format!("{}\n", target.digest))?;
        }
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new([
        "REPOSITORY",
        "TAG",
        if args.digests { "DIGEST" } else { "IMAGE ID" },
        "PLATFORM",
        "CREATED",
        "SIZE",
        "SIGNED",
    ]);
    // What is wrong with the own key or the policy is said by the commands that need them.
    let keys = KnownKeys::read(context.signature_policy(), &State::new(context.root()));
    let keys = keys.inspect_err(|error| anstream::eprintln!("warning: no signature counts here: {error:#}"));
    let signed = |name: &ImageReference, image: &Digest, signed_as: &[String]| match &keys {
        Ok(keys) => keys.signed(&store, name, image).map_err(super::store_error),
        Err(_) => Ok((!signed_as.is_empty()).then_some(Signed::Others)),
    };
    let mut list = Vec::new();
    let mut damaged = false;
    for (name, image) in images {
        let (repository, tag) = (name.name().to_owned(), name.tag().unwrap_or("-").to_owned());
        match image {
            Ok(image) => {
                let signed_as = image_trust::signed_as(&store, Some(&name), &image.manifest_digest);
                let signed_as = signed_as.map_err(super::store_error)?;
                let signed = signed(&name, &image.manifest_digest, &signed_as)?;
                table.row([
                    repository.clone(),
                    tag.clone(),
                    if args.digests {
                        image.manifest_digest.to_string()
                    } else {
                        image.manifest_digest.short()
                    },
                    platform(&image),
                    created(&image),
                    bytes(image.size()),
                    Signed::word(signed).to_owned(),
                ]);
                list.push(json!({
                    "repository": repository,
                    "tag": tag,
                    "digest": image.manifest_digest,
                    "platform": platform(&image),
                    "created": image.config.created,
                    "size": image.size(),
                    "signed": signed,
                    "signedAs": signed_as,
                    "layers": image.layers.iter().map(|layer| layer.digest).collect::<Vec<_>>(),
                }));
            }
            Err(StoreError::OtherPlatform { has, .. }) => {
                let digest = store.target(&name).map_err(super::store_error)?.digest;
                let signed_as = image_trust::signed_as(&store, Some(&name), &digest);
                let signed_as = signed_as.map_err(super::store_error)?;
                let signed = signed(&name, &digest, &signed_as)?;
                let platforms = if has.is_empty() {
                    "-".to_owned()
                } else {
                    has.join(",")
                };
                table.row([
                    repository.clone(),
                    tag.clone(),
                    if args.digests {
                        digest.to_string()
                    } else {
                        digest.short()
                    },
                    platforms,
                    "-".into(),
                    "-".into(),
                    Signed::word(signed).to_owned(),
                ]);
                list.push(json!({
                    "repository": repository,
                    "tag": tag,
                    "digest": digest,
                    "platforms": has,
                    "signed": signed,
                    "signedAs": signed_as,
                }));
            }
            Err(error) => {
                damaged = true;
                anstream::eprintln!("warning: image {name}: {error}");
                table.row([
                    repository.clone(),
                    tag.clone(),
                    "damaged".into(),
                    "-".into(),
                    "-".into(),
                    "-".into(),
                    "-".into(),
                ]);
                list.push(json!({ "repository": repository, "tag": tag, "damage": error.to_string() }));
            }
        }
    }
    let format = if args.json {
        OutputFormat::Json
    } else {
        args.output
    };
    match format {
        OutputFormat::Table => {
            let text = table.render();
            let (_, without_heading) = text.split_once('\n').unwrap_or_default();
            output::print(if args.noheading { without_heading } else { &text })?;
        }
        OutputFormat::Json => output::print_json(&list)?,
    }
    Ok(if damaged {
        ExitCode::Verification
    } else {
        ExitCode::Done
    })
}

/// `linux/amd64`.
pub(super) fn platform(image: &Image) -> String {
    format!("{}/{}", image.config.os, image.config.architecture)
}

/// The day the image was made.
pub(super) fn created(image: &Image) -> String {
    day(image.config.created.as_deref())
}

/// The day of a time in RFC 3339; `-` where there is none, and for images that keep none, as reproducible ones do.
pub(super) fn day(time: Option<&str>) -> String {
    let time = time.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match time.filter(|time| time.as_second() > 0) {
        Some(time) => time.strftime("%Y-%m-%d").to_string(),
        None => "-".to_owned(),
    }
}
