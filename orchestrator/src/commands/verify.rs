//! `gantry verify`.

use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::{Digest, ExitCode};
use gantry_signing::VerificationKey;
use gantry_store::{MeantImage, Store};

use super::{connect, image_trust, key_file};
use crate::context::Context;
use crate::exit::failure_hint;
use crate::output::{self, OutputFormat, Table};

/// Flags of `gantry verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Signatures in the store are looked at, nothing else: `gantry pull` and `gantry load` bring them in
with their image. Exits with 6 when the image is not signed by one of the keys; an image for several
platforms is when its index is, or each of its images.

Examples:
  gantry verify --key gantry.pub sea.hub:5000/kubernetes:v1.31.4
  gantry verify --key vendor.pub --key ours.pub kubernetes:v1.31.4    by one of them")]
pub struct Args {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Public key in PEM, ECDSA P-256 or Ed25519; may be given several times
    #[arg(long, value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    key: Vec<PathBuf>,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// A signature that holds.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Holding {
    /// What was signed.
    image: Digest,
    /// For which platform; none for an index.
    platform: Option<String>,
    /// What it was signed as.
    identity: String,
    /// The file of the key.
    key: PathBuf,
}

/// Runs `gantry verify`.
///
/// # Errors
/// When there is no such image or key, or no signature that holds.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let keys: Vec<(PathBuf, VerificationKey)> = args
        .key
        .into_iter()
        .map(|path| Ok((path.clone(), key_file::read(&path)?)))
        .collect::<anyhow::Result<_>>()?;
    let store = connect::store(context)?;
    let MeantImage { name, manifest } = store.meant(&args.image).map_err(super::store_error)?;
    let target = store.target(&name).map_err(super::store_error)?;
    image_trust::warn_of_damage(&store, &name).map_err(super::store_error)?;
    let mut entries = store.platforms(&name).map_err(super::store_error)?;
    entries.retain(|entry| manifest.is_none_or(|one| entry.digest == one));
    // Of one image, every index that lists it speaks.
    let indexes = match entries.as_slice() {
        [only] if manifest.is_some() || only.digest == target.digest => store
            .indexes_with(&only.digest, Some(&name))
            .map_err(super::store_error)?,
        _ => vec![target.digest],
    };
    let mut holding = Vec::new();
    for index in indexes {
        holding.extend(self::holding(&store, index, None, &keys)?);
    }
    let whole = !holding.is_empty();
    for entry in entries {
        let platform = entry.platform.as_ref().map(ToString::to_string);
        let found = self::holding(&store, entry.digest, platform.as_deref(), &keys)?;
        if entry.is_image() && found.is_empty() && !whole {
            let for_it = platform.map(|platform| format!(" for {platform}"));
            let for_it = for_it.filter(|_| entry.digest != target.digest);
            return Err(not_signed(&format!("{name}{}", for_it.unwrap_or_default())));
        }
        holding.extend(found);
    }
    if holding.is_empty() {
        return Err(not_signed(&name.to_string()));
    }
    match args.output {
        OutputFormat::Json => output::print_json(&holding)?,
        OutputFormat::Table => {
            let mut table = Table::new(["IMAGE", "PLATFORM", "SIGNED AS", "KEY"]);
            for one in holding {
                table.row([
                    one.image.short(),
                    one.platform.unwrap_or_else(|| "all".to_owned()),
                    one.identity,
                    one.key.display().to_string(),
                ]);
            }
            output::print(&table.render())?;
        }
    }
    Ok(ExitCode::Done)
}

fn holding(
    store: &Store,
    image: Digest,
    platform: Option<&str>,
    keys: &[(PathBuf, VerificationKey)],
) -> anyhow::Result<Vec<Holding>> {
    let signatures = store.signatures(&image).map_err(super::store_error)?;
    let mut holding = Vec::new();
    for (path, key) in keys {
        for signature in &signatures {
            if let Ok(payload) = key.verify(&image, signature) {
                holding.push(Holding {
                    image,
                    platform: platform.map(str::to_owned),
                    identity: payload.identity,
                    key: path.clone(),
                });
            }
        }
    }
    Ok(holding)
}

fn not_signed(image: &str) -> anyhow::Error {
    failure_hint(
        ExitCode::Verification,
        format!("{image} has no signature by a key that was given"),
        "`gantry pull` brings in signatures that were added since; `gantry sign --key FILE IMAGE` signs",
    )
}
