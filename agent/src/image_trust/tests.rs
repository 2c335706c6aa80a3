//! What a policy that asks for signatures makes of images that are shown and steps that are asked for.

use std::collections::BTreeMap;
use std::fs;

use gantry_model::{LayerDescriptor, SignedPayload, TocLocation};
use gantry_signing::{KeyKind, SigningKey};
use gantry_store::Descriptor;
use gantry_store::manifest::{MEDIA_TYPE_CONFIG, MEDIA_TYPE_MANIFEST, Manifest};

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
        let keys = Arc::new(ImageKeys::new(&folder.path().join("image-keys.pem")));
        let trust = ImageTrust::new(policy, keys);
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
