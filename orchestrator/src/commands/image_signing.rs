//! How an image is signed: what of it, as what, and that what is made here is signed by this orchestrator's own key.

use gantry_model::{Digest, ExitCode, ImageReference, LayerDescriptor, SignedPayload};
use gantry_signing::SigningKey;
use gantry_store::manifest::Manifest;
use gantry_store::{Descriptor, Store};

use crate::context::Context;
use crate::exit::failure;
use crate::state::State;

/// Whether what is made is signed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct SignArgs {
    /// Leave the image unsigned; else it is signed by this orchestrator's own key, as `gantry sign` does it
    #[arg(long)]
    no_sign: bool,
}

impl SignArgs {
    /// Signs the image `name`, which was made just now.
    ///
    /// # Errors
    /// When the key or the store cannot be read or written.
    pub(super) fn sign(self, store: &Store, name: &ImageReference, context: &Context) -> anyhow::Result<()> {
        if self.no_sign {
            return Ok(());
        }
        let key = State::new(context.root()).image_key_or_create()?;
        for image in signable(store, name)?.images {
            sign(store, &image, name.name(), &key, Whose::Own)?;
        }
        Ok(())
    }
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
    let own = store.target(name).map_err(super::store_error)?.digest;
    let is_index = images.len() > 1;
    for image in images.iter().filter(|image| !(is_index && **image == own)) {
        if !is_signed(store, image, &key, &|_| true)? {
            return Ok(());
        }
    }
    if absent > 0 {
        return Ok(());
    }
    for image in images {
        sign(store, &image, name.name(), &key, Whose::Own)?;
    }
    Ok(())
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
