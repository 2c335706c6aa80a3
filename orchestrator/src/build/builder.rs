//! This module owns [`Builder`]: the steps of a recipe, carried out one after another.

use std::collections::{BTreeMap, BTreeSet};

use gantry_model::{Digest, ExitCode, LayerDescriptor};
use gantry_store::manifest::MAX_LAYERS;
use gantry_store::{ChunkSource, ContainerImage, LayerOptions, NewImage, SourceDigest, Store};

use crate::clusterfile::Mistake;
use crate::exit::{OrExit as _, failure};

use super::archives::{unpack_archives, with_archives};
use super::assemble::Assembly;
use super::base::BaseImage;
use super::cache::BuildCache;
use super::container_images::container_images;
use super::context::{BuildContext, Found};
use super::copy::{CopyError, CopyPlan};
use super::kubefile::Command;
use super::provenance::Material;
use super::recipe::{Recipe, Step, StepKind};
use super::tree::MergedTree;
use super::{BuildEvent, BuildOptions, layer_error, refuse, run};

mod completion;

/// What a step made; no layer when it changed nothing.
enum Made {
    /// Just now.
    Now(Option<LayerDescriptor>),
    /// When it was carried out before.
    Before(Option<LayerDescriptor>),
}

/// A build on its way.
pub(super) struct Builder<'a> {
    store: &'a Store,
    options: &'a BuildOptions,
    context: &'a BuildContext,
    layer_options: LayerOptions,
    assembly: Assembly,
    tree: MergedTree,
    cache: BuildCache<'a>,
    /// Layers that there still may be, those of later steps left out.
    room: usize,
    /// Archives that were unpacked on the way, as layers.
    unpacked: Vec<Digest>,
    /// Container images that were brought, and their blobs in the store, which are in layers now.
    brought: Vec<ContainerImage>,
    fetched: BTreeSet<Digest>,
    /// The same images, by what their names led to.
    materials: Vec<Material>,
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
            cache: BuildCache::new(store, options),
            room: 0,
            unpacked: Vec::new(),
            brought: Vec::new(),
            fetched: BTreeSet::new(),
            materials: Vec::new(),
        }
    }

    /// The image, when every step is carried out.
    ///
    /// # Errors
    /// When what its base says about itself is wrong.
    pub(super) fn image(&self, recipe: &Recipe) -> anyhow::Result<NewImage> {
        let named = self.named(recipe)?;
        let images = container_images(named, &self.tree, &recipe.platform);
        self.assembly
            .clone()
            .finish(recipe, &images, self.options)
            .map_err(|error| failure(ExitCode::Input, format!("the base cannot be built on: {error}")))
    }

    /// The container images that the base names, and those that were brought.
    fn named(&self, recipe: &Recipe) -> anyhow::Result<Vec<ContainerImage>> {
        let named = recipe.base.as_ref().map(|base| base.image.container_images());
        let mut named = named
            .transpose()
            .or_exit(ExitCode::Verification)?
            .unwrap_or_default();
        named.extend(self.brought.iter().cloned());
        Ok(named)
    }

    /// What went into the image and is not in its context.
    pub(super) fn materials(&self) -> &[Material] {
        &self.materials
    }

    /// The build has ended, well or not: says so to the cache.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(super) fn end(&self, well: bool) -> anyhow::Result<()> {
        self.cache.end(well)
    }

    /// Layers of the image so far, and what only helped to make them: layers, and blobs of container images.
    pub(super) fn layers(self) -> (Vec<Digest>, Vec<Digest>) {
        let layers = self.assembly.layers().iter().map(|layer| layer.digest);
        let helped = self.unpacked.into_iter().chain(self.fetched);
        (layers.collect(), helped.collect())
    }

    /// Carries out the steps; `found` has what each COPY names.
    pub(super) fn carry_out(
        &mut self,
        steps: &[Step],
        found: Vec<Vec<Found>>,
        event: &mut dyn FnMut(BuildEvent<'_>),
    ) -> anyhow::Result<()> {
        for layer in self.assembly.layers().to_vec() {
            self.grow(&layer)?;
        }
        let mut found = found.into_iter();
        let of = steps.len() + 1;
        for (number, step) in steps.iter().enumerate() {
            let (number, text) = (number + 2, step.text.as_str());
            event(BuildEvent::Step { number, of, text });
            let later = &steps[number - 1..];
            let later = later
                .iter()
                .filter(|step| !matches!(step.kind, StepKind::Note))
                .count();
            self.room = MAX_LAYERS.saturating_sub(self.assembly.layers().len() + later);
            self.step(step, &mut found, event)?;
        }
        Ok(())
    }

    fn grow(&mut self, layer: &LayerDescriptor) -> anyhow::Result<()> {
        let source = ChunkSource::open_verified(self.store, layer).map_err(layer_error)?;
        self.tree.add(source.toc());
        self.cache.grow(layer);
        Ok(())
    }

    fn step(
        &mut self,
        step: &Step,
        found: &mut impl Iterator<Item = Vec<Found>>,
        event: &mut dyn FnMut(BuildEvent<'_>),
    ) -> anyhow::Result<()> {
        let made = match &step.kind {
            StepKind::Note => {
                self.assembly.note(&step.text);
                return Ok(());
            }
            StepKind::Copy { .. } => return self.copy(step, found.next().unwrap_or_default(), event),
            StepKind::Run {
                command,
                env,
                proxies,
                offline,
            } => {
                let arguments = match command {
                    Command::Shell(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
                    Command::Arguments(arguments) => arguments.clone(),
                };
                let line = &mut |line: &str| event(BuildEvent::Output(line));
                let network = self.options.network && !offline;
                self.run(arguments, (env, proxies), network, line)
                    .map_err(|error| self.at(step, error))?
            }
        };
        self.put(&step.text, made, event)
    }

    /// Puts what a step made on top.
    fn put(&mut self, text: &str, made: Made, event: &mut dyn FnMut(BuildEvent<'_>)) -> anyhow::Result<()> {
        event(match &made {
            Made::Now(layer) => BuildEvent::Layer(layer.as_ref()),
            Made::Before(layer) => BuildEvent::Cached(layer.as_ref()),
        });
        let (Made::Now(layer) | Made::Before(layer)) = made;
        match layer {
            Some(layer) => {
                self.grow(&layer)?;
                self.assembly.layer(text, layer);
            }
            None => self.assembly.note(text),
        }
        Ok(())
    }

    fn run(
        &mut self,
        arguments: Vec<String>,
        (env, proxies): (&BTreeMap<String, String>, &BTreeMap<String, String>),
        network: bool,
        line: &mut dyn FnMut(&str),
    ) -> anyhow::Result<Made> {
        let key = self.cache.key_on_top(&("RUN", &arguments, env, network));
        if let Some(layer) = self.cache.find(key) {
            return Ok(Made::Before(layer));
        }
        let layers = self.assembly.layers();
        let options = &self.layer_options;
        let mut env = env.clone();
        env.extend(proxies.clone());
        let layer = run::run(self.store, layers, arguments, env, network, options, line)?;
        self.cache.keep(key, layer.as_ref())?;
        Ok(Made::Now(layer))
    }

    fn copy(
        &mut self,
        step: &Step,
        found: Vec<Found>,
        event: &mut dyn FnMut(BuildEvent<'_>),
    ) -> anyhow::Result<()> {
        let unpack = matches!(step.kind, StepKind::Copy { unpack: true, .. });
        if unpack && with_archives(&found).map_err(|error| self.at(step, error))? {
            let made = self.add(step, found)?;
            return self.put(&step.text, made, event);
        }
        let parts = self.plan(step, &found)?.split(self.room);
        for (number, (part, plan)) in parts.into_iter().enumerate() {
            let source = plan.source().map_err(|error| self.at(step, layer_error(error)))?;
            let digest = source
                .digest()
                .map_err(|error| self.at(step, layer_error(error)))?;
            let made = self.write(step, self.cache.key(&("COPY", digest)), &source, |_| Ok(plan))?;
            let note = if number == 0 { "" } else { part.note() };
            let text = format!("{}{note}", step.text);
            self.put(&text, made, event)?;
        }
        Ok(())
    }

    /// ADD with archives. What is in them is not known before they are unpacked: they themselves are compared.
    fn add(&mut self, step: &Step, found: Vec<Found>) -> anyhow::Result<Made> {
        let StepKind::Copy {
            destination, mode, ..
        } = &step.kind
        else {
            return Ok(Made::Now(None));
        };
        let mut packed = CopyPlan::new(&found, "archives/", &MergedTree::default(), self.context)
            .or_exit(ExitCode::Failed)
            .map_err(|error| self.at(step, error))?;
        packed.set_mode(*mode);
        let source = packed
            .source()
            .map_err(|error| self.at(step, layer_error(error)))?;
        let digest = source
            .digest()
            .map_err(|error| self.at(step, layer_error(error)))?;
        let key = self.cache.key_on_top(&("ADD", &destination.0, digest));
        self.write(step, key, &source, |builder| {
            let found = unpack_archives(builder.store, found, &mut builder.unpacked)
                .map_err(|error| builder.at(step, error))?;
            builder.plan(step, &found)
        })
    }

    /// The layer with this key: the cached one, or that of the plan, which depends on `source`.
    fn write(
        &mut self,
        step: &Step,
        key: Digest,
        source: &SourceDigest,
        plan: impl FnOnce(&mut Self) -> anyhow::Result<CopyPlan>,
    ) -> anyhow::Result<Made> {
        if let Some(layer) = self.cache.find(key) {
            return Ok(Made::Before(layer));
        }
        let layer = plan(self)?
            .write(self.store, &self.layer_options)
            .map_err(|error| self.at(step, layer_error(error)))?;
        if source.is_unchanged() {
            self.cache.keep(key, Some(&layer))?;
        }
        Ok(Made::Now(Some(layer)))
    }

    /// What the COPY or ADD `step` brings, which names `found`.
    fn plan(&self, step: &Step, found: &[Found]) -> anyhow::Result<CopyPlan> {
        let StepKind::Copy {
            destination: (destination, span),
            replace,
            mode,
            ..
        } = &step.kind
        else {
            return Ok(CopyPlan::default());
        };
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
        plan.set_mode(*mode);
        if *replace && self.tree.folder(destination).is_some() {
            plan.hide_below(destination);
        }
        Ok(plan)
    }

    /// The error with the directive it happened in.
    fn at(&self, step: &Step, error: anyhow::Error) -> anyhow::Error {
        let line = self.options.kubefile[..step.span.start].matches('\n').count() + 1;
        let text: String = step.text.chars().take(60).collect();
        error.context(format!("{}:{line}: {text}", self.options.kubefile_name))
    }
}
