//! `gantry provenance`: how an image was built, and whether a key that is trusted says so.

use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::ExitCode;
use gantry_signing::VerificationKey;
use gantry_store::attestations::{Envelope, Statement};

use super::rootfs::PlatformArgs;
use super::{connect, key_file};
use crate::build::PROVENANCE;
use crate::context::Context;
use crate::exit::failure_hint;
use crate::output;

/// Flags of `gantry provenance`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The document is an in-toto statement with SLSA's provenance, version 1: the Kubefile, the base,
sources that lay elsewhere and container images that were brought, each with its digest. `gantry
build` notes it, and `gantry sign` signs it together with the image; then it goes where the image
goes, as cosign's attestations do. Without --key nobody vouches for it. What is said of the image
for the platform comes before what is said of an index that it is in. Other attestations stay in
their registry.

Examples:
  gantry provenance kubernetes:v1.31.4
  gantry provenance --key vendor.pub kubernetes:v1.31.4    exits with 6 unless that key signed it")]
pub struct Args {
    /// Name or id of the image
    image: String,

    /// Public key in PEM that has to have signed it; may be given several times: one of them
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key: Vec<PathBuf>,

    #[command(flatten)]
    platform: PlatformArgs,
}

/// Runs `gantry provenance`.
///
/// # Errors
/// When there is no such image, nothing is known about how it was built, or no given key signed it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let keys: Vec<VerificationKey> = args
        .key
        .iter()
        .map(|path| key_file::read(path))
        .collect::<anyhow::Result<_>>()?;
    let store = connect::store(context)?;
    let name = store.find_name(&args.image).map_err(super::store_error)?;
    let digest = args.platform.find(&store, &args.image)?.manifest_digest;
    // What is said of an index is said of its images: others attest the index alone.
    let indexes = store
        .indexes_with(&digest, Some(&name))
        .map_err(super::store_error)?;
    let mut attested = store.attestations(&digest).map_err(super::store_error)?;
    for index in indexes {
        attested.extend(store.attestations(&index).map_err(super::store_error)?);
    }
    // What nobody vouches for is not read where somebody is asked to.
    let mut vouched = attested
        .iter()
        .filter(|envelope| keys.is_empty() || keys.iter().any(|key| is_signed_by(envelope, key)))
        .filter_map(|envelope| envelope.statement("attestation").ok());
    let statement = if keys.is_empty() {
        let noted = store.provenance(&digest).map_err(super::store_error)?;
        let own = noted.map(|predicate| Statement::about(&digest, &args.image, PROVENANCE, predicate));
        own.or_else(|| vouched.next())
            .ok_or_else(|| nothing_known(&args.image))?
    } else {
        vouched.next().ok_or_else(|| not_signed(&args.image))?
    };
    output::print_json(&statement)?;
    Ok(ExitCode::Done)
}

/// Whether this key signed the envelope.
pub(super) fn is_signed_by(envelope: &Envelope, key: &VerificationKey) -> bool {
    let bytes = envelope.signed_bytes();
    bytes.is_some_and(|bytes| {
        envelope
            .signatures()
            .any(|signature| key.is_signature(&bytes, &signature))
    })
}

fn nothing_known(image: &str) -> anyhow::Error {
    failure_hint(
        ExitCode::Input,
        format!("nothing says how {image} was built"),
        "`gantry build` notes it; with an image that was signed then, it comes by `gantry pull` and `gantry load`",
    )
}

fn not_signed(image: &str) -> anyhow::Error {
    failure_hint(
        ExitCode::Verification,
        format!("no key that was given says how {image} was built"),
        "`gantry sign --key FILE IMAGE`, where it was built, signs that too; `gantry pull` brings it in",
    )
}
