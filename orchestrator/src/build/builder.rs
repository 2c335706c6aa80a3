//! This module owns [`Builder`]: the steps of a recipe, carried out one after another.

use gantry_model::{ExitCode, LayerDescriptor};
use gantry_store::{ChunkSource, LayerError, LayerOptions, Store};

use crate::clusterfile::{Mistake, tree::Span};
use crate::exit::OrExit as _;

use super::assemble::Assembly;
use super::base::BaseImage;
use super::context::Found;
use super::copy::{CopyError, CopyPlan};
use super::kubefile::Command;
use super::recipe::{Step, StepKind};
use super::tree::MergedTree;
use super::{BuildEvent, BuildOptions, refuse, run};

/// A build on its way.
pub(super) struct Builder<'a> {
    store: &'a Store,
    options: &'a BuildOptions,
    layer_options: LayerOptions,
    assembly: Assembly,
    tree: MergedTree,
}

impl<'a> Builder<'a> {
    /// A build on top of `base`, or of nothing.
    pub(super) fn new(store: &'a Store, options: &'a BuildOptions, base: Option<&BaseImage>) -> Self {
        Self {
            store,
            options,
            layer_options: LayerOptions {
                mtime: options.epoch,
                ..LayerOptions::default()
            },
            assembly: Assembly::on(base),
            tree: MergedTree::default(),
        }
    }

    /// What was made so far.
    pub(super) fn assembly(self) -> Assembly {
        self.assembly
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
        destination: &(String, Span),
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
