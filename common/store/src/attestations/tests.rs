//! Statements about images: what is signed, how long they live, what of strangers is taken.

use serde_json::json;

use super::*;
use crate::archive::tests::{image_for, name};
use crate::testing::{self, TestStore};

const KIND: &str = "https://slsa.dev/provenance/v1";

fn envelope(image: &Digest, said: usize) -> Envelope {
    let mut envelope = Envelope::of(&Statement::about(image, "a", KIND, json!({ "said": said })));
    envelope.add_signature(b"a signature");
    envelope
}

fn image(test: &TestStore) -> Digest {
    image_for(&test.store, "a:1", "content", "amd64").manifest_digest
}

#[test]
fn what_is_signed_is_as_dsse_has_it() {
    // The example of secure-systems-lab/dsse `protocol.md`.
    let envelope = Envelope {
        payload_type: "http://example.com/HelloWorld".to_owned(),
        payload: "aGVsbG8gd29ybGQ=".to_owned(),
        signatures: Vec::new(),
    };
    assert_eq!(
        envelope.signed_bytes().unwrap(),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
}

#[test]
fn attestations_live_as_long_as_their_image() {
    let test = testing::store();
    let image = image(&test);
    let (first, second) = (envelope(&image, 1), envelope(&image, 2));
    for one in [&first, &second, &second] {
        test.store.add_attestation(&image, one).unwrap();
    }
    assert_eq!(test.store.attestations(&image).unwrap(), [second, first]);
    let contents = test.store.attestation_contents(&image, None).unwrap().unwrap();
    assert_eq!(contents.tag(), format!("sha256-{}.att", image.hex()));
    test.store.set_provenance(&image, &json!({})).unwrap();
    test.store.prune([]).unwrap();
    assert_eq!(
        test.store.attestations(&image).unwrap().len(),
        2,
        "prune leaves them"
    );
    assert!(test.store.check().unwrap().damage.is_empty());

    test.store.remove_image(&name("a:1")).unwrap();
    assert_eq!(test.store.attestations(&image).unwrap(), []);
    assert_eq!(test.store.provenance(&image).unwrap(), None);
    assert_eq!(test.store.blobs().list().unwrap(), []);
}

#[test]
fn what_is_about_something_else_or_too_much_is_not_taken() {
    let test = testing::store();
    let image = image(&test);
    let other = envelope(&Digest::of(b"other"), 0);
    let error = test.store.add_attestation(&image, &other).unwrap_err();
    assert!(error.to_string().contains("something else"), "{error}");

    let mut unsigned = envelope(&image, 0);
    unsigned.signatures.clear();
    let error = test.store.add_attestation(&image, &unsigned).unwrap_err();
    assert!(error.to_string().contains("not signed"), "{error}");

    // Whoever signs here is heard, however many came before.
    for said in 0..=MAX_ATTESTATIONS {
        test.store
            .add_attestation(&image, &envelope(&image, said))
            .unwrap();
    }
    let held = test.store.attestations(&image).unwrap();
    assert_eq!(held.len(), MAX_ATTESTATIONS);
    assert_eq!(held[0], envelope(&image, MAX_ATTESTATIONS));

    // What strangers wrote beside it is passed over.
    let there = testing::store();
    let same = self::image(&there);
    let put = |bytes: &[u8], media_type: &str| Descriptor {
        media_type: media_type.to_owned(),
        digest: there.store.blobs().put_bytes(bytes).unwrap(),
        size: bytes.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
    };
    let good = serde_json::to_vec(&envelope(&image, 1)).unwrap();
    let others = serde_json::to_vec(&other).unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: String::new(),
        config: put(b"{}", "application/json"),
        layers: vec![
            put(b"no envelope", MEDIA_TYPE_ENVELOPE),
            put(&others, MEDIA_TYPE_ENVELOPE),
            put(&good, MEDIA_TYPE_ENVELOPE),
            put(&good, "text/plain"),
            put(&serde_json::to_vec(&unsigned).unwrap(), MEDIA_TYPE_ENVELOPE),
        ],
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).unwrap();
    there.store.add_attestation_manifest(&same, &bytes).unwrap();
    there
        .store
        .add_attestation_manifest(&same, b"no manifest")
        .unwrap();
    assert_eq!(there.store.attestations(&same).unwrap(), [envelope(&image, 1)]);

    // What is in the registry stays there, whatever is kept here.
    let beside = there
        .store
        .attestation_contents(&same, Some(&bytes))
        .unwrap()
        .unwrap();
    let pushed: Manifest = serde_json::from_slice(&beside.bytes).unwrap();
    assert_eq!(pushed.layers, manifest.layers);
    there.store.add_attestation(&same, &envelope(&image, 2)).unwrap();
    let beside = there
        .store
        .attestation_contents(&same, Some(&bytes))
        .unwrap()
        .unwrap();
    let pushed: Manifest = serde_json::from_slice(&beside.bytes).unwrap();
    assert_eq!(pushed.layers.len(), manifest.layers.len() + 1);
}
