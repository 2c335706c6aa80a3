//! Signatures in registries: they come and go with their image, and those of others stay.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use gantry_model::{Digest, ExitCode, ImageReference, ImageSignature, SignedPayload};
use gantry_registry_client::{Platforms, PullOptions, PushOptions, RegistryError};
use gantry_store::attestations::{Envelope, MEDIA_TYPE_ENVELOPE, Statement};
use gantry_store::manifest::{MEDIA_TYPE_MANIFEST, Manifest};
use gantry_store::signatures::SignatureKind;
use gantry_store::{Descriptor, Guard, Platform, StoreError};

use self::support::{Desk, FakeRegistry};

fn sign(desk: &Desk, image: Digest, by: &str) {
    let payload = SignedPayload {
        image,
        identity: "demo".to_owned(),
        layers: None,
    };
    let signature = ImageSignature {
        payload: payload.to_bytes(),
        signature: by.as_bytes().to_vec(),
    };
    desk.store.add_signature(&image, &signature).unwrap();
}

fn signers(desk: &Desk, image: &Digest) -> Vec<String> {
    let signatures = desk.store.signatures(image).unwrap();
    let mut by: Vec<_> = signatures
        .into_iter()
        .map(|one| String::from_utf8(one.signature).unwrap())
        .collect();
    by.sort();
    by
}

async fn push(desk: &Desk, image: &ImageReference) {
    let options = PushOptions::default();
    desk.client()
        .push(&desk.store, image, image, &options)
        .await
        .unwrap();
}

async fn pull(desk: &Desk, image: &ImageReference) -> Result<(), RegistryError> {
    let options = PullOptions {
        platforms: Platforms::One(Platform::host()),
    };
    let pulled = desk.client().pull(&desk.store, image, &options, |_| {}).await;
    pulled.map(drop)
}

#[tokio::test]
async fn several_sign_the_same_image_and_no_signature_is_lost() {
    let (registry, vendor, operator) = (FakeRegistry::start().await, Desk::new(), Desk::new());
    let image = vendor.image(&format!("{}/team/a:v1", registry.host), &[("etc/a", b"a")]);
    let digest = vendor.store.target(&image).unwrap().digest;
    push(&vendor, &image).await;
    pull(&operator, &image).await.unwrap();
    assert_eq!(signers(&operator, &digest), [""; 0]);

    // The image is there already: the signature travels alone.
    sign(&vendor, digest, "vendor");
    push(&vendor, &image).await;
    // The operator has not seen it, and signs as well.
    sign(&operator, digest, "operator");
    push(&operator, &image).await;
    assert_eq!(signers(&operator, &digest), ["operator", "vendor"]);
    registry.seen();
    push(&operator, &image).await;
    let sent: usize = registry.seen().iter().map(|seen| seen.body_len).sum();
    assert_eq!(sent, 0, "what is there is not sent again");

    pull(&vendor, &image).await.unwrap();
    assert_eq!(signers(&vendor, &digest), ["operator", "vendor"]);
    let other = Desk::new();
    pull(&other, &image).await.unwrap();
    assert_eq!(signers(&other, &digest), ["operator", "vendor"]);
    assert!(other.store.check().unwrap().damage.is_empty());
}

fn attest(desk: &Desk, image: Digest, by: &str) {
    let statement = Statement::about(&image, "demo", "https://slsa.dev/provenance/v1", by.into());
    let mut envelope = Envelope::of(&statement);
    envelope.add_signature(by.as_bytes());
    desk.store.add_attestation(&image, &envelope).unwrap();
}

fn attesters(desk: &Desk, image: &Digest) -> Vec<String> {
    let envelopes = desk.store.attestations(image).unwrap();
    let said = |envelope: Envelope| envelope.statement("it").unwrap().predicate;
    let mut by: Vec<String> = envelopes
        .into_iter()
        .map(|one| said(one).as_str().unwrap().to_owned())
        .collect();
    by.sort();
    by
}

#[tokio::test]
async fn statements_travel_as_signatures_do() {
    let (registry, vendor, operator) = (FakeRegistry::start().await, Desk::new(), Desk::new());
    let image = vendor.image(&format!("{}/team/a:v1", registry.host), &[("etc/a", b"a")]);
    let digest = vendor.store.target(&image).unwrap().digest;
    push(&vendor, &image).await;
    pull(&operator, &image).await.unwrap();
    attest(&vendor, digest, "vendor");
    push(&vendor, &image).await;
    attest(&operator, digest, "operator");
    push(&operator, &image).await;
    assert_eq!(attesters(&operator, &digest), ["operator", "vendor"]);
    registry.seen();
    push(&operator, &image).await;
    let sent: usize = registry.seen().iter().map(|seen| seen.body_len).sum();
    assert_eq!(sent, 0, "what is there is not sent again");
    let other = Desk::new();
    pull(&other, &image).await.unwrap();
    assert_eq!(attesters(&other, &digest), ["operator", "vendor"]);
    assert!(other.store.check().unwrap().damage.is_empty());

    // What others attest beside it, more of it and of other kinds than is kept here, stays in the registry.
    let scans: Vec<Descriptor> = (0..100)
        .map(|scan| Descriptor {
            media_type: MEDIA_TYPE_ENVELOPE.to_owned(),
            digest: Digest::of(format!("scan {scan}").as_bytes()),
            size: 6,
            platform: None,
            annotations: [(
                "predicateType".to_owned(),
                "https://cosign.sigstore.dev/attestation/vuln/v1".to_owned(),
            )]
            .into(),
        })
        .collect();
    let mut manifest: Manifest = serde_json::from_slice(
        &vendor
            .store
            .attestation_contents(&digest, None)
            .unwrap()
            .unwrap()
            .bytes,
    )
    .unwrap();
    manifest.layers.clone_from(&scans);
    let tag = SignatureKind::Attestation.tag(&digest);
    let place = format!("team/a/manifests/{tag}");
    registry.set_manifest(
        "team/a",
        &tag,
        MEDIA_TYPE_MANIFEST,
        serde_json::to_vec(&manifest).unwrap(),
    );
    push(&vendor, &image).await;
    let there: Manifest = serde_json::from_slice(&registry.manifest(&place).unwrap()).unwrap();
    assert_eq!(there.layers[..100], scans);
    assert_eq!(there.layers.len(), 101, "and what the vendor attests");

    // Somebody else may write to the place of statements: it is passed over.
    registry.set_manifest("team/a", &tag, MEDIA_TYPE_MANIFEST, b"{}".to_vec());
    let last = Desk::new();
    pull(&last, &image).await.unwrap();
    assert_eq!(attesters(&last, &digest), [""; 0]);
}

#[tokio::test]
async fn what_lies_in_the_place_of_signatures_and_is_none_is_passed_over() {
    let (registry, desk) = (FakeRegistry::start().await, Desk::new());
    let image = desk.image(&format!("{}/team/a:v1", registry.host), &[("etc/a", b"a")]);
    let digest = desk.store.target(&image).unwrap().digest;
    sign(&desk, digest, "vendor");
    push(&desk, &image).await;
    let tag = SignatureKind::Image.tag(&digest);
    let bytes = desk.store.signature_contents(&digest).unwrap().unwrap().bytes;
    let text = String::from_utf8(bytes).unwrap();
    let payload = Digest::of(&desk.store.signatures(&digest).unwrap()[0].payload).to_string();

    // Those of another image.
    let image_b = desk.image(&format!("{}/team/a:v2", registry.host), &[("etc/a", b"b")]);
    let digest_b = desk.store.target(&image_b).unwrap().digest;
    push(&desk, &image_b).await;
    for (tag, text) in [
        (&SignatureKind::Image.tag(&digest_b), text.clone()),
        (
            &tag,
            text.replace(
                "vnd.dev.cosign.simplesigning.v1+json",
                "vnd.oci.image.layer.v1.tar",
            ),
        ),
        (&tag, text.replacen("\"size\":", "\"size\":99999999", 2)),
        (
            &tag,
            text.replace("cosign/signature\":\"", "cosign/signature\":\"!"),
        ),
        (&tag, text.replace(&payload, &Digest::of(b"nowhere").to_string())),
        (&tag, "{".to_owned()),
    ] {
        registry.set_manifest("team/a", tag, MEDIA_TYPE_MANIFEST, text.clone().into_bytes());
        let wanted = if *tag == SignatureKind::Image.tag(&digest_b) {
            &image_b
        } else {
            &image
        };
        let other = Desk::new();
        pull(&other, wanted).await.unwrap();
        let found = other.store.target(wanted).unwrap().digest;
        assert_eq!(signers(&other, &found), [""; 0], "{text}");
        assert!(other.store.check().unwrap().damage.is_empty());
    }
    // Who signs it comes before what is there.
    push(&desk, &image).await;
    let other = Desk::new();
    pull(&other, &image).await.unwrap();
    assert_eq!(signers(&other, &digest), ["vendor"]);
}

#[tokio::test]
async fn strangers_neither_fail_a_pull_nor_take_the_place_of_who_is_known() {
    let (registry, mut vendor, stranger) = (FakeRegistry::start().await, Desk::new(), Desk::new());
    let image = vendor.image(&format!("{}/team/a:v1", registry.host), &[("etc/a", b"a")]);
    let digest = vendor.store.target(&image).unwrap().digest;
    push(&vendor, &image).await;
    pull(&stranger, &image).await.unwrap();
    for number in 0..ImageSignature::MAX_SIGNATURES {
        sign(&stranger, digest, &format!("stranger {number}"));
    }
    push(&stranger, &image).await;
    // The vendor knows itself; there is room for 64.
    let guard = Guard::new(|_| Ok(()))
        .knowing(|_, signatures| signatures.iter().map(|one| one.signature == b"vendor").collect());
    vendor.store = vendor.store.guarded(guard);
    sign(&vendor, digest, "vendor");
    push(&vendor, &image).await;
    let other = Desk::new();
    pull(&other, &image).await.unwrap();
    let signers = signers(&other, &digest);
    assert_eq!(signers.len(), ImageSignature::MAX_SIGNATURES);
    assert!(signers.contains(&"vendor".to_owned()), "{signers:?}");
}

#[tokio::test]
async fn an_image_that_the_guard_refuses_is_not_pulled() {
    let (registry, vendor, operator) = (FakeRegistry::start().await, Desk::new(), Desk::new());
    let noise = support::noise(300_000);
    let image = vendor.image(&format!("{}/team/a:v1", registry.host), &[("etc/noise", &noise)]);
    let target = vendor.store.image(&image).unwrap();
    let guarded = operator.store.clone().guarded(Guard::new(|evidence| {
        if evidence.signatures.is_empty() {
            return Err(StoreError::Refused {
                reason: format!("{} is not signed", evidence.name),
                code: ExitCode::Verification,
            });
        }
        Ok(())
    }));
    let options = PullOptions {
        platforms: Platforms::One(Platform::host()),
    };
    push(&vendor, &image).await;
    registry.seen();
    let refused = operator
        .client()
        .pull(&guarded, &image, &options, |_| {})
        .await
        .unwrap_err();
    assert_eq!(refused.exit_code(), ExitCode::Verification);
    assert!(
        refused.to_string().contains("/team/a:v1 is not signed"),
        "{refused}"
    );
    let layer = target.layers[0].digest.to_string();
    let asked = registry.seen().iter().any(|seen| seen.path.contains(&layer));
    assert!(!asked, "no layer was asked for");
    assert!(operator.store.target(&image).is_err());

    sign(&vendor, target.manifest_digest, "vendor");
    push(&vendor, &image).await;
    operator
        .client()
        .pull(&guarded, &image, &options, |_| {})
        .await
        .unwrap();
}
