//! Which images are accepted, by their names: a policy file in the form of containers-policy.json(5).
//!
//! ```text
//! file ── document: JSON, checked as it is read ──▶ Policy: scopes and keys ── check(evidence) ──▶ accepted, or why not
//!                                                        scope: which entry is about a name
//! ```

mod check;
mod document;
mod error;
mod scope;

use std::collections::BTreeMap;

use gantry_model::ImageReference;

pub use check::{Accepted, Rejection, is_signed_as};
pub use error::PolicyError;

use crate::VerificationKey;
use scope::Scope;

/// Where programs look for their policy unless they are told otherwise.
pub const DEFAULT_POLICY_PATH: &str = "/etc/gantry/policy.json";
/// The keys that orchestrators brought to a host, in one file: what the policy that is installed with the agent asks for.
pub const HOST_KEYS_PATH: &str = "/var/lib/gantry/agent/image-keys.pem";
/// Most bytes of a policy file: some thousand names.
pub const MAX_POLICY_LEN: u64 = 1 << 20;

/// Which images are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Where it was read, for errors.
    file: String,
    default: Vec<Requirement>,
    scopes: BTreeMap<Scope, Vec<Requirement>>,
}

/// What is asked of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    /// Nothing.
    AcceptAnything,
    /// What no image fulfils.
    Reject,
    /// A signature.
    Signed(SignedBy),
}

/// Whose signature is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SignedBy {
    /// Any of these.
    keys: Vec<VerificationKey>,
    /// How people know them: the paths of their files, or fingerprints.
    key_name: String,
    identity: Identity,
}

/// Which name a signature has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Identity {
    /// The repository of the name that the image is used by.
    Match,
    /// This repository.
    Exact(String),
    /// The repository of the name that the image is used by, with another beginning.
    Remap { prefix: String, signed_prefix: String },
}

impl Policy {
    /// The policy that accepts every image, which is what counts where there is no file.
    #[must_use]
    pub fn accept_anything() -> Self {
        Self {
            file: DEFAULT_POLICY_PATH.to_owned(),
            default: vec![Requirement::AcceptAnything],
            scopes: BTreeMap::new(),
        }
    }

    /// Whether it accepts every image under every name, so that nobody needs to be asked for signatures.
    #[must_use]
    pub fn accepts_anything(&self) -> bool {
        let anything = |asked: &Vec<Requirement>| asked.iter().all(|one| *one == Requirement::AcceptAnything);
        anything(&self.default) && self.scopes.values().all(anything)
    }

    /// What is asked of an image of this name: the most specific entry counts.
    fn requirements(&self, name: &ImageReference) -> &[Requirement] {
        scope::of(name)
            .find_map(|scope| self.scopes.get(&scope))
            .unwrap_or(&self.default)
    }
}

#[cfg(test)]
mod tests;
