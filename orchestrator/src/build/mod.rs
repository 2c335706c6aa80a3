//! Kubefile and context in, ClusterImage out.
//!
//! ```text
//! Kubefile ─ kubefile ─▶ directives ─ recipe ─▶ steps ─ copy, run ─▶ layers ─ assemble ─▶ image
//! ```
//!
//! Steps that were carried out before are not carried out again; a build that failed or was killed goes on where it was.
//! Every mistake that can be found without building is found, and shown together, before the first byte is read.
//! Same inputs, same digests: times are `SOURCE_DATE_EPOCH` or 0, owners root, entries sorted, modes kept.

mod applications;
mod archives;
mod assemble;
mod base;
mod builder;
mod cache;
mod container_images;
mod context;
mod copy;
mod ignore;
mod image_source;
mod kubeadm_images;
pub mod kubefile;
pub mod merge;
mod pattern;
pub mod platform;
mod provenance;
mod recipe;
mod registry_layout;
mod remote;
pub mod run;
mod scope;
mod tree;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use gantry_model::{ExitCode, ImageReference, LayerDescriptor};
use gantry_store::{Image, LayerError, Platform, Store, StoreError};

use crate::clusterfile::{Mistake, Mistakes};
use crate::completeness::{IgnoredImages, Place};
use crate::exit::{OrExit as _, failure, failure_hint};

use base::BaseImage;
use builder::Builder;
use context::{BuildContext, Found, FoundKind};
pub use image_source::{ContainerImageSource, FoundContainerImage};
pub use kubeadm_images::add_kubeadm_images;
pub use provenance::PROVENANCE;
use recipe::{CopySource, Recipe, StepKind};
use remote::Fetched;

/// What is to be built.
#[derive(Debug)]
pub struct BuildOptions {
    /// Name of the image.
    pub name: ImageReference,
    /// How the Kubefile is called in messages.
    pub kubefile_name: String,
    /// The Kubefile's text.
    pub kubefile: String,
    /// The folder that COPY reads from.
    pub context: PathBuf,
    /// Values for ARG.
    pub build_args: BTreeMap<String, String>,
    /// The platform that is built for; none for what FROM says, or else this host's.
    pub platform: Option<Platform>,
    /// What the image is for; none for what its base says, or else a whole cluster.
    pub image_type: Option<ImageType>,
    /// Whether RUN has the host's network, and sources may lie elsewhere.
    pub network: bool,
    /// Whether steps that were carried out before are not carried out again.
    pub cache: bool,
    /// The time of everything in the image, seconds since the epoch.
    pub epoch: i64,
    /// Container images that the image has to have inside.
    pub container_images: ContainerImageOptions,
    /// Labels of the image, over those of the Kubefile.
    pub labels: BTreeMap<String, String>,
    /// Annotations of its manifest, over those of the base.
    pub annotations: BTreeMap<String, String>,
}

/// Which container images an image has to have inside.
#[derive(Debug, Clone, Default)]
pub struct ContainerImageOptions {
    /// Whether those that are missing are brought.
    pub mode: BuildMode,
    /// Some that no file of the image names, and where they are named.
    pub listed: Vec<(ImageReference, Place)>,
    /// Some that need not be inside.
    pub ignored: IgnoredImages,
}

/// What a build does about container images that files of the image name and that are not inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum BuildMode {
    /// They are brought; what cannot be had fails the build
    #[default]
    All,
    /// They are named, and not asked for; mistakes in lists are warnings
    Lite,
}

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ImageType {
    /// It makes hosts a cluster.
    KubeInstaller,
    /// It brings applications to a cluster.
    AppInstaller,
}

/// What happens during a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent<'a> {
    /// A directive is carried out.
    Step {
        /// Its number, from 1.
        number: usize,
        /// How many there are.
        of: usize,
        /// Its text.
        text: &'a str,
    },
    /// This source lies elsewhere, and is fetched.
    Fetching(&'a str),
    /// It made this layer; none when it changed nothing.
    Layer(Option<&'a LayerDescriptor>),
    /// It was carried out before, and made this layer then.
    Cached(Option<&'a LayerDescriptor>),
    /// A RUN command wrote this line.
    Output(&'a str),
    /// These container images are named, not inside, and brought.
    Bringing(&'a [ImageReference]),
    /// A container image that is named cannot be had: where it is named, and why.
    Missing(&'a str),
    /// Something that people should know.
    Warning(&'a str),
}

/// What a build made.
#[derive(Debug)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// What it is built on, as it was found; none for `FROM scratch`.
    pub base: Option<Image>,
}

/// Builds the image and gives it its name. Container images that it lacks are taken from `source`.
///
/// # Errors
/// When the Kubefile has mistakes, something cannot be copied, a RUN command fails, a container image cannot be had, or the
/// store cannot be written.
/// The name leads where it led before then.
pub fn build(
    store: &Store,
    options: &BuildOptions,
    source: &mut dyn ContainerImageSource,
    event: &mut dyn FnMut(BuildEvent<'_>),
) -> anyhow::Result<Built> {
    let context = BuildContext::open(&options.context)
        .with_context(|| format!("cannot build from {}", options.context.display()))
        .or_exit_hint(
            ExitCode::Input,
            "the last argument is the folder to build from; its .kubeignore says what stays out",
        )?;
    let nothing_vanishes = store.share()?;
    let mut mistakes = Vec::new();
    let kubefile = kubefile::parse(&options.kubefile, &mut mistakes);
    let find_base = |name: &ImageReference, platform: &Platform| BaseImage::find(store, name, platform);
    let mut recipe = recipe::prepare(
        &kubefile,
        &options.build_args,
        options.platform.as_ref(),
        &find_base,
        &mut mistakes,
    );
    let mut found = find_sources(&recipe, &context, &[], &mut mistakes);
    check_network(&recipe, options, &mut mistakes);
    let fetched = if mistakes.is_empty() {
        fetch(store, options, &recipe, event)?
    } else {
        None
    };
    if let Some((_, remote)) = &fetched {
        found = find_sources(&recipe, &context, remote, &mut mistakes);
    }
    let complete = recipe.complete;
    recipe
        .applications
        .settle(&found, &context, complete, &mut mistakes);
    for warning in &recipe.warnings {
        event(BuildEvent::Warning(warning));
    }
    refuse(mistakes, options)?;
    check_privileges(&recipe)?;

    let mut builder = Builder::new(store, options, &context, recipe.base.as_ref());
    let base_name = recipe
        .base
        .as_ref()
        .and_then(|base| base.image.reference.as_ref());
    let of = recipe.steps.len() + 1;
    let text = format!(
        "FROM {}",
        base_name.map_or("scratch".to_owned(), ToString::to_string)
    );
    event(BuildEvent::Step {
        number: 1,
        of,
        text: &text,
    });
    let outcome = builder
        .carry_out(&recipe.steps, found, event)
        .and_then(|()| builder.complete(&recipe, source, event))
        .and_then(|()| builder.image(&recipe));
    let remote = fetched
        .as_ref()
        .map_or(&[][..], |(fetched, _)| fetched.materials());
    let provenance = provenance::predicate(&recipe, options, &[remote, builder.materials()].concat());
    let ended = builder.end(outcome.is_ok());
    let outcome = outcome.and_then(|image| ended.map(|()| image));
    let (layers, unpacked) = builder.layers();
    match outcome {
        Ok(image) => {
            let image = store
                .add_image(nothing_vanishes, &options.name, &image)
                .map_err(|error| (error.exit_code(), error))
                .or_else(|(code, error)| Err(error).or_exit(code))?;
            store
                .set_provenance(&image.manifest_digest, &provenance)
                .map_err(|error| (error.exit_code(), error))
                .or_else(|(code, error)| Err(error).or_exit(code))?;
            if !unpacked.is_empty() {
                // The image is there; what cannot be removed now goes with the next `gantry prune`.
                let _ = store.sweep(unpacked);
            }
            let base = recipe.base.map(|base| base.image);
            Ok(Built { image, base })
        }
        Err(error) => {
            drop(nothing_vanishes);
            // The error is what matters; what cannot be removed now goes with the next removal.
            let _ = store.sweep(layers.into_iter().chain(unpacked));
            Err(error)
        }
    }
}

/// What FROM of the Kubefile names, and the platform for which it is needed when `chosen` is built for; none for `FROM scratch`,
/// and where the Kubefile has mistakes, which a build shows.
#[must_use]
pub fn base_of(options: &BuildOptions, chosen: Option<&Platform>) -> Option<(ImageReference, Platform)> {
    let asked = RefCell::new(None);
    let find_base = |name: &ImageReference, platform: &Platform| {
        *asked.borrow_mut() = Some((name.clone(), platform.clone()));
        Err(StoreError::malformed(
            format!("image {name}"),
            "it is not looked for",
        ))
    };
    let mut mistakes = Vec::new();
    let kubefile = kubefile::parse(&options.kubefile, &mut mistakes);
    if !mistakes.is_empty() {
        return None;
    }
    recipe::prepare(&kubefile, &options.build_args, chosen, &find_base, &mut mistakes);
    asked.into_inner()
}

/// What every source of every COPY names, in order; `remote` is what was fetched, in the same order.
fn find_sources(
    recipe: &Recipe,
    context: &BuildContext,
    remote: &[Found],
    mistakes: &mut Vec<Mistake>,
) -> Vec<Vec<Found>> {
    let mut remote = remote.iter();
    let mut all = Vec::new();
    for step in &recipe.steps {
        let StepKind::Copy { sources, .. } = &step.kind else {
            continue;
        };
        let mut found = Vec::new();
        for (source, span) in sources {
            let path = match source {
                CopySource::Path(path) => path,
                CopySource::Text(name, text) => {
                    found.push(Found {
                        kind: FoundKind::Text(text.clone().into_bytes()),
                        name: name.clone(),
                    });
                    continue;
                }
                CopySource::Remote(..) => {
                    found.extend(remote.next().cloned());
                    continue;
                }
            };
            match context.find(path) {
                Ok(more) => found.extend(more),
                Err(error) => {
                    let mistake = Mistake::new(span.clone(), error.message);
                    mistakes.push(match error.help {
                        Some(help) => mistake.help(help),
                        None => mistake,
                    });
                }
            }
        }
        all.push(found);
    }
    all
}

/// Nothing is asked for that is not in the context, unless that was allowed.
fn check_network(recipe: &Recipe, options: &BuildOptions, mistakes: &mut Vec<Mistake>) {
    if options.network {
        return;
    }
    for (_, _, span) in recipe.remote_sources() {
        let mistake = Mistake::new(span.clone(), "this lies elsewhere, and a build asks nobody");
        let help = "allow it with --network host, or fetch it into the context before the build";
        mistakes.push(mistake.help(help));
    }
}

/// What lies elsewhere, in the order of the directives; it is there as long as the first of the two.
type Remote = Option<(Fetched, Vec<Found>)>;

/// Fetches what lies elsewhere.
fn fetch(
    store: &Store,
    options: &BuildOptions,
    recipe: &Recipe,
    event: &mut dyn FnMut(BuildEvent<'_>),
) -> anyhow::Result<Remote> {
    let mut sources = recipe.remote_sources().peekable();
    if sources.peek().is_none() {
        return Ok(None);
    }
    // Nothing large is fetched for a build that cannot be done.
    check_privileges(recipe)?;
    let tmp = store.tmp_dir();
    let fetched =
        Fetched::begin(&tmp).with_context(|| format!("cannot create a folder in {}", tmp.display()));
    let (mut fetched, mut found) = (fetched?, Vec::new());
    for (source, checksum, span) in sources {
        event(BuildEvent::Fetching(&source.to_string()));
        match fetched.fetch(source, checksum) {
            Ok(one) => found.push(one),
            Err(error) => {
                let mistake = Mistake::new(span.clone(), error.message).help(error.help);
                shown(vec![mistake], options);
                let message = format!("{source} cannot be had; nothing was built");
                return Err(failure(error.code, message));
            }
        }
    }
    Ok(Some((fetched, found)))
}

fn refuse(mistakes: Vec<Mistake>, options: &BuildOptions) -> anyhow::Result<()> {
    if mistakes.is_empty() {
        return Ok(());
    }
    Err(failure(ExitCode::Input, shown(mistakes, options)))
}

/// Shows the mistakes with the lines of the Kubefile they are in; what is given counts them.
fn shown(mistakes: Vec<Mistake>, options: &BuildOptions) -> Mistakes {
    let mistakes = Mistakes::new(
        options.kubefile_name.as_str(),
        options.kubefile.as_str(),
        mistakes,
    );
    anstream::eprint!("{}", mistakes.render(true));
    mistakes
}

fn check_privileges(recipe: &Recipe) -> anyhow::Result<()> {
    let runs = recipe
        .steps
        .iter()
        .any(|step| matches!(step.kind, StepKind::Run { .. }));
    if !runs || rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(failure_hint(
        ExitCode::Input,
        "the Kubefile has RUN, which mounts the rootfs: only root may do that",
        "run `sudo gantry build …`, or do the work before and COPY its result",
    ))
}

/// A layer's error with its exit code.
fn layer_error(error: LayerError) -> anyhow::Error {
    let code = error.exit_code();
    Err::<(), _>(error).or_exit(code).expect_err("it is an error")
}
