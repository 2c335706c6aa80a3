//! `gantry build`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::ValueHint;
use gantry_model::{Digest, ExitCode, ImageReference};
use gantry_registry_client::{Platforms, PullOptions, RegistryError, Settings};
use gantry_store::extension::{ANNOTATION_CONTAINER_IMAGES, ANNOTATION_EXTENSION};
use gantry_store::{Image, Platform, Store, StoreError};

use super::container_images::ContainerImageArgs;
use super::image_signing::SignArgs;
use super::{connect, pull, registry, tag};
use crate::build::{
    BuildEvent, BuildOptions, Built, ContainerImageSource, ImageType, base_of, build, kubefile, platform,
};
use crate::context::Context;
use crate::exit::{OrExit as _, failure, failure_hint};
use crate::output;
use crate::output::bytes;
use crate::report::transfers::Transfers;

/// Annotations that a build writes.
const WRITTEN_BY_BUILDS: [&str; 2] = [ANNOTATION_EXTENSION, ANNOTATION_CONTAINER_IMAGES];

/// What becomes of a build that is interrupted.
pub(super) const GIVEN_UP: &str =
    "no image was made; steps that ended are cached: run the same command again to go on";

/// Name of the Kubefile in a context, unless `-f` gives another.
const KUBEFILE: &str = "Kubefile";

/// Flags of `gantry build`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("insecure", |flag| flag.help("Accept any certificate of --from-registry, and plain HTTP")), after_help = "\
What .kubeignore names (else .dockerignore, same syntax) stays out of the build.
Steps that were carried out before, on the same layers with the same files, are cached; a build
that failed goes on where it was. `gantry prune` removes what no image has.
A base that is not in the store is pulled, as `gantry pull` does it; one that is there is used as it
is, and no registry is asked for it. Where nobody signed it, what is built on it is not signed,
either; see `gantry sign`.
Directives: FROM, COPY, ADD, RUN, ENV, ARG, LABEL, MAINTAINER, KUBEVERSION,
APP, CNI, CSI, APPENV, APPCMDS, and for what runs on the complete cluster LAUNCH, CMDS, CMD.

With --network host, sources may be addresses: https://HOST/FILE (with --checksum=sha256:… it has to
be that file), and https://HOST/REPOSITORY.git#COMMIT:FOLDER or git@HOST:REPOSITORY.git, for which
git is needed.

Container images that files of the image name (manifests/, charts/, application/apps/, lists in
imageList; templates and charts as the image's own values make them) have to be in registry/. Those
that are not are brought there; one that cannot be had fails the build, with file and line.

Examples:
  gantry build -t kubernetes:v1.31.4 .
  gantry build -t shop:v7 --from-archive images.tar --from-registry 10.0.0.9:5000/mirror .
  gantry build -t shop:v7 --insecure-registry hub.lab:5000 --image-list-with-auth images.yaml .
  gantry build -t shop:v7 --pull=always --label release=7 .        the base is the registry's newest
  gantry build -t shop:v7 --pull=never .                           no registry is asked for the base
  gantry build -t kubernetes:v1.31.4 --platform linux/amd64,linux/arm64 .    one name for both
  gantry build -t app:v2 -f app.Kubefile --build-arg Version=2 --platform linux/arm64 app")]
pub struct Args {
    /// Name of the image, NAME[:TAG]; may be repeated
    #[arg(short, long, required = true, alias = "imageName", value_name = "NAME")]
    tag: Vec<ImageReference>,

    /// The Kubefile, `-` is standard input [default: CONTEXT/Kubefile]
    #[arg(short, long, alias = "kubefile", value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,

    /// When to ask a registry for the image that FROM names
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pull: PullBase,

    /// Value of an ARG of the Kubefile; without =VALUE taken from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,

    /// Platform to build for, OS/ARCH[/VARIANT]; several make one image for all of them
    /// [default: what FROM says, else this host's]
    #[arg(long, value_name = "PLATFORM", value_parser = platform::parse, value_delimiter = ',')]
    platform: Vec<Platform>,

    /// Network of RUN commands; with the host's, COPY, ADD and APP may take what lies elsewhere
    #[arg(long, value_enum, default_value_t)]
    network: Network,

    /// Carry out every step, also those that were carried out before
    #[arg(long)]
    no_cache: bool,

    /// What the image is for, as it says to others [default: what its base says, else kube-installer]
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    image_type: Option<ImageType>,

    /// A label of the image, over those of the Kubefile; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,

    /// An annotation of the image's manifest; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = annotation)]
    annotation: Vec<(String, String)>,

    /// Folder that COPY reads from
    #[arg(value_hint = ValueHint::DirPath, default_value = ".")]
    context: PathBuf,

    #[command(flatten)]
    signing: SignArgs,

    #[command(flatten)]
    container_images: ContainerImageArgs,
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

/// When a registry is asked for the image that FROM names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum PullBase {
    /// When no image of this name, for this platform, is in the store
    #[default]
    Missing,
    /// Never: it has to be in the store
    #[value(alias = "false")]
    Never,
    /// Always; what is in the store already does not travel
    #[value(alias = "ifnewer", alias = "true")]
    Always,
}

/// Runs `gantry build`.
///
/// # Errors
/// When it fails.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let (container_images, settings) = args.container_images.options()?;
    let file = args.file.unwrap_or_else(|| args.context.join(KUBEFILE));
    let (kubefile, kubefile_name) = read_kubefile(&file)?;
    let mut platforms = args.platform;
    let mut names = args.tag.into_iter();
    let name = names.next().expect("one is required");
    let also = names.as_slice();
    let mut options = BuildOptions {
        kubefile,
        kubefile_name,
        name: name.clone(),
        context: args.context,
        build_args: build_args(&args.build_arg)?,
        platform: None,
        image_type: args.image_type,
        cache: !args.no_cache,
        network: args.network == Network::Host,
        epoch: source_date_epoch()?,
        container_images,
        labels: args.label.into_iter().collect(),
        annotations: args.annotation.into_iter().collect(),
    };
    // What is pulled gets past this machine's policy.
    let store = connect::store(context)?;
    pull_bases(args.pull, &store, &platforms, &options, &settings)?;
    let source = || args.container_images.source(&store, &settings);
    let (digest, bases) = if platforms.len() > 1 {
        build_for_each(&store, &platforms, &mut options, &mut || Box::new(source()))?
    } else {
        options.platform = platforms.pop();
        let Built { image, base } = build(&store, &options, &mut source(), &mut show)?;
        (image.manifest_digest, base.into_iter().collect())
    };
    args.signing.sign(&store, &name, &bases, context)?;
    tag::add_names(&store, &name, also, context)?;
    for name in std::iter::once(&name).chain(also) {
        output::print(&format!("{name}@{digest}\n"))?;
    }
    Ok(ExitCode::Done)
}

/// Brings what FROM names in from a registry, for each of `platforms`.
fn pull_bases(
    when: PullBase,
    store: &Store,
    platforms: &[Platform],
    options: &BuildOptions,
    settings: &Settings,
) -> anyhow::Result<()> {
    if when == PullBase::Never {
        return Ok(());
    }
    let chosen: Vec<Option<&Platform>> = match platforms {
        [] => vec![None],
        platforms => platforms.iter().map(Some).collect(),
    };
    let mut bases = BTreeMap::new();
    for (name, platform) in chosen.into_iter().filter_map(|chosen| base_of(options, chosen)) {
        let here = store.image_for(&name, &platform);
        if when == PullBase::Always || here.is_err() {
            bases.insert(format!("{name} {platform}"), (name, platform, here.err()));
        }
    }
    let transfers = Arc::new(Transfers::new("pulled", false));
    for (name, platform, missing) in bases.into_values() {
        let client = registry::client(settings.clone(), &transfers)?;
        let options = PullOptions {
            platforms: Platforms::One(platform),
        };
        let shown = transfers.clone();
        let pulled = connect::block_on(
            async {
                let pulled = client
                    .pull(store, &name, &options, move |event| shown.chunking(event))
                    .await;
                pulled.map_err(|error| no_base(error, &name, missing.as_ref()))
            },
            "what arrived is kept; run the same command again to go on",
        );
        transfers.end(pulled.is_ok());
        pulled?;
    }
    Ok(())
}

/// The error of a base that no registry gave; why there is none in the store, if there is none.
fn no_base(error: RegistryError, name: &ImageReference, missing: Option<&StoreError>) -> anyhow::Error {
    let hint = match missing {
        Some(_) => pull::of_another_registry(&error, name).unwrap_or_else(|| {
            "`gantry load FILE` brings it in from an archive; then no registry is asked".to_owned()
        }),
        None => "--pull=missing takes the one that is in the store".to_owned(),
    };
    let why = match missing {
        Some(missing) => {
            let missing = missing.to_string();
            let end = if missing.ends_with('?') { "" } else { "." };
            format!("{missing}{end} It cannot be pulled, either")
        }
        None => format!("{name}, which FROM names, cannot be pulled"),
    };
    let code = error.exit_code();
    let failed: Result<(), _> = Err(error).or_exit_hint(code, hint);
    failed.expect_err("it is an error").context(why)
}

/// Builds one image after another, each under a name of its own until all are there; then one name leads to all of them. What that
/// is, and what they are built on.
fn build_for_each<'s>(
    store: &Store,
    platforms: &[Platform],
    options: &mut BuildOptions,
    source: &mut dyn FnMut() -> Box<dyn ContainerImageSource + 's>,
) -> anyhow::Result<(Digest, Vec<Image>)> {
    let name = options.name.clone();
    let (mut own_names, mut bases): (Vec<ImageReference>, Vec<Image>) = Default::default();
    let mut build_all = |own_names: &mut Vec<ImageReference>| {
        for (number, platform) in platforms.iter().enumerate() {
            if platforms[..number].contains(platform) {
                let message = format!("--platform names {platform} twice");
                return Err(failure(ExitCode::Input, message));
            }
            anstream::eprintln!("{platform}, {} of {}:", number + 1, platforms.len());
            options.name = name_for(&name, platform)?;
            options.platform = Some(platform.clone());
            let built = build(store, options, &mut *source(), &mut show)?;
            bases.extend(built.base);
            own_names.push(options.name.clone());
        }
        let mut entries = Vec::new();
        for own in &*own_names {
            entries.extend(store.platforms(own).map_err(super::store_error)?);
        }
        store.set_platforms(&name, entries).map_err(super::store_error)
    };
    let built = build_all(&mut own_names);
    for own in &own_names {
        let removed = store.remove_image(own).map_err(super::store_error);
        // Why the build failed matters more.
        if built.is_ok() {
            removed?;
        }
    }
    Ok((built?, bases))
}

/// The name of an image for one platform while the others are built.
fn name_for(name: &ImageReference, platform: &Platform) -> anyhow::Result<ImageReference> {
    let platform = platform.to_string().replace('/', "-");
    let tag = name.tag().unwrap_or("latest");
    let text = format!("{}:{tag}.building-{platform}", name.name());
    text.parse()
        .map_err(|error| failure(ExitCode::Input, format!("--tag: {error}")))
}

fn show(event: BuildEvent<'_>) {
    let dim = anstyle::Style::new().dimmed();
    let warning = anstyle::AnsiColor::Yellow.on_default().bold();
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
        BuildEvent::Cached(Some(layer)) => {
            anstream::eprintln!(
                "{dim}  cached, layer {}, {}{dim:#}",
                layer.digest.short(),
                bytes(layer.size)
            );
        }
        BuildEvent::Bringing(images) => {
            let names: Vec<String> = images.iter().take(8).map(ToString::to_string).collect();
            let more = images.len().saturating_sub(names.len());
            let more = if more == 0 {
                String::new()
            } else {
                format!(" and {more} more")
            };
            let bold = anstyle::Style::new().bold();
            anstream::eprintln!("{bold}[registry/]{bold:#} {}{more}", names.join(", "));
        }
        BuildEvent::Fetching(source) => {
            let bold = anstyle::Style::new().bold();
            anstream::eprintln!("{bold}[fetch]{bold:#} {source}");
        }
        BuildEvent::Missing(text) => {
            let red = anstyle::AnsiColor::Red.on_default().bold();
            anstream::eprintln!("{red}missing:{red:#} {text}");
        }
        BuildEvent::Warning(text) => anstream::eprintln!("{warning}warning:{warning:#} {text}"),
        BuildEvent::Cached(None) => anstream::eprintln!("{dim}  cached, no changes, no layer{dim:#}"),
        BuildEvent::Layer(None) => anstream::eprintln!("{dim}  no changes, no layer{dim:#}"),
    }
}

/// The text of the Kubefile at `path`, and what messages call it.
fn read_kubefile(path: &Path) -> anyhow::Result<(String, String)> {
    let hint = "give the Kubefile with -f, or the folder it lies in as the last argument";
    let is_stdin = path == Path::new("-");
    let name = if is_stdin {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let source: Box<dyn io::Read> = if is_stdin {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path)?)
        };
        source.take(kubefile::MAX_LEN + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read()
        .with_context(|| format!("cannot read {name}"))
        .or_exit_hint(ExitCode::Input, hint)?;
    if bytes.len() as u64 > kubefile::MAX_LEN {
        let message = format!("{name} is larger than 1 MiB: it is no Kubefile");
        return Err(failure_hint(ExitCode::Input, message, hint));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        failure_hint(
            ExitCode::Input,
            format!("{name}:{line}: this is not UTF-8 text"),
            hint,
        )
    })?;
    Ok((text, name))
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

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} has to be NAME=VALUE")),
    }
}

fn annotation(text: &str) -> Result<(String, String), String> {
    let (name, value) = pair(text)?;
    match WRITTEN_BY_BUILDS.contains(&name.as_str()) {
        true => Err(format!(
            "a build itself writes {name}: what it says comes of the Kubefile"
        )),
        false => Ok((name, value)),
    }
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
