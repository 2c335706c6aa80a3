//! This module owns [`ImageTrust`]: whether this host accepts an image, by its own policy and nobody else's.
//!
//! The policy is read anew each time: what it says counts from then on. Evidence is kept in memory alone; whoever wants a step done
//! shows it first, and again after a restart.

use std::collections::VecDeque;
use std::path::PathBuf;

use gantry_model::{Digest, ImageEvidence, LayerDescriptor, Step, StepAction};
use gantry_signing::{Accepted, Policy, PolicyError, Rejection};
use gantry_store::manifest::{MAX_LAYERS, Manifest};
use gantry_store::{Descriptor, Store};

/// Images whose evidence is kept: those of an apply and of what others do meanwhile. The oldest goes first.
const MAX_SHOWN: usize = 8;

/// Why an image is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// There is no policy to go by.
    #[error(transparent)]
    Policy(#[from] PolicyError),
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
    shown: VecDeque<(Digest, ImageEvidence)>,
}

impl ImageTrust {
    pub(crate) fn new(policy: PathBuf) -> Self {
        Self {
            policy,
            shown: VecDeque::new(),
        }
    }

    /// Decides about an image, and remembers what speaks for it.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn show(&mut self, evidence: ImageEvidence) -> Result<(), TrustError> {
        let image = evidence.image();
        let policy = Policy::read(&self.policy)?;
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
        let policy = Policy::read(&self.policy)?;
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
}

/// How the layers of an image may travel. What they unpack to is in its config; nothing that is written here depends on that.
struct SignedLayers {
    image: Digest,
    /// As its manifest has them.
    in_manifest: Vec<Descriptor>,
    /// Digests of all of them together, as signatures say.
    by_signature: Vec<Digest>,
}

impl SignedLayers {
    fn of(evidence: &ImageEvidence, policy: &Policy) -> Result<Self, TrustError> {
        Ok(Self {
            image: evidence.image(),
            in_manifest: layers_of(evidence)?,
            by_signature: policy.signed_layers(evidence),
        })
    }

    /// Whether it is said how each of them travels.
    fn are_said(&self) -> Result<(), TrustError> {
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
    fn check(&self, layers: &[LayerDescriptor], store: &Store) -> Result<(), TrustError> {
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
    fn check_named(&self, layers: &[Digest], store: &Store) -> Result<(), TrustError> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use gantry_model::{SignedPayload, TocLocation};
    use gantry_signing::{KeyKind, SigningKey};
    use gantry_store::manifest::{MEDIA_TYPE_CONFIG, MEDIA_TYPE_MANIFEST};

    use super::*;
    use crate::test_layers::unpacked;

    /// A host that wants images signed by one key, and an image.
    struct Case {
        folder: tempfile::TempDir,
        key: SigningKey,
        trust: ImageTrust,
    }

    fn layer(number: u8) -> LayerDescriptor {
        LayerDescriptor {
            digest: Digest::of(&[number]),
            size: 1000,
            diff_id: Digest::of(&[number, number]),
            toc: TocLocation {
                offset: 800,
                compressed_len: 100,
                len: 300,
                digest: Digest::of(&[number, 0]),
            },
        }
    }

    fn manifest(layers: Vec<Descriptor>) -> Vec<u8> {
        let manifest = Manifest {
            schema_version: 2,
            media_type: MEDIA_TYPE_MANIFEST.to_owned(),
            config: Descriptor {
                media_type: MEDIA_TYPE_CONFIG.to_owned(),
                digest: Digest::of(b"config"),
                size: 6,
                platform: None,
                annotations: BTreeMap::new(),
            },
            layers,
            annotations: BTreeMap::new(),
        };
        serde_json::to_vec(&manifest).unwrap()
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
            let (public, policy) = (folder.path().join("key.pub"), folder.path().join("policy.json"));
            fs::write(&public, key.verification_key().to_pem()).unwrap();
            let text = format!(
                r#"{{"default": [{{"type": "sigstoreSigned", "keyPath": "{}"}}]}}"#,
                public.display()
            );
            fs::write(&policy, text).unwrap();
            let trust = ImageTrust::new(policy);
            Self { folder, key, trust }
        }

        fn evidence(&self, manifest: Vec<u8>) -> ImageEvidence {
            let signature = self.key.sign(Digest::of(&manifest), "demo").unwrap();
            ImageEvidence {
                name: "demo:v1".parse().unwrap(),
                manifest,
                index: None,
                signatures: vec![signature],
            }
        }

        /// The same, signed with how its layers travel.
        fn evidence_saying(&self, manifest: Vec<u8>, layers: &[LayerDescriptor]) -> ImageEvidence {
            let payload = SignedPayload {
                image: Digest::of(&manifest),
                identity: "demo".to_owned(),
                layers: Some(LayerDescriptor::digest_as_they_travel(layers)),
            };
            let signature = self.key.sign_payload(&payload).unwrap();
            ImageEvidence {
                signatures: vec![signature],
                ..self.evidence(manifest)
            }
        }

        fn check(&self, step: &Step) -> Result<(), TrustError> {
            self.trust.check(step, &self.store())
        }

        fn store(&self) -> Store {
            Store::open(&self.folder.path().join("store")).unwrap()
        }

        fn signed(&mut self) -> Digest {
            let layers = [1, 2].map(|number| Descriptor::of_chunked_layer(&layer(number)));
            let evidence = self.evidence(manifest(layers.to_vec()));
            let image = evidence.image();
            self.trust.show(evidence).unwrap();
            image
        }
    }

    fn stage(image: Digest, layers: &[LayerDescriptor]) -> Step {
        Step {
            action: StepAction::Stage {
                image,
                layers: layers.to_vec(),
            },
            after: vec![],
        }
    }

    fn assemble(image: Digest, layers: &[u8]) -> Step {
        let layers: Vec<Digest> = layers.iter().map(|number| layer(*number).digest).collect();
        assemble_of(image, &layers)
    }

    fn assemble_of(image: Digest, layers: &[Digest]) -> Step {
        Step {
            action: StepAction::AssembleRootfs {
                cluster: "demo".parse().unwrap(),
                image,
                layers: layers.to_vec(),
            },
            after: vec![],
        }
    }

    #[test]
    fn what_was_signed_is_accepted_whole_and_in_its_order() {
        let mut case = Case::new();
        let image = case.signed();
        case.check(&stage(image, &[layer(1), layer(2)])).unwrap();
        case.check(&assemble(image, &[1, 2])).unwrap();
        let mut other_contents = layer(2);
        other_contents.toc.digest = Digest::of(b"other contents");
        for layers in [
            vec![layer(1)],
            vec![layer(2), layer(1)],
            vec![layer(1), layer(2), layer(3)],
            vec![layer(1), other_contents],
        ] {
            let refused = case.check(&stage(image, &layers));
            assert!(
                matches!(refused, Err(TrustError::OtherLayers { .. })),
                "{layers:?}"
            );
        }
        for layers in [[1].as_slice(), &[2, 1], &[1, 2, 3], &[]] {
            let refused = case.check(&assemble(image, layers));
            assert!(
                matches!(refused, Err(TrustError::OtherLayers { .. })),
                "{layers:?}"
            );
        }
    }

    #[test]
    fn what_came_under_another_policy_has_to_be_what_was_signed() {
        let mut case = Case::new();
        let held = unpacked(&case.store(), &[("etc/a", "whatever")]);
        let steps = |image: Digest, layer: &LayerDescriptor| {
            let assemble = StepAction::AssembleRootfs {
                cluster: "demo".parse().unwrap(),
                image,
                layers: vec![layer.digest],
            };
            let after = vec![];
            [
                stage(image, std::slice::from_ref(layer)),
                Step {
                    action: assemble,
                    after,
                },
            ]
        };
        let show = |case: &mut Case, layer: &LayerDescriptor| {
            let evidence = case.evidence(manifest(vec![Descriptor::of_chunked_layer(layer)]));
            let image = evidence.image();
            case.trust.show(evidence).unwrap();
            image
        };
        let image = show(&mut case, &held);
        for step in steps(image, &held) {
            case.check(&step).unwrap();
        }
        let mut signed = held.clone();
        signed.toc.digest = Digest::of(b"what the vendor made");
        let image = show(&mut case, &signed);
        for step in steps(image, &signed) {
            let refused = case.check(&step);
            assert!(
                matches!(refused, Err(TrustError::OtherContents { .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn what_was_not_shown_or_not_signed_is_refused() {
        let mut case = Case::new();
        let image = Digest::of(b"never shown");
        for step in [stage(image, &[layer(1)]), assemble(image, &[1])] {
            let refused = case.check(&step);
            assert!(matches!(refused, Err(TrustError::NotShown { .. })), "{refused:?}");
        }
        let mut evidence = case.evidence(manifest(vec![Descriptor::of_chunked_layer(&layer(1))]));
        evidence.signatures.clear();
        let image = evidence.image();
        assert!(matches!(case.trust.show(evidence), Err(TrustError::Rejected(_))));
        let refused = case.check(&stage(image, &[layer(1)]));
        assert!(matches!(refused, Err(TrustError::NotShown { .. })));
    }

    #[test]
    fn the_policy_counts_as_it_is_now() {
        let mut case = Case::new();
        let image = case.signed();
        let step = stage(image, &[layer(1), layer(2)]);
        let policy = case.folder.path().join("policy.json");
        fs::write(&policy, r#"{"default": [{"type": "reject"}]}"#).unwrap();
        assert!(matches!(case.check(&step), Err(TrustError::Rejected(_))));
        fs::write(&policy, "{").unwrap();
        assert!(matches!(case.check(&step), Err(TrustError::Policy(_))));
        fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
        case.check(&stage(Digest::of(b"never shown"), &[layer(7)]))
            .unwrap();
    }

    #[test]
    fn a_layer_that_was_signed_in_another_form_is_named_before_anything_travels() {
        let mut case = Case::new();
        let refused = case.trust.show(case.evidence(manifest(vec![gzip(1)])));
        assert!(
            matches!(refused, Err(TrustError::OtherForm { .. })),
            "{refused:?}"
        );
    }

    /// A layer of which the manifest says nothing but its blob.
    fn gzip(number: u8) -> Descriptor {
        Descriptor::of_blob(&Digest::of(&[number, 9]), 2000)
    }

    #[test]
    fn layers_of_another_form_travel_as_the_signature_says() {
        let mut case = Case::new();
        let held = unpacked(&case.store(), &[("etc/a", "whatever")]);
        let evidence = case.evidence_saying(manifest(vec![gzip(1), gzip(2)]), &[layer(1), held.clone()]);
        let image = evidence.image();
        case.trust.show(evidence).unwrap();
        case.check(&stage(image, &[layer(1), held.clone()])).unwrap();
        let mut other_contents = held.clone();
        other_contents.toc.digest = Digest::of(b"other contents");
        for layers in [
            vec![layer(1), other_contents],
            vec![held.clone(), layer(1)],
            vec![layer(1)],
            vec![layer(1), layer(2)],
        ] {
            let refused = case.check(&stage(image, &layers));
            assert!(
                matches!(refused, Err(TrustError::OtherLayers { .. })),
                "{layers:?}"
            );
        }
        // Nothing proves what is not here.
        let refused = case.check(&assemble_of(image, &[layer(1).digest, held.digest]));
        assert!(
            matches!(refused, Err(TrustError::OtherLayers { .. })),
            "{refused:?}"
        );

        let evidence = case.evidence_saying(manifest(vec![gzip(3)]), std::slice::from_ref(&held));
        let image = evidence.image();
        case.trust.show(evidence).unwrap();
        case.check(&assemble_of(image, &[held.digest])).unwrap();
        // What came under another policy is not what was signed.
        let mut signed = held.clone();
        signed.toc.digest = Digest::of(b"what the vendor made");
        let evidence = case.evidence_saying(manifest(vec![gzip(4)]), std::slice::from_ref(&signed));
        let image = evidence.image();
        case.trust.show(evidence).unwrap();
        let refused = case.check(&stage(image, &[signed]));
        assert!(
            matches!(refused, Err(TrustError::OtherContents { .. })),
            "{refused:?}"
        );
        let refused = case.check(&assemble_of(image, &[held.digest]));
        assert!(
            matches!(refused, Err(TrustError::OtherLayers { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn only_so_much_is_kept() {
        let mut case = Case::new();
        let first = case.signed();
        for number in 0..MAX_SHOWN {
            let number = u8::try_from(number).unwrap() + 10;
            let layers = vec![Descriptor::of_chunked_layer(&layer(number))];
            let evidence = case.evidence(manifest(layers));
            case.trust.show(evidence).unwrap();
        }
        assert_eq!(case.trust.shown.len(), MAX_SHOWN);
        let refused = case.check(&stage(first, &[layer(1), layer(2)]));
        assert!(matches!(refused, Err(TrustError::NotShown { .. })));
    }
}
