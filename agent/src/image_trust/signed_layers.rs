//! The layers of an image as its signatures say them, and whether those that are asked for are they.

use gantry_model::{Digest, ImageEvidence, LayerDescriptor};
use gantry_signing::Policy;
use gantry_store::manifest::{MAX_LAYERS, Manifest};
use gantry_store::{Descriptor, Store};

use super::TrustError;

/// How the layers of an image may travel. What they unpack to is in its config; nothing that is written here depends on that.
pub(super) struct SignedLayers {
    image: Digest,
    /// As its manifest has them.
    in_manifest: Vec<Descriptor>,
    /// Digests of all of them together, as signatures say.
    by_signature: Vec<Digest>,
}

impl SignedLayers {
    /// # Errors
    /// When the manifest cannot be read.
    pub(super) fn of(evidence: &ImageEvidence, policy: &Policy) -> Result<Self, TrustError> {
        Ok(Self {
            image: evidence.image(),
            in_manifest: layers_of(evidence)?,
            by_signature: policy.signed_layers(evidence),
        })
    }

    /// Whether it is said how each of them travels.
    pub(super) fn are_said(&self) -> Result<(), TrustError> {
        let unsaid = self.in_manifest.iter().find(|layer| travelling(layer).is_none());
        match unsaid {
            Some(layer) if self.by_signature.is_empty() => Err(TrustError::OtherForm {
                image: self.image,
                layer: layer.digest,
            }),
            _ => Ok(()),
        }
    }

    /// Whether these are they, and what `store` has of them already is the same.
    pub(super) fn check(&self, layers: &[LayerDescriptor], store: &Store) -> Result<(), TrustError> {
        self.are_said()?;
        let are_in_manifest = self.in_manifest.len() == layers.len()
            && self
                .in_manifest
                .iter()
                .zip(layers)
                .all(|(signed, layer)| travelling(signed).is_some_and(|signed| is_same(&signed, layer)));
        if !are_in_manifest
            && !self
                .by_signature
                .contains(&LayerDescriptor::digest_as_they_travel(layers))
        {
            return Err(TrustError::OtherLayers { image: self.image });
        }
        layers.iter().try_for_each(|layer| self.check_held(layer, store))
    }

    /// Whether the layers of `store` that these digests name are they.
    pub(super) fn check_named(&self, layers: &[Digest], store: &Store) -> Result<(), TrustError> {
        self.are_said()?;
        let in_manifest: Option<Vec<_>> = self.in_manifest.iter().map(travelling).collect();
        if let Some(signed) = in_manifest
            && signed.iter().map(|layer| &layer.digest).eq(layers)
        {
            return signed.iter().try_for_each(|layer| self.check_held(layer, store));
        }
        let held: Result<Vec<_>, _> = layers.iter().map(|layer| store.layer_descriptor(layer)).collect();
        let is_signed = held.is_ok_and(|held| {
            self.by_signature
                .contains(&LayerDescriptor::digest_as_they_travel(&held))
        });
        match is_signed {
            true => Ok(()),
            false => Err(TrustError::OtherLayers { image: self.image }),
        }
    }

    /// That the layer is not here, or as it was signed: it came with a table of contents, and under another policy that may have been
    /// any.
    fn check_held(&self, signed: &LayerDescriptor, store: &Store) -> Result<(), TrustError> {
        let layer = signed.digest;
        if !store.has_layer(&layer) {
            return Ok(());
        }
        match store.layer_descriptor(&layer) {
            Ok(held) if is_same(&held, signed) => Ok(()),
            _ => Err(TrustError::OtherContents {
                image: self.image,
                layer,
            }),
        }
    }
}

/// The layer as it travels, by what a manifest says of it: the digest of its table of contents among it.
fn travelling(layer: &Descriptor) -> Option<LayerDescriptor> {
    layer.chunked_layer(Digest::of(b""))
}

/// Whether two layers are the same to whoever verifies them.
fn is_same(one: &LayerDescriptor, other: &LayerDescriptor) -> bool {
    (one.digest, one.size, &one.toc) == (other.digest, other.size, &other.toc)
}

fn layers_of(evidence: &ImageEvidence) -> Result<Vec<Descriptor>, TrustError> {
    let image = evidence.image();
    let wrong = |reason| TrustError::Manifest { image, reason };
    let manifest: Manifest =
        serde_json::from_slice(&evidence.manifest).map_err(|error| wrong(error.to_string()))?;
    let count = manifest.layers.len();
    if count > MAX_LAYERS {
        return Err(wrong(format!(
            "it has {count} layers, more than the {MAX_LAYERS} that are accepted"
        )));
    }
    Ok(manifest.layers)
}
