//! How an image is signed: what of it, as what, and that what is made here of what is allowed is signed by this orchestrator's own key.

use std::collections::BTreeSet;

use gantry_model::{Digest, ExitCode, ImageReference, LayerDescriptor, SignedPayload};
use gantry_signing::{Accepted, Policy, SigningKey};
use gantry_store::manifest::Manifest;
use gantry_store::{Descriptor, Image, Store};

use crate::context::Context;
use crate::exit::failure;
use crate::state::State;

/// Whether what is made is signed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct SignArgs {
    /// Leave the image unsigned; else it is signed by this orchestrator's own key, as `gantry sign` does it, if what it is
    /// made of is signed
    #[arg(long)]
    no_sign: bool,
}

impl SignArgs {
    /// Signs the image `name`, which was made just now of the images `sources` and of what lies here. Where nobody vouches for one
    /// of them, nobody does for what has its layers: it stays unsigned, and that is said, unless it was signed before.
    ///
    /// # Errors
    /// When the key or the store cannot be read or written.
    pub(super) fn sign(
        self,
        store: &Store,
        name: &ImageReference,
        sources: &[Image],
        context: &Context,
    ) -> anyhow::Result<()> {
        if self.no_sign {
            return Ok(());
        }
        let key = State::new(context.root()).image_key_or_create()?;
        let mut unsigned = BTreeSet::new();
        for source in sources {
            if !is_vouched_for(store, source, &key, context)? {
                let digest = source.manifest_digest;
                let by_name = source.reference.as_ref().map(ToString::to_string);
                unsigned.insert(by_name.unwrap_or_else(|| digest.to_string()));
            }
        }
        let Signable { images, .. } = signable(store, name)?;
        if !unsigned.is_empty() && !is_all_signed(store, name, &images, &key)? {
            say_unsigned(name, &unsigned);
            return Ok(());
        }
        for image in images {
            sign(store, &image, name.name(), &key, Whose::Own)?;
        }
        Ok(())
    }
}

/// Says that the image `name` is not signed, for these it is made of are not.
fn say_unsigned(name: &ImageReference, sources: &BTreeSet<String>) {
    let all: Vec<&str> = sources.iter().map(String::as_str).collect();
    let are = if all.len() == 1 { "is" } else { "are" };
    anstream::eprintln!(
        "warning: {name} is not signed, for {} {are} not, and hosts refuse what nobody signed; `gantry sign {}` allows what is made \
         of it from then on, too, `gantry sign {name}` this one alone",
        all.join(" and "),
        all.join("` and `gantry sign "),
    );
}

/// Whether somebody who counts here signed this image, or an index that lists it: the own key, or one that the policy asks for.
fn is_vouched_for(store: &Store, image: &Image, key: &SigningKey, context: &Context) -> anyhow::Result<bool> {
    let name = image.reference.as_ref();
    let indexes = store.indexes_with(&image.manifest_digest, name);
    let indexes = indexes.map_err(super::store_error)?;
    for subject in std::iter::once(&image.manifest_digest).chain(&indexes) {
        if is_signed(store, subject, key, &|_| true)? {
            return Ok(true);
        }
    }
    // What an entry of the policy lets in without asking is not vouched for by anybody.
    let policy = Policy::read_for_store(context.signature_policy()).ok();
    let evidence = name.and_then(|name| store.accepted(name, image).ok());
    Ok(policy
        .zip(evidence)
        .is_some_and(|(policy, evidence)| policy.check(&evidence) == Ok(Accepted::Signed)))
}

/// Signs the image that has another name now, `name`, as that, if all of it was signed by the own key before.
///
/// # Errors
/// When the key or the store cannot be read or written.
pub(super) fn sign_renamed(store: &Store, name: &ImageReference, context: &Context) -> anyhow::Result<()> {
    let Some(key) = State::new(context.root()).image_key()? else {
        return Ok(());
    };
    let Signable { images, absent } = signable(store, name)?;
    if absent > 0 || !is_all_signed(store, name, &images, &key)? {
        return Ok(());
    }
    for image in images {
        sign(store, &image, name.name(), &key, Whose::Own)?;
    }
    Ok(())
}

/// Whether `key` signed the image `name`; of an index, each of its `images` that is here.
fn is_all_signed(
    store: &Store,
    name: &ImageReference,
    images: &[Digest],
    key: &SigningKey,
) -> anyhow::Result<bool> {
    let own = store.target(name).map_err(super::store_error)?.digest;
    let is_index = images.len() > 1;
    for image in images.iter().filter(|image| !(is_index && **image == own)) {
        if !is_signed(store, image, key, &|_| true)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// This orchestrator's, which its hosts know: what it signs stays with the store.
    Own,
    /// Somebody's who gave it: what it signs goes wherever the image goes.
    Given,
}

/// What is signed of an image.
pub(super) struct Signable {
    /// Its manifest; or its index, and the manifests of it that are here.
    pub(super) images: Vec<Digest>,
    /// How many of its images are not here.
    pub(super) absent: usize,
}

/// What is signed of the image `name`.
///
/// # Errors
/// When there is none.
pub(super) fn signable(store: &Store, name: &ImageReference) -> anyhow::Result<Signable> {
    let target = store.target(name).map_err(super::store_error)?;
    let mut images = vec![target.digest];
    let (mut absent, entries) = (0, store.platforms(name).map_err(super::store_error)?);
    for Descriptor { digest, .. } in entries.iter().filter(|entry| entry.is_image()) {
        if images.contains(digest) {
            continue;
        }
        if store.blobs().exists(digest) {
            images.push(*digest);
        } else {
            absent += 1;
        }
    }
    Ok(Signable { images, absent })
}

/// Signs the manifest or index `image` as `identity`, unless `key` did so before. Whether it had not.
///
/// # Errors
/// When the store cannot be read or written.
pub(super) fn sign(
    store: &Store,
    image: &Digest,
    identity: &str,
    key: &SigningKey,
    whose: Whose,
) -> anyhow::Result<bool> {
    let payload = SignedPayload {
        image: *image,
        identity: identity.to_owned(),
        layers: layers_as_they_travel(store, image),
    };
    if is_signed(store, image, key, &|known| *known == payload)? {
        return Ok(false);
    }
    let signature = key
        .sign_payload(&payload)
        .map_err(|error| failure(ExitCode::Failed, error))?;
    let added = match whose {
        Whose::Own => store.add_own_signature(image, &signature),
        Whose::Given => store.add_signature(image, &signature),
    };
    added.map_err(super::store_error)?;
    Ok(true)
}

/// Whether `key` signed what `says` is about.
fn is_signed(
    store: &Store,
    image: &Digest,
    key: &SigningKey,
    says: &dyn Fn(&SignedPayload) -> bool,
) -> anyhow::Result<bool> {
    let public = key.verification_key();
    let signatures = store.signatures(image).map_err(super::store_error)?;
    let mut signed = signatures.iter().filter_map(|one| public.verify(image, one).ok());
    Ok(signed.any(|payload| says(&payload)))
}

/// How the layers of the image travel, where its manifest does not say it of every one. None also of an index, and of an image whose
/// layers are not here, which travels nowhere from here.
fn layers_as_they_travel(store: &Store, image: &Digest) -> Option<Digest> {
    let image = store.image_by_digest(image).ok()?;
    let manifest: Manifest = serde_json::from_slice(&image.manifest_bytes).ok()?;
    let mut layers = manifest.layers.iter().zip(&image.layers);
    let all_said = layers.all(|(said, layer)| said.chunked_layer(layer.diff_id).as_ref() == Some(layer));
    (!all_said).then(|| LayerDescriptor::digest_as_they_travel(&image.layers))
}
