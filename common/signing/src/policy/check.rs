//! This module owns the decision about one image.

use gantry_model::{Digest, ImageEvidence, ImageReference, ImageSignature};
use serde::Deserialize;

use super::scope::full;
use super::{Identity, Policy, Requirement, SignedBy};
use crate::{NotVerified, VerificationKey};

/// Why an image is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Nothing is asked of images of this name.
    Unasked,
    /// It is signed as the policy asks.
    Signed,
}

/// Why an image is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image {name} ({}) is refused by {file}: {reason}", image.short())]
pub struct Rejection {
    name: String,
    image: Digest,
    file: String,
    reason: String,
}

/// As much of an index as tells what it names.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: Digest,
}

impl Policy {
    /// Decides about an image. What `evidence` says is believed as far as signatures prove it, except for the name: that is
    /// whoever shows it to tell the truth about.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check(&self, evidence: &ImageEvidence) -> Result<Accepted, Rejection> {
        let rejected = |reason| Rejection {
            name: evidence.name.to_string(),
            image: evidence.image(),
            file: self.file.clone(),
            reason,
        };
        evidence.check().map_err(rejected)?;
        let subjects = subjects(evidence);
        // Entries for one digest are found by the name.
        if let Some(digest) = evidence.name.digest().filter(|digest| !subjects.contains(digest)) {
            return Err(rejected(format!("its name says that it is {}", digest.short())));
        }
        let mut accepted = Accepted::Unasked;
        // All of them have to hold.
        for requirement in self.requirements(&evidence.name) {
            match requirement {
                Requirement::AcceptAnything => {}
                Requirement::Reject => return Err(rejected("no image of this name is accepted".to_owned())),
                Requirement::Signed(by) => {
                    by.check(evidence, &subjects).map_err(rejected)?;
                    accepted = Accepted::Signed;
                }
            }
        }
        Ok(accepted)
    }

    /// Whether a signature over `image` is by a key that some entry asks for.
    #[must_use]
    pub fn knows(&self, image: &Digest, signature: &ImageSignature) -> bool {
        let asked = self.default.iter().chain(self.scopes.values().flatten());
        let mut keys = asked.filter_map(|requirement| match requirement {
            Requirement::Signed(by) => Some(&by.keys),
            Requirement::AcceptAnything | Requirement::Reject => None,
        });
        keys.any(|keys| keys.iter().any(|key| key.verify(image, signature).is_ok()))
    }

    /// Whether a signature over `image` is one that this policy asks for where `image` is called `name`: by one of those keys, and as what
    /// they have to sign it.
    #[must_use]
    pub fn asks_for(&self, name: &ImageReference, image: &Digest, signature: &ImageSignature) -> bool {
        self.signers(name).any(|by| {
            let mut payloads = by.keys.iter().filter_map(|key| key.verify(image, signature).ok());
            payloads.any(|payload| by.identity.fits(name.name(), &payload.identity))
        })
    }

    /// The keys by which images called `name` have to be signed, each with what people know it by: its file, or its fingerprint.
    #[must_use]
    pub fn keys_for(&self, name: &ImageReference) -> Vec<(String, VerificationKey)> {
        let known_by = |by: &SignedBy, key: &VerificationKey| match by.keys.len() {
            1 => by.key_name.clone(),
            _ => format!("with the fingerprint {}", key.fingerprint()),
        };
        let keys = self
            .signers(name)
            .flat_map(|by| by.keys.iter().map(move |key| (known_by(by, key), key.clone())));
        keys.collect()
    }

    fn signers(&self, name: &ImageReference) -> impl Iterator<Item = &SignedBy> {
        self.requirements(name)
            .iter()
            .filter_map(|requirement| match requirement {
                Requirement::Signed(by) => Some(by),
                Requirement::AcceptAnything | Requirement::Reject => None,
            })
    }

    /// How the layers of an image that is accepted may travel where its manifest does not say so: what signatures say of that, by as
    /// many keys as are asked for. See [`SignedPayload::layers`](gantry_model::SignedPayload::layers).
    #[must_use]
    pub fn signed_layers(&self, evidence: &ImageEvidence) -> Vec<Digest> {
        let asked = self.requirements(&evidence.name).iter();
        let mut said = asked.filter_map(|requirement| match requirement {
            Requirement::Signed(by) => Some(by.signed_layers(evidence)),
            Requirement::AcceptAnything | Requirement::Reject => None,
        });
        let mut layers = said.next().unwrap_or_default();
        // All of them have to hold.
        for said in said {
            layers.retain(|one| said.contains(one));
        }
        layers
    }
}

/// Whether `signed` is what an image called `name` has to be signed as where a policy does not say it: the same repository.
#[must_use]
pub fn is_signed_as(name: &ImageReference, signed: &str) -> bool {
    Identity::Match.fits(name.name(), signed)
}

/// What a signature may be over: the image, and the index that names it.
fn subjects(evidence: &ImageEvidence) -> Vec<Digest> {
    let mut subjects = vec![evidence.image()];
    if let Some(index) = &evidence.index {
        let named = serde_json::from_slice::<Index>(index)
            .is_ok_and(|index| index.manifests.iter().any(|entry| entry.digest == subjects[0]));
        if named {
            subjects.push(Digest::of(index));
        }
    }
    subjects
}

impl SignedBy {
    fn check(&self, evidence: &ImageEvidence, subjects: &[Digest]) -> Result<(), String> {
        let mut reason = None;
        for (signature, key) in self.signatures(evidence) {
            for subject in subjects {
                match key.verify(subject, signature) {
                    Ok(payload) if self.identity.fits(evidence.name.name(), &payload.identity) => {
                        return Ok(());
                    }
                    Ok(payload) => {
                        reason = Some(format!(
                            "it is signed by key {}, but as {:?}; sign it by this name, or say which one in signedIdentity",
                            self.key_name, payload.identity
                        ));
                    }
                    // Those over the index are not over the manifest, and the other way round.
                    Err(NotVerified::OtherImage(other)) if !subjects.contains(&other) => {
                        reason.get_or_insert(format!(
                            "its signature by key {} is over another image, {}",
                            self.key_name,
                            other.short()
                        ));
                    }
                    Err(_) => {}
                }
            }
        }
        Err(reason.unwrap_or_else(|| match evidence.signatures.len() {
            0 => format!("it is not signed, and has to be by key {}", self.key_name),
            1 => format!("its signature is not by key {}", self.key_name),
            count => format!("none of its {count} signatures is by key {}", self.key_name),
        }))
    }

    /// The signatures that are by one of the keys, each with its key.
    fn signatures<'a>(
        &'a self,
        evidence: &'a ImageEvidence,
    ) -> impl Iterator<Item = (&'a ImageSignature, &'a VerificationKey)> {
        evidence.signatures.iter().filter_map(|one| {
            let is_its = |key: &&VerificationKey| key.is_signature(&one.payload, &one.signature);
            Some((one, self.keys.iter().find(is_its)?))
        })
    }

    /// What signatures over the image itself say of how its layers travel; an index says nothing of layers.
    fn signed_layers(&self, evidence: &ImageEvidence) -> Vec<Digest> {
        let image = evidence.image();
        let payloads = self.signatures(evidence).filter_map(|(signature, key)| {
            let payload = key.verify(&image, signature).ok()?;
            let fits = self.identity.fits(evidence.name.name(), &payload.identity);
            fits.then_some(payload.layers?)
        });
        payloads.collect()
    }
}

impl Identity {
    /// Whether `signed` is what an image that is used by the repository `used` has to be signed as.
    fn fits(&self, used: &str, signed: &str) -> bool {
        // podman signs names with their tags.
        let Ok(signed) = signed.parse::<ImageReference>() else {
            return false;
        };
        let (used, signed) = (full(used), full(signed.name()));
        match self {
            Self::Match => used == signed,
            Self::Exact(repository) => full(repository) == signed,
            Self::Remap {
                prefix,
                signed_prefix,
            } => match used.strip_prefix(prefix.as_str()) {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                    format!("{signed_prefix}{rest}") == signed
                }
                // Other names are as they are, as podman has it.
                _ => used == signed,
            },
        }
    }
}
