//! `gantry build`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueHint;
use gantry_model::{ExitCode, ImageReference};
use gantry_store::{Platform, Store};

use crate::build::{BuildEvent, BuildOptions, build, kubefile};
use crate::context::Context;
use crate::exit::{OrExit as _, failure, failure_hint};
use crate::output;
use crate::output::bytes;

/// Name of the Kubefile in a context, unless `-f` gives another.
const KUBEFILE: &str = "Kubefile";

/// Flags of `gantry build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the image, NAME[:TAG]
    #[arg(short, long, value_name = "NAME")]
    tag: ImageReference,

    /// The Kubefile [default: CONTEXT/Kubefile]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,

    /// Value of an ARG of the Kubefile; without =VALUE taken from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,

    /// Platform to build for, OS/ARCH[/VARIANT] [default: this host's]
    #[arg(long, value_parser = platform)]
    platform: Option<Platform>,

    /// Network of RUN commands
    #[arg(long, value_enum, default_value_t)]
    network: Network,

    /// Folder that COPY reads from
    #[arg(value_hint = ValueHint::DirPath)]
    context: PathBuf,
}

/// Network of RUN commands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Network {
    /// None at all: what is built depends on the context only
    #[default]
    None,
    /// The host's
    Host,
}

/// Runs `gantry build`.
///
/// # Errors
/// When it fails.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let file = args.file.unwrap_or_else(|| args.context.join(KUBEFILE));
    let options = BuildOptions {
        kubefile: read_kubefile(&file)?,
        kubefile_name: file.display().to_string(),
        name: args.tag,
        context: args.context,
        build_args: build_args(&args.build_arg)?,
        platform: args.platform.unwrap_or_else(Platform::host),
        network: args.network == Network::Host,
        epoch: source_date_epoch()?,
    };
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let image = build(&store, &options, &mut show)?;
    output::print(&format!("{}@{}\n", options.name, image.manifest_digest))?;
    Ok(ExitCode::Done)
}

fn show(event: BuildEvent<'_>) {
    let dim = anstyle::Style::new().dimmed();
    match event {
        BuildEvent::Step { number, of, text } => {
            let text: String = text.chars().take(160).collect();
            let bold = anstyle::Style::new().bold();
            anstream::eprintln!("{bold}[{number}/{of}]{bold:#} {text}");
        }
        BuildEvent::Output(line) => anstream::eprintln!("{dim}  |{dim:#} {line}"),
        BuildEvent::Layer(Some(layer)) => {
            anstream::eprintln!(
                "{dim}  layer {}, {}{dim:#}",
                layer.digest.short(),
                bytes(layer.size)
            );
        }
        BuildEvent::Layer(None) => anstream::eprintln!("{dim}  no changes, no layer{dim:#}"),
    }
}

fn read_kubefile(path: &Path) -> anyhow::Result<String> {
    let hint = "give the Kubefile with -f, or the folder it lies in as the last argument";
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(kubefile::MAX_LEN + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read()
        .with_context(|| format!("cannot read {}", path.display()))
        .or_exit_hint(ExitCode::Input, hint)?;
    if bytes.len() as u64 > kubefile::MAX_LEN {
        let message = format!("{} is larger than 1 MiB: it is no Kubefile", path.display());
        return Err(failure_hint(ExitCode::Input, message, hint));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        failure_hint(
            ExitCode::Input,
            format!("{}:{line}: this is not UTF-8 text", path.display()),
            hint,
        )
    })
}

fn build_args(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for text in texts {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let message =
                    format!("--build-arg {text} has no value, and there is no {text} in the environment");
                let value = std::env::var(text).map_err(|_| failure(ExitCode::Input, message))?;
                (text.as_str(), value)
            }
        };
        values.insert(name.to_owned(), value);
    }
    Ok(values)
}

/// The time of everything in the image: `SOURCE_DATE_EPOCH` (reproducible-builds.org), else the epoch itself.
fn source_date_epoch() -> anyhow::Result<i64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(0),
        Ok(text) if text.is_empty() => Ok(0),
        Ok(text) => text
            .parse()
            .ok()
            .filter(|seconds| jiff::Timestamp::from_second(*seconds).is_ok())
            .ok_or_else(|| {
                let message = format!("SOURCE_DATE_EPOCH is {text:?}, which is not a number of seconds");
                failure(ExitCode::Input, message)
            }),
    }
}

/// A platform as people write it.
pub(super) fn platform(text: &str) -> Result<Platform, String> {
    let mut parts = text.split('/');
    let word = |part: Option<&str>| {
        let part = part?;
        let legal = !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        legal.then(|| part.to_owned())
    };
    if text.contains(',') {
        return Err(
            "several platforms at once are not supported by this version; build one after another".to_owned(),
        );
    }
    let (os, architecture) = (word(parts.next()), word(parts.next()));
    let variant = parts.next();
    match (os, architecture, word(variant), parts.next()) {
        (Some(os), Some(architecture), checked, None) if checked.is_some() == variant.is_some() => {
            if os != "linux" {
                return Err(format!(
                    "{os} is no operating system of a cluster host; write linux/amd64 or linux/arm64"
                ));
            }
            Ok(Platform {
                architecture,
                os,
                variant: checked,
            })
        }
        _ => Err("a platform is written OS/ARCH[/VARIANT], e.g. linux/amd64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_os_and_architecture() {
        assert_eq!(platform("linux/arm64/v8").unwrap().variant.as_deref(), Some("v8"));
        for text in [
            "",
            "linux",
            "linux/",
            "linux/amd64,linux/arm64",
            "linux/amd64/",
            "windows/amd64",
            "linux/a/b/c",
        ] {
            assert!(platform(text).is_err(), "{text}");
        }
    }
}
