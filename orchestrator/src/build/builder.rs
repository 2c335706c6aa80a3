//! This module owns [`Builder`]: the steps of a recipe, carried out one after another.

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use gantry_model::{Digest, ExitCode, LayerDescriptor};
use gantry_store::layer_import::{TarForm, tar_form};
use gantry_store::{ChunkSource, LayerError, LayerOptions, NewImage, Store, layer_from_tar};

use crate::clusterfile::{Mistake, tree::Span};
use crate::exit::{OrExit as _, failure, failure_hint};

use super::assemble::Assembly;
use super::base::BaseImage;
use super::container_images::container_images;
use super::context::{BuildContext, Found, FoundKind};
use super::copy::{CopyError, CopyPlan};
use super::kubefile::Command;
use super::recipe::{Recipe, Step, StepKind};
use super::tree::MergedTree;
use super::{BuildEvent, BuildOptions, refuse, run};

/// A build on its way.
pub(super) struct Builder<'a> {
    store: &'a Store,
    options: &'a BuildOptions,
    context: &'a BuildContext,
    layer_options: LayerOptions,
    assembly: Assembly,
    tree: MergedTree,
    /// Archives that were unpacked on the way, as layers.
    unpacked: Vec<Digest>,
}

impl<'a> Builder<'a> {
    /// A build on top of `base`, or of nothing.
    pub(super) fn new(
        store: &'a Store,
        options: &'a BuildOptions,
        context: &'a BuildContext,
        base: Option<&BaseImage>,
    ) -> Self {
        Self {
            store,
            options,
            context,
            layer_options: LayerOptions {
                mtime: options.epoch,
                ..LayerOptions::default()
            },
            assembly: Assembly::on(base),
            tree: MergedTree::default(),
            unpacked: Vec::new(),
        }
    }

    /// The image, when every step is carried out.
    ///
    /// # Errors
    /// When what its base says about itself is wrong.
    pub(super) fn image(&self, recipe: &Recipe) -> anyhow::Result<NewImage> {
        let named = recipe.base.as_ref().map(|base| base.image.container_images());
        let named = named
            .transpose()
            .or_exit(ExitCode::Verification)?
            .unwrap_or_default();
        let images = container_images(named, &self.tree, &recipe.platform);
        self.assembly
            .clone()
            .finish(recipe, &images, self.options)
            .map_err(|error| failure(ExitCode::Input, format!("the base cannot be built on: {error}")))
    }

    /// Layers of the image so far, and layers that only helped to make them.
    pub(super) fn layers(self) -> (Vec<Digest>, Vec<Digest>) {
        let layers = self.assembly.layers().iter().map(|layer| layer.digest);
        (layers.collect(), self.unpacked)
    }

    /// Carries out the steps; `found` has what each COPY names.
    pub(super) fn carry_out(
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
            StepKind::Copy {
                destination,
                unpack,
                replace,
                ..
            } => {
                let mut found = found.next().unwrap_or_default();
                if *unpack {
                    found = self.unpack(found).map_err(|error| self.at(step, error))?;
                }
                Some(self.copy(step, &found, destination, *replace)?)
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
        destination: &(String, Span),
        replace: bool,
    ) -> anyhow::Result<LayerDescriptor> {
        let (destination, span) = destination;
        let mut plan = match CopyPlan::new(found, destination, &self.tree, self.context) {
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
        if replace && self.tree.folder(destination).is_some() {
            plan.hide_below(destination);
        }
        plan.write(self.store, &self.layer_options)
            .map_err(coded)
            .map_err(|error| self.at(step, error))
    }

    /// ADD: folders with what is in them in the place of archives.
    fn unpack(&mut self, found: Vec<Found>) -> anyhow::Result<Vec<Found>> {
        let mut unpacked = Vec::new();
        for one in found {
            unpacked.push(match &one.kind {
                FoundKind::File(path) if path.is_file() && !path.is_symlink() => {
                    let open = || File::open(path).with_context(|| format!("cannot open {}", path.display()));
                    match tar_form(open()?).with_context(|| format!("cannot read {}", path.display()))? {
                        TarForm::Unreadable(compression) if is_called_archive(path) => {
                            return Err(failure_hint(
                                ExitCode::Input,
                                format!(
                                    "{} is compressed with {compression}, which ADD does not unpack",
                                    path.display()
                                ),
                                "pack it with gzip or zstd, or COPY it as it is",
                            ));
                        }
                        TarForm::Readable => {
                            let layer = layer_from_tar(self.store, open()?)
                                .map_err(coded)
                                .with_context(|| format!("cannot unpack {}", path.display()))?;
                            self.unpacked.push(layer.digest);
                            self.store.unpack_layer(&layer).map_err(coded)?;
                            Found {
                                kind: FoundKind::Folder(self.store.layer_dir(&layer.digest)),
                                name: one.name,
                            }
                        }
                        TarForm::None | TarForm::Unreadable(_) => one,
                    }
                }
                _ => one,
            });
        }
        Ok(unpacked)
    }

    /// The error with the directive it happened in.
    fn at(&self, step: &Step, error: anyhow::Error) -> anyhow::Error {
        let line = self.options.kubefile[..step.span.start].matches('\n').count() + 1;
        let text: String = step.text.chars().take(60).collect();
        error.context(format!("{}:{line}: {text}", self.options.kubefile_name))
    }
}

/// Whether the name says that it is a tar archive.
fn is_called_archive(path: &Path) -> bool {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    name.contains(".tar.")
        || [".txz", ".tbz", ".tbz2"]
            .iter()
            .any(|ending| name.ends_with(ending))
}

fn coded(error: LayerError) -> anyhow::Error {
    let code = error.exit_code();
    Err::<(), _>(error).or_exit(code).expect_err("it is an error")
}
