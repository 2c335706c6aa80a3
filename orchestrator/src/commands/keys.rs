//! `gantry keys`: pairs of keys for signing images.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use gantry_model::ExitCode;
use gantry_signing::{KeyKind, SigningKey};

use super::{key_file, output_file};
use crate::context::Context;
use crate::exit::{failure, failure_hint};
use crate::output;
use crate::state::State;

/// Flags of `gantry keys`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Keys,
}

#[derive(Debug, Subcommand)]
enum Keys {
    /// Make a private key to sign with, and its public key to verify with
    #[command(after_help = "\
The private key (PKCS#8, mode 0600) is not encrypted: keep it where nobody else reads. The public
key goes to whoever verifies. Both are what openssl reads; cosign takes them, too:
  cosign import-key-pair --key gantry.key    to sign with cosign by the same key
  cosign verify --key gantry.pub --insecure-ignore-tlog=true IMAGE

Examples:
  gantry keys generate                          writes gantry.key and gantry.pub
  gantry keys generate -o /root/keys/release    release.key and release.pub there")]
    Generate(Generate),

    /// Print the public half of the key that this orchestrator signs images with
    #[command(after_help = "\
`gantry build`, `gantry merge` and `gantry sign` without --key use it; it is made when it is needed
first, beside this orchestrator's CA. Hosts are told it by every `gantry apply`, and what it signed
stays here: for others, sign by a key of `gantry keys generate`.

Example:
  gantry keys show > ours.pub; gantry verify --key ours.pub kubernetes:v1.31.4")]
    Show,
}

#[derive(Debug, clap::Args)]
struct Generate {
    /// Where to: PREFIX.key and PREFIX.pub are written; files that are there stay
    #[arg(short, long, value_name = "PREFIX", default_value = "gantry", value_hint = ValueHint::FilePath)]
    output: PathBuf,

    /// Algorithm of the keys
    #[arg(long = "type", value_enum, default_value_t, value_name = "TYPE")]
    kind: Kind,
}

/// Algorithms of keys.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Kind {
    /// ECDSA on the curve P-256 with SHA-256, as cosign and podman have it
    #[default]
    EcdsaP256,
    /// Ed25519
    Ed25519,
}

/// Runs `gantry keys`.
///
/// # Errors
/// When a file is there already, or one cannot be read or written.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let args = match args.command {
        Keys::Generate(args) => args,
        Keys::Show => {
            let key = State::new(context.root()).image_key_or_create()?;
            output::print(&key.verification_key().to_pem())?;
            return Ok(ExitCode::Done);
        }
    };
    let kind = match args.kind {
        Kind::EcdsaP256 => KeyKind::EcdsaP256,
        Kind::Ed25519 => KeyKind::Ed25519,
    };
    let file = |ending: &str| {
        let mut name = args.output.clone().into_os_string();
        name.push(ending);
        PathBuf::from(name)
    };
    let (private, public) = (file(".key"), file(".pub"));
    output_file::folder(&private)?;
    for path in [&private, &public] {
        if path.exists() {
            return Err(failure_hint(
                ExitCode::Input,
                format!(
                    "{} is there already, and keys are never overwritten",
                    path.display()
                ),
                "give the pair another name with -o PREFIX",
            ));
        }
    }
    let (key, text) = SigningKey::generate(kind).map_err(|error| failure(ExitCode::Failed, error))?;
    key_file::write_new(&private, &text, 0o600)?;
    if let Err(error) = key_file::write_new(&public, &key.verification_key().to_pem(), 0o644) {
        // A private key that nobody was told of.
        drop(std::fs::remove_file(&private));
        return Err(error);
    }
    output::print(&format!("{}\n{}\n", private.display(), public.display()))?;
    Ok(ExitCode::Done)
}
