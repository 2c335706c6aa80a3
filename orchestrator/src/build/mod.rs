//! Kubefile and context in, ClusterImage out.
//!
//! ```text
//! Kubefile ─ kubefile ─▶ directives ─ recipe ─▶ steps ─ copy, run ─▶ layers ─ assemble ─▶ image
//! ```
//!
//! Every mistake that can be found without building is found, and shown together, before the first byte is read.
//! Same inputs, same digests: times are `SOURCE_DATE_EPOCH` or 0, owners root, entries sorted, modes kept.

mod assemble;
mod base;
mod context;
mod copy;
pub mod kubefile;
mod recipe;
pub mod run;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use gantry_model::{ExitCode, ImageReference, LayerDescriptor};
use gantry_store::{ChunkSource, Descriptor, Image, LayerError, LayerOptions, Platform, Store};

use crate::clusterfile::{Mistake, Mistakes};
use crate::exit::{OrExit as _, failure, failure_hint};

use assemble::Assembly;
use base::BaseImage;
use context::{BuildContext, Found};
use copy::{CopyError, CopyPlan};
use kubefile::Command;
use recipe::{Recipe, Step, StepKind};
use tree::MergedTree;

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
    /// The platform that is built for.
    pub platform: Platform,
    /// Whether RUN has the host's network.
    pub network: bool,
    /// The time of everything in the image, seconds since the epoch.
    pub epoch: i64,
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
    /// It made this layer; none when it changed nothing.
    Layer(Option<&'a LayerDescriptor>),
    /// A RUN command wrote this line.
    Output(&'a str),
}

/// Builds the image and gives it its name.
///
/// # Errors
/// When the Kubefile has mistakes, something cannot be copied, a RUN command fails, or the store cannot be written.
/// The name leads where it led before then.
pub fn build(
    store: &Store,
    options: &BuildOptions,
    event: &mut dyn FnMut(BuildEvent<'_>),
) -> anyhow::Result<Image> {
    let context = BuildContext::open(&options.context)
        .with_context(|| format!("cannot build from {}", options.context.display()))
        .or_exit_hint(ExitCode::Input, "the last argument is the folder to build from")?;
    let nothing_vanishes = store.share()?;
    let mut mistakes = Vec::new();
    let kubefile = kubefile::parse(&options.kubefile, &mut mistakes);
    let find_base = |name: &ImageReference| BaseImage::find(store, name, &options.platform);
    let recipe = recipe::prepare(
        &kubefile,
        &options.build_args,
        &options.platform,
        &find_base,
        &mut mistakes,
    );
    let found = find_sources(&recipe, &context, &mut mistakes);
    refuse(mistakes, options)?;
    check_privileges(&recipe)?;

    let mut builder = Builder {
        store,
        options,
        layer_options: LayerOptions {
            mtime: options.epoch,
            ..LayerOptions::default()
        },
        assembly: Assembly::on(recipe.base.as_ref()),
        tree: MergedTree::default(),
    };
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
    if let Err(error) = builder.carry_out(&recipe.steps, found, event) {
        let layers: Vec<_> = builder
            .assembly
            .layers()
            .iter()
            .map(|layer| layer.digest)
            .collect();
        drop(nothing_vanishes);
        // The error is what matters; what cannot be removed now goes with the next removal.
        let _ = store.sweep(layers);
        return Err(error);
    }
    let image = builder.assembly.finish(&recipe, options);
    store
        .add_image(nothing_vanishes, &options.name, &image)
        .map_err(|error| (error.exit_code(), error))
        .or_else(|(code, error)| Err(error).or_exit(code))
}

/// What every source of every COPY names, in order.
fn find_sources(recipe: &Recipe, context: &BuildContext, mistakes: &mut Vec<Mistake>) -> Vec<Vec<Found>> {
    let mut all = Vec::new();
    for step in &recipe.steps {
        let StepKind::Copy { sources, .. } = &step.kind else {
            continue;
        };
        let mut found = Vec::new();
        for (source, span) in sources {
            match context.find(source) {
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

fn refuse(mistakes: Vec<Mistake>, options: &BuildOptions) -> anyhow::Result<()> {
    if mistakes.is_empty() {
        return Ok(());
    }
    let mistakes = Mistakes::new(
        options.kubefile_name.as_str(),
        options.kubefile.as_str(),
        mistakes,
    );
    anstream::eprint!("{}", mistakes.render(true));
    Err(failure(ExitCode::Input, mistakes))
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

struct Builder<'a> {
    store: &'a Store,
    options: &'a BuildOptions,
    layer_options: LayerOptions,
    assembly: Assembly,
    tree: MergedTree,
}

impl Builder<'_> {
    fn carry_out(
        &mut self,
        steps: &[Step],
        found: Vec<Vec<Found>>,
        event: &mut dyn FnMut(BuildEvent<'_>),
    ) -> anyhow::Result<()> {
        self.look_at_base()?;
        let mut found = found.into_iter();
        let of = steps.len() + 1;
        for (number, step) in steps.iter().enumerate() {
            let (number, text) = (number + 2, step.text.as_str());
            event(BuildEvent::Step { number, of, text });
            self.step(step, &mut found, event)?;
        }
        Ok(())
    }

    fn look_at_base(&mut self) -> anyhow::Result<()> {
        for layer in self.assembly.layers().to_vec() {
            self.grow_tree(&layer)?;
        }
        Ok(())
    }

    fn grow_tree(&mut self, layer: &LayerDescriptor) -> anyhow::Result<()> {
        let source = ChunkSource::open(self.store, &layer.digest).map_err(coded)?;
        self.tree.add(source.toc());
        Ok(())
    }

    fn step(
        &mut self,
        step: &Step,
        found: &mut impl Iterator<Item = Vec<Found>>,
        event: &mut dyn FnMut(BuildEvent<'_>),
    ) -> anyhow::Result<()> {
        let layer = match &step.kind {
            StepKind::Note => {
                self.assembly.note(&step.text);
                return Ok(());
            }
            StepKind::Copy { destination, .. } => {
                let found = found.next().unwrap_or_default();
                Some(self.copy(step, &found, destination)?)
            }
            StepKind::Run { command, env } => {
                let arguments = match command {
                    Command::Shell(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
                    Command::Arguments(arguments) => arguments.clone(),
                };
                let line = &mut |line: &str| event(BuildEvent::Output(line));
                run::run(
                    self.store,
                    self.assembly.layers(),
                    arguments,
                    env.clone(),
                    self.options.network,
                    &self.layer_options,
                    line,
                )
                .map_err(|error| self.at(step, error))?
            }
        };
        event(BuildEvent::Layer(layer.as_ref()));
        match layer {
            Some(layer) => {
                self.grow_tree(&layer)?;
                self.assembly.layer(&step.text, layer);
            }
            None => self.assembly.note(&step.text),
        }
        Ok(())
    }

    fn copy(
        &self,
        step: &Step,
        found: &[Found],
        destination: &(String, crate::clusterfile::tree::Span),
    ) -> anyhow::Result<LayerDescriptor> {
        let (destination, span) = destination;
        let plan = match CopyPlan::new(found, destination, &self.tree) {
            Ok(plan) => plan,
            Err(error @ CopyError::Destination(_)) => {
                refuse(vec![Mistake::new(span.clone(), error.to_string())], self.options)?;
                CopyPlan::default()
            }
            Err(error) => {
                return Err(error)
                    .or_exit(ExitCode::Failed)
                    .map_err(|error| self.at(step, error));
            }
        };
        plan.write(self.store, &self.layer_options)
            .map_err(coded)
            .map_err(|error| self.at(step, error))
    }

    /// The error with the directive it happened in.
    fn at(&self, step: &Step, error: anyhow::Error) -> anyhow::Error {
        let line = self.options.kubefile[..step.span.start].matches('\n').count() + 1;
        let text: String = step.text.chars().take(60).collect();
        error.context(format!("{}:{line}: {text}", self.options.kubefile_name))
    }
}

fn coded(error: LayerError) -> anyhow::Error {
    let code = error.exit_code();
    Err::<(), _>(error).or_exit(code).expect_err("it is an error")
}

/// What a layer descriptor becomes in a manifest.
fn descriptor(layer: &LayerDescriptor) -> Descriptor {
    Descriptor::of_chunked_layer(layer)
}
