//! Who accepts an image: this machine by its signature policy, and every host by its own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};
use gantry_model::{Digest, ExitCode, ImageEvidence, ImageReference, ImageSignature, SignedPayload};
use gantry_protocol::RefusalKind;
use gantry_signing::{Policy, VerificationKey, is_signed_as};
use gantry_store::{Guard, Store, StoreError};

use crate::execute::brings_image;
use crate::exit::failure;
use crate::plan::Plan;
use crate::plan::preflight::{Check, Finding};
use crate::session::{AgentSession as _, SessionError, Sessions};
use crate::state::State;

/// What people know the own key by.
pub(super) const OWN_KEY: &str = "the own one";
/// Hosts that are asked at the same time.
const PARALLEL_HOSTS: usize = 64;

/// The guard that goes by the policy file at `path`, as it is when it is asked. It knows the keys of that, and the own one of `state`.
#[must_use]
pub(crate) fn guard(path: PathBuf, state: State) -> Guard {
    let keys_of = path.clone();
    let guard = Guard::new(move |evidence| {
        let policy = Policy::read_for_store(&path).map_err(|error| StoreError::Refused {
            reason: error.to_string(),
            code: ExitCode::Input,
        })?;
        let decided = policy.check(evidence).map(drop);
        decided.map_err(|rejection| StoreError::Refused {
            reason: rejection.to_string(),
            code: ExitCode::Verification,
        })
    });
    guard.knowing(move |image, signatures| {
        // Whoever is asked to decide, or to sign, says what is wrong with the files.
        let policy = Policy::read_for_store(&keys_of).ok();
        let own = state.image_key().ok().flatten().map(|key| key.verification_key());
        let is_known = |one: &&ImageSignature| {
            policy.as_ref().is_some_and(|policy| policy.knows(image, one))
                || own.as_ref().is_some_and(|own| own.verify(image, one).is_ok())
        };
        signatures.iter().map(is_known).collect()
    })
}

/// What an image is signed as, by what its signatures and those of indexes with it say of themselves: they are not verified.
pub(super) fn signed_as(
    store: &Store,
    name: Option<&ImageReference>,
    image: &Digest,
) -> Result<Vec<String>, StoreError> {
    let subjects = std::iter::once(*image).chain(store.indexes_with(image, name)?);
    let mut identities = BTreeSet::new();
    for subject in subjects {
        let signatures = store.signatures(&subject)?.into_iter();
        identities
            .extend(signatures.filter_map(|one| Some(SignedPayload::parse(&one.payload).ok()?.identity)));
    }
    Ok(identities.into_iter().collect())
}

/// The keys that count here: the own one, and those that the policy of this machine names.
pub(super) struct KnownKeys {
    own: Option<VerificationKey>,
    policy: Policy,
}

/// By whom an image is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Signed {
    /// By the own key or one that the policy names for it, as what it is called.
    Yes,
    /// There are signatures, but none of these.
    Others,
}

impl KnownKeys {
    /// The own key of `state`, and the policy file at `policy`.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub(super) fn read(policy: &Path, state: &State) -> anyhow::Result<Self> {
        let own = state.image_key()?.map(|key| key.verification_key());
        let policy = Policy::read_for_store(policy).map_err(|error| failure(ExitCode::Input, error))?;
        Ok(Self { own, policy })
    }

    /// The keys that count for images called `name`, each with what people know it by.
    pub(super) fn for_image(&self, name: &ImageReference) -> Vec<(String, VerificationKey)> {
        let own = self.own.iter().map(|key| (OWN_KEY.to_owned(), key.clone()));
        own.chain(self.policy.keys_for(name)).collect()
    }

    /// Whether a signature over `image`, which is called `name`, is by one of them, and as what it is called.
    pub(super) fn fits(&self, name: &ImageReference, image: &Digest, signature: &ImageSignature) -> bool {
        let own = self
            .own
            .as_ref()
            .and_then(|own| own.verify(image, signature).ok());
        own.is_some_and(|payload| is_signed_as(name, &payload.identity))
            || self.policy.asks_for(name, image, signature)
    }

    /// By whom the image `name` is signed, itself or in an index with it; none where nobody did.
    pub(super) fn signed(
        &self,
        store: &Store,
        name: &ImageReference,
        image: &Digest,
    ) -> Result<Option<Signed>, StoreError> {
        let subjects = std::iter::once(*image).chain(store.indexes_with(image, Some(name))?);
        let mut signed = None;
        for subject in subjects {
            for signature in store.signatures(&subject)? {
                if self.fits(name, &subject, &signature) {
                    return Ok(Some(Signed::Yes));
                }
                signed = Some(Signed::Others);
            }
        }
        Ok(signed)
    }
}

impl Signed {
    /// The word that tables have for it.
    pub(super) const fn word(signed: Option<Self>) -> &'static str {
        match signed {
            Some(Self::Yes) => "yes",
            Some(Self::Others) => "others",
            None => "-",
        }
    }
}

/// Says which signatures over the image `name` are damaged: they count as not being there.
pub(super) fn warn_of_damage(store: &Store, name: &ImageReference) -> Result<(), StoreError> {
    let target = store.target(name)?;
    let mut seen = BTreeSet::new();
    for digest in
        std::iter::once(target.digest).chain(store.platforms(name)?.iter().map(|entry| entry.digest))
    {
        if let Some(damage) = store.signature_damage(&digest)?.filter(|_| seen.insert(digest)) {
            anstream::eprintln!("warning: signatures over {name} ({}): {damage}", digest.short());
        }
    }
    Ok(())
}

/// The hosts of the plan whose own policies refuse its image. Those that have it are asked, too: their
/// policies may be newer. Each is given `key` first (PEM), the own one that images are signed with: so whoever works on a host brings
/// his, and one that the host has lost comes again. A host that does not take it may still accept the image; where it does not, it
/// says both.
pub(super) async fn refusals<S: Sessions>(
    plan: &Plan,
    evidence: &ImageEvidence,
    key: &str,
    sessions: &S,
) -> Vec<Finding> {
    let mut hosts: Vec<IpAddr> = plan
        .steps()
        .filter(|step| brings_image(&step.step.action))
        .map(|step| step.host)
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    let ask = |host: IpAddr| async move {
        // Anything but a refusal is told by the step that asks again.
        let session = sessions.session(host).await.ok()?;
        let taken = session.bring_image_key(key.to_owned()).await;
        told(host, taken, session.verify_image(evidence).await)
    };
    let findings = stream::iter(hosts).map(ask).buffer_unordered(PARALLEL_HOSTS);
    let mut findings: Vec<Finding> = findings.filter_map(std::future::ready).collect().await;
    findings.sort_by_key(|finding| finding.host);
    findings
}

/// What speaks against a host of which this came when the own key was brought (`taken`), and then when it was asked about the image.
fn told(
    host: IpAddr,
    taken: Result<(), SessionError>,
    accepted: Result<(), SessionError>,
) -> Option<Finding> {
    let (check, message) = match accepted {
        Err(SessionError::Refused(refusal)) if refusal.kind == RefusalKind::Untrusted => {
            let message = match taken {
                Err(SessionError::Refused(not_taken)) => format!(
                    "{}; it did not take this orchestrator's key: {}",
                    refusal.message, not_taken.message
                ),
                // An agent of before among them: what it knows it was told by its owner.
                _ => refusal.message,
            };
            (Check::Signature, message)
        }
        Err(error @ SessionError::NotUnderstood { .. }) => (Check::Agent, error.to_string()),
        // Anything else is told by the step that asks again.
        _ => return None,
    };
    Some(Finding { check, host, message })
}

#[cfg(test)]
mod tests {
    use gantry_protocol::Refusal;

    use super::*;

    #[test]
    fn a_host_that_does_not_take_the_key_is_asked_about_the_image_all_the_same() {
        let refused = |kind, message: &str| {
            let message = message.to_owned();
            Err(SessionError::Refused(Refusal { kind, message }))
        };
        let host = "10.0.0.1".parse().unwrap();
        let full = || refused(RefusalKind::Internal, "image-keys.pem has 16 keys");
        let unsigned = || refused(RefusalKind::Untrusted, "no signature is by key ours.pub");
        // By a key of somebody else, or because it accepts anything.
        assert_eq!(told(host, full(), Ok(())), None);
        assert_eq!(
            told(host, full(), unsigned()).unwrap().message,
            "no signature is by key ours.pub; it did not take this orchestrator's key: image-keys.pem has 16 keys"
        );
        let finding = told(host, Ok(()), unsigned()).unwrap();
        assert_eq!(
            (finding.check, finding.message.as_str()),
            (Check::Signature, "no signature is by key ours.pub")
        );
    }
}
