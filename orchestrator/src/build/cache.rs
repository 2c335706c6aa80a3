//! This module owns [`BuildCache`]: which steps of a build need not be carried out, because they were before.
//!
//! The key of a step is the digest of everything that its layer depends on. For RUN that is the chain of the layers below,
//! the command and its environment; for COPY the content and where it lands, whatever lies below.

use std::collections::BTreeSet;

use gantry_model::{Digest, LayerDescriptor};
use gantry_store::{CachedStep, Store, StoreError};
use serde::Serialize;

use crate::exit::OrExit as _;

use super::BuildOptions;

/// Part of every key: changes when layers are made in another way.
const VERSION: &str = "gantry build 1";

/// The steps that are remembered, for one build.
#[derive(Debug)]
pub(super) struct BuildCache<'a> {
    store: &'a Store,
    /// What is built.
    build: String,
    /// The time of everything in the image.
    epoch: i64,
    /// Whether what is remembered is used.
    look: bool,
    /// Digest of the layers so far, and the topmost.
    chain: (Digest, Option<Digest>),
    used: BTreeSet<Digest>,
}

impl<'a> BuildCache<'a> {
    /// What is remembered in `store`.
    pub(super) fn new(store: &'a Store, options: &BuildOptions) -> Self {
        Self {
            store,
            build: options.name.to_string(),
            epoch: options.epoch,
            look: options.cache,
            chain: (Digest::of(b""), None),
            used: BTreeSet::new(),
        }
    }

    /// One more layer is on top.
    pub(super) fn grow(&mut self, layer: &LayerDescriptor) {
        let chain = format!("{} {}", self.chain.0, layer.digest);
        self.chain = (Digest::of(chain.as_bytes()), Some(layer.digest));
    }

    /// The key of a step that depends on `what`, and on nothing that lies below.
    pub(super) fn key(&self, what: &impl Serialize) -> Digest {
        let text = serde_json::to_string(&(VERSION, self.epoch, what)).expect("keys are plain data");
        Digest::of(text.as_bytes())
    }

    /// The key of a step that depends on `what`, and on everything that lies below.
    pub(super) fn key_on_top(&self, what: &impl Serialize) -> Digest {
        self.key(&(self.chain.0, what))
    }

    /// What the step with this key made before.
    pub(super) fn find(&mut self, key: Digest) -> Option<Option<LayerDescriptor>> {
        let step = self.store.cached_step(&key).filter(|_| self.look)?;
        self.used.insert(key);
        Some(step.layer)
    }

    /// Remembers what the step with this key made.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(super) fn keep(&mut self, key: Digest, layer: Option<&LayerDescriptor>) -> anyhow::Result<()> {
        // Nothing on nothing: there is nothing to keep.
        let Some(top) = layer.map(|layer| layer.digest).or(self.chain.1) else {
            return Ok(());
        };
        let step = CachedStep {
            layer: layer.cloned(),
            top,
            build: self.build.clone(),
            unfinished: true,
        };
        self.used.insert(key);
        self.store.cache_step(&key, &step).map_err(coded)
    }

    /// The build has ended, well or not.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(super) fn end(&self, well: bool) -> anyhow::Result<()> {
        self.store.end_build(&self.build, &self.used, well).map_err(coded)
    }
}

fn coded(error: StoreError) -> anyhow::Error {
    let code = error.exit_code();
    Err::<(), _>(error).or_exit(code).expect_err("it is an error")
}
