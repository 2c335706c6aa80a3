//! Who accepts an image: this machine by its signature policy, and every host by its own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use futures_util::{StreamExt as _, stream};
use gantry_model::{Digest, ExitCode, ImageEvidence, ImageReference, ImageSignature, SignedPayload};
use gantry_protocol::RefusalKind;
use gantry_signing::Policy;
use gantry_store::{Guard, Store, StoreError};

use crate::execute::brings_image;
use crate::plan::Plan;
use crate::plan::preflight::{Check, Finding};
use crate::session::{AgentSession as _, SessionError, Sessions};
use crate::state::State;

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
/// his, and one that the host has lost comes again.
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
        let asked = async {
            let session = sessions.session(host).await?;
            match session.bring_image_key(key.to_owned()).await {
                // An agent of before: what it knows it was told by its owner.
                Ok(()) | Err(SessionError::NotUnderstood { .. }) => {}
                Err(error) => return Err(error),
            }
            session.verify_image(evidence).await
        };
        match asked.await {
            Err(SessionError::Refused(refusal)) if refusal.kind == RefusalKind::Untrusted => Some(Finding {
                check: Check::Signature,
                host,
                message: refusal.message,
            }),
            Err(error @ SessionError::NotUnderstood { .. }) => Some(Finding {
                check: Check::Agent,
                host,
                message: error.to_string(),
            }),
            // Anything else is told by the step that asks again.
            _ => None,
        }
    };
    let findings = stream::iter(hosts).map(ask).buffer_unordered(PARALLEL_HOSTS);
    let mut findings: Vec<Finding> = findings.filter_map(std::future::ready).collect().await;
    findings.sort_by_key(|finding| finding.host);
    findings
}
