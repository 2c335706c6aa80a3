//! This module owns [`ImageTrust`]: whether this host accepts an image, by its own policy and nobody else's.
//!
//! The policy is read anew each time: what it says counts from then on. Evidence is kept in memory alone; whoever wants a step done
//! shows it first, and again after a restart.

mod signed_layers;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use gantry_model::{Digest, ImageEvidence, Step, StepAction};
use gantry_signing::{Accepted, Policy, PolicyError, Rejection};
use gantry_store::Store;

use self::signed_layers::SignedLayers;
use crate::image_keys::{ImageKeys, ImageKeysError};

/// Images whose evidence is kept: those of an apply and of what others do meanwhile. The oldest goes first.
const MAX_SHOWN: usize = 8;

/// Why an image is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// There is no policy to go by.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A key that counts no longer could not be dropped.
    #[error(transparent)]
    Keys(#[from] ImageKeysError),
    /// The policy refuses it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The policy asks for signatures, and none came.
    #[error("image {} is refused by {policy}, which asks for signatures: none were shown; run the same command again, \
             with a `gantry` that is as new as this agent", image.short())]
    NotShown {
        /// The image.
        image: Digest,
        /// The policy's file.
        policy: String,
    },
    /// Its manifest says nothing that could be read.
    #[error("the manifest of image {} cannot be read: {reason}", image.short())]
    Manifest {
        /// The image.
        image: Digest,
        /// Why.
        reason: String,
    },
    /// Its layers arrived at the orchestrator in a form that does not travel, and no signature speaks of what does.
    #[error(
        "layer {} of image {} was signed in another form than it travels in, and nothing says in which: `gantry sign` by a key that \
         is asked for says it",
        layer.short(),
        image.short()
    )]
    OtherForm {
        /// The image.
        image: Digest,
        /// The layer in its manifest.
        layer: Digest,
    },
    /// A layer came here before with other files than those that were signed.
    #[error(
        "layer {} of image {} is on this host with other contents than were signed; \
         `gantry reset` its cluster, which removes layers that nothing uses, and apply again",
        layer.short(),
        image.short()
    )]
    OtherContents {
        /// The image.
        image: Digest,
        /// The layer.
        layer: Digest,
    },
    /// What is asked for is not what was signed.
    #[error(
        "the layers asked for are not those of image {} as it was signed; where they were made anew of those that a registry or an \
         archive has, `gantry sign` says so",
        image.short()
    )]
    OtherLayers {
        /// The image.
        image: Digest,
    },
}

/// The policy, and what was shown to satisfy it.
#[derive(Debug)]
pub(crate) struct ImageTrust {
    policy: PathBuf,
    keys: Arc<ImageKeys>,
    shown: VecDeque<(Digest, ImageEvidence)>,
}

impl ImageTrust {
    /// By the policy in the file `policy`, and the `keys` that orchestrators brought for it to name.
    pub(crate) fn new(policy: PathBuf, keys: Arc<ImageKeys>) -> Self {
        Self {
            policy,
            keys,
            shown: VecDeque::new(),
        }
    }

    /// Decides about an image, and remembers what speaks for it.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn show(&mut self, evidence: ImageEvidence) -> Result<(), TrustError> {
        let image = evidence.image();
        let policy = self.policy()?;
        if policy.check(&evidence)? == Accepted::Signed {
            SignedLayers::of(&evidence, &policy)?.are_said()?;
        }
        self.shown.retain(|(known, _)| *known != image);
        if self.shown.len() == MAX_SHOWN {
            self.shown.pop_front();
        }
        self.shown.push_back((image, evidence));
        Ok(())
    }

    /// Whether `step` brings, or builds on, nothing but what the policy accepts; what `store` has of it already among it.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, step: &Step, store: &Store) -> Result<(), TrustError> {
        let image = match &step.action {
            StepAction::Stage { image, .. } | StepAction::AssembleRootfs { image, .. } => *image,
            _ => return Ok(()),
        };
        let policy = self.policy()?;
        if policy.accepts_anything() {
            return Ok(());
        }
        let shown = self.shown.iter().find(|(known, _)| *known == image);
        let Some((_, evidence)) = shown else {
            return Err(TrustError::NotShown {
                image,
                policy: self.policy.display().to_string(),
            });
        };
        if policy.check(evidence)? == Accepted::Unasked {
            return Ok(());
        }
        let signed = SignedLayers::of(evidence, &policy)?;
        match &step.action {
            StepAction::Stage { layers, .. } => signed.check(layers, store),
            StepAction::AssembleRootfs { layers, .. } => signed.check_named(layers, store),
            _ => Ok(()),
        }
    }

    /// What holds now: a certificate may have ended since the agent was asked last, and with it what it brought.
    fn policy(&self) -> Result<Policy, TrustError> {
        let dropped = self.keys.drop_ended(SystemTime::now());
        let policy = Policy::read(&self.policy)?;
        match dropped {
            Ok(0) => {}
            Ok(count) => tracing::info!(
                "dropped {count} keys for images that were brought with certificates which have ended"
            ),
            // A damaged file no policy that names it could be read with; to others none of it is anything.
            Err(error) if policy.accepts_anything() || matches!(error, ImageKeysError::Damaged { .. }) => {
                tracing::error!("{error}");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(policy)
    }
}
