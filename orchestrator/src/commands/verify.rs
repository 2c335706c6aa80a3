//! `gantry verify`.

use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::{Digest, ExitCode, ImageReference};
use gantry_signing::VerificationKey;
use gantry_store::{MeantImage, Store};

use super::image_trust::{self, KnownKeys};
use super::{connect, key_file};
use crate::context::Context;
use crate::exit::failure_hint;
use crate::output::{self, OutputFormat, Table};
use crate::state::State;

/// Flags of `gantry verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Signatures in the store are looked at, nothing else: `gantry pull` and `gantry load` bring them in
with their image. Exits with 6 when the image is not signed by one of the keys; an image for several
platforms is when its index is, or each of its images. Without --key, what counts is what hosts
would be shown: the own key, and those that this machine's signature policy names for the image.

Examples:
  gantry verify sea.hub:5000/kubernetes:v1.31.4                       by the own or a policy's key
  gantry verify --key gantry.pub sea.hub:5000/kubernetes:v1.31.4
  gantry verify --key vendor.pub --key ours.pub kubernetes:v1.31.4    by one of them")]
pub struct Args {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Public key in PEM, ECDSA P-256 or Ed25519; may be given several times [default: the own one, and those of the policy]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key: Vec<PathBuf>,

    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
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
    /// What the key is known by: its file, its fingerprint, or that it is the own one.
    key: String,
}

/// By which signatures an image counts as signed.
struct Wanted {
    /// The keys, each with what it is known by.
    keys: Vec<(String, VerificationKey)>,
    /// Where none was given: those that count here, under the name of the image alone.
    known: Option<(KnownKeys, ImageReference)>,
}

/// Runs `gantry verify`.
///
/// # Errors
/// When there is no such image or key, or no signature that holds.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let given: Vec<(String, VerificationKey)> = args
        .key
        .into_iter()
        .map(|path| Ok((path.display().to_string(), key_file::read(&path)?)))
        .collect::<anyhow::Result<_>>()?;
    let store = connect::store(context)?;
    let MeantImage { name, manifest } = store.meant(&args.image).map_err(super::store_error)?;
    let wanted = Wanted::new(given, &name, context)?;
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
        holding.extend(wanted.holding(&store, index, None)?);
    }
    let whole = !holding.is_empty();
    for entry in entries {
        let platform = entry.platform.as_ref().map(ToString::to_string);
        let found = wanted.holding(&store, entry.digest, platform.as_deref())?;
        if entry.is_image() && found.is_empty() && !whole {
            let for_it = platform.map(|platform| format!(" for {platform}"));
            let for_it = for_it.filter(|_| entry.digest != target.digest);
            return Err(wanted.lacking(&format!("{name}{}", for_it.unwrap_or_default())));
        }
        holding.extend(found);
    }
    if holding.is_empty() {
        return Err(wanted.lacking(&name.to_string()));
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
                    one.key,
                ]);
            }
            output::print(&table.render())?;
        }
    }
    Ok(ExitCode::Done)
}

impl Wanted {
    fn new(
        given: Vec<(String, VerificationKey)>,
        name: &ImageReference,
        context: &Context,
    ) -> anyhow::Result<Self> {
        if !given.is_empty() {
            return Ok(Self {
                keys: given,
                known: None,
            });
        }
        let known = KnownKeys::read(context.signature_policy(), &State::new(context.root()))?;
        let keys = known.for_image(name);
        if keys.is_empty() {
            return Err(failure_hint(
                ExitCode::Verification,
                format!(
                    "nobody's signature counts for {name}: {} names no key for it, and no image was signed here yet",
                    context.signature_policy().display()
                ),
                "`gantry sign IMAGE` signs it by the own key; --key FILE verifies by another one",
            ));
        }
        Ok(Self {
            keys,
            known: Some((known, name.clone())),
        })
    }

    /// The signatures over `image` that count.
    fn holding(&self, store: &Store, image: Digest, platform: Option<&str>) -> anyhow::Result<Vec<Holding>> {
        let mut signatures = store.signatures(&image).map_err(super::store_error)?;
        if let Some((known, name)) = &self.known {
            signatures.retain(|signature| known.fits(name, &image, signature));
        }
        let mut holding = Vec::new();
        for (known_by, key) in &self.keys {
            for signature in &signatures {
                if let Ok(payload) = key.verify(&image, signature) {
                    holding.push(Holding {
                        image,
                        platform: platform.map(str::to_owned),
                        identity: payload.identity,
                        key: known_by.clone(),
                    });
                }
            }
        }
        Ok(holding)
    }

    fn lacking(&self, image: &str) -> anyhow::Error {
        let (by, hint) = match &self.known {
            None => (
                "by a key that was given",
                "`gantry pull` brings in signatures that were added since; `gantry sign --key FILE IMAGE` signs",
            ),
            Some(_) => (
                "under this name by the own key, or one that the policy names for it",
                "`gantry sign IMAGE` signs it by the own key; --key FILE verifies by another one",
            ),
        };
        failure_hint(
            ExitCode::Verification,
            format!("{image} has no signature {by}"),
            hint,
        )
    }
}
