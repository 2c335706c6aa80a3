//! `gantry sign`.

use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::{Digest, ExitCode, ImageReference};
use gantry_signing::SigningKey;
use gantry_store::attestations::{Envelope, Statement};
use gantry_store::{MeantImage, Store};

use super::image_signing::{self, Signable, Whose, signable};
use super::provenance::is_signed_by;
use super::{connect, image_trust, key_file};
use crate::build::PROVENANCE;
use crate::context::Context;
use crate::exit::failure;
use crate::output;
use crate::state::State;

/// Flags of `gantry sign`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --key, the image is signed by this orchestrator's own key, which the hosts it works on know:
that is how an image from elsewhere is allowed there. What `gantry build` and `gantry merge` make is
signed by it already, unless they make it of an image that neither this key nor one of the policy's
signed. These signatures stay here: they are neither pushed nor saved.

Signatures are in cosign's form. `gantry push` sends those by a given key along, also for an image
that was pushed before, and `gantry save` writes them into OCI archives and folders; a docker
archive has no place for them. A signature says as what the image was signed: its name without the
tag. Policies compare that with the name that the image is used by, so sign it by the name that its
users know.
With a given key, what `gantry build` noted about how the image was built is signed along; see
`gantry provenance`.

Examples:
  gantry sign hub.example/kubernetes:v1.31.4       this orchestrator's hosts accept it from now on
  gantry keys generate                             makes gantry.key and gantry.pub
  gantry sign --key gantry.key sea.hub:5000/kubernetes:v1.31.4
  gantry sign --key gantry.key --as hub.example/kubernetes kubernetes:v1.31.4
  gantry verify --key gantry.pub sea.hub:5000/kubernetes:v1.31.4")]
pub struct Args {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Private key: PKCS#8 in PEM, ECDSA P-256 or Ed25519 [default: this orchestrator's own]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key: Option<PathBuf>,

    /// Name to sign it as, [REGISTRY/]PATH without a tag [default: its own]
    #[arg(long = "as", value_name = "NAME", value_parser = repository)]
    signed_as: Option<String>,
}

/// Runs `gantry sign`.
///
/// # Errors
/// When there is no such image or key, or the store cannot be written.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let (key, whose): (SigningKey, Whose) = match &args.key {
        Some(file) => (key_file::read(file)?, Whose::Given),
        None => (State::new(context.root()).image_key_or_create()?, Whose::Own),
    };
    let store = connect::store(context)?;
    let MeantImage { name, manifest } = store.meant(&args.image).map_err(super::store_error)?;
    image_trust::warn_of_damage(&store, &name).map_err(super::store_error)?;
    let identity = args.signed_as.as_deref().unwrap_or_else(|| name.name());
    let mut signed = 0;
    let images = match manifest {
        // Who names one of them means no other.
        Some(image) => vec![image],
        None => {
            let Signable { images, absent } = signable(&store, &name)?;
            if absent > 0 {
                anstream::eprintln!(
                    "{absent} of its images are not in the store, they are signed by the index alone; \
                     `gantry pull --all-platforms` brings them in"
                );
            }
            images
        }
    };
    for image in images {
        if image_signing::sign(&store, &image, identity, &key, whose)? {
            signed += 1;
        }
        if whose == Whose::Given {
            attest(&store, &image, &key, identity)?;
        }
        output::print(&format!("{name}@{image}\n"))?;
    }
    if signed == 0 {
        anstream::eprintln!("{name} was signed by this key as {identity} before");
    } else {
        anstream::eprintln!(
            "signed as {identity}, by key {}",
            key.verification_key().fingerprint()
        );
    }
    Ok(ExitCode::Done)
}

/// Signs what is known about how the image was built, unless this key did before.
fn attest(store: &Store, image: &Digest, key: &SigningKey, identity: &str) -> anyhow::Result<()> {
    let Some(predicate) = store.provenance(image).map_err(super::store_error)? else {
        return Ok(());
    };
    let statement = Statement::about(image, identity, PROVENANCE, predicate);
    let mut envelope = Envelope::of(&statement);
    let public = key.verification_key();
    let known = store.attestations(image).map_err(super::store_error)?;
    if known
        .iter()
        .any(|one| one.payload == envelope.payload && is_signed_by(one, &public))
    {
        return Ok(());
    }
    let bytes = envelope.signed_bytes().expect("it was just made");
    let signature = key
        .sign_bytes(&bytes)
        .map_err(|error| failure(ExitCode::Failed, error))?;
    envelope.add_signature(&signature);
    store
        .add_attestation(image, &envelope)
        .map_err(super::store_error)
}

/// A name without tag and digest: what a signature says is one.
fn repository(text: &str) -> Result<String, String> {
    let parsed: ImageReference = text.parse().map_err(|error| format!("{error}"))?;
    if parsed.name() == text {
        return Ok(text.to_owned());
    }
    Err(format!(
        "a signature holds for every tag of a repository: leave out {:?}",
        text.strip_prefix(parsed.name()).unwrap_or_default()
    ))
}
