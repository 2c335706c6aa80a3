//! Signatures in a store: whose they are, how many, what becomes of damage.

use gantry_model::SignedPayload;

use super::*;
use crate::archive::tests::{image_for, name};
use crate::testing;

fn signature(image: Digest, bytes: &[u8]) -> ImageSignature {
    let payload = SignedPayload {
        image,
        identity: "demo".to_owned(),
        layers: None,
    };
    ImageSignature {
        payload: payload.to_bytes(),
        signature: bytes.to_vec(),
    }
}

#[test]
fn signatures_are_added_once_and_go_with_their_image() {
    let test = testing::store();
    let store = &test.store;
    image_for(store, "demo:v1", "amd64", "amd64");
    let image = store.target(&name("demo:v1")).unwrap().digest;
    let before = store.blobs().list().unwrap().len();
    assert_eq!(store.signatures(&image).unwrap(), []);
    let (first, second) = (signature(image, b"first"), signature(image, b"second"));
    for one in [&first, &second, &first] {
        store.add_signature(&image, one).unwrap();
    }
    assert_eq!(store.signatures(&image).unwrap(), [first, second]);
    // The manifest of the first signature alone is nobody's any more.
    store.sweep([]).unwrap();
    assert_eq!(store.blobs().list().unwrap().len(), before + 3);
    assert!(store.check().unwrap().damage.is_empty());
    store.tag(&name("demo:v1"), &name("hub/demo:v2")).unwrap();
    store.remove_image(&name("demo:v1")).unwrap();
    assert_eq!(store.signatures(&image).unwrap().len(), 2);
    store.remove_image(&name("hub/demo:v2")).unwrap();
    assert_eq!(store.signatures(&image).unwrap(), []);
    assert_eq!(store.blobs().list().unwrap(), []);
    assert_eq!(std::fs::read_dir(store.signatures_dir()).unwrap().count(), 0);
}

#[test]
fn a_manifest_of_signatures_that_came_stays_as_it_came() {
    let (from, to) = (testing::store(), testing::store());
    for test in [&from, &to] {
        image_for(&test.store, "demo:v1", "amd64", "amd64");
    }
    let image = from.store.target(&name("demo:v1")).unwrap().digest;
    from.store
        .add_signature(&image, &signature(image, b"first"))
        .unwrap();
    let contents = from.store.signature_contents(&image).unwrap().unwrap();
    for blob in &contents.blobs {
        let bytes = from.store.blobs().read(&blob.digest, "blob", 1 << 20).unwrap();
        to.store.blobs().put_bytes(&bytes).unwrap();
    }
    // Others write more into it than we do.
    let mut bytes = contents.bytes.clone();
    bytes.push(b'\n');
    to.store.add_signature_manifest(&image, &bytes).unwrap();
    let came = to.store.signature_contents(&image).unwrap().unwrap();
    assert_eq!(came.bytes, bytes);
    // What adds nothing changes nothing; what adds something is joined to it.
    to.store.add_signature_manifest(&image, &contents.bytes).unwrap();
    assert_eq!(to.store.signature_contents(&image).unwrap().unwrap(), came);
    to.store
        .add_signature(&image, &signature(image, b"second"))
        .unwrap();
    assert_eq!(to.store.signatures(&image).unwrap().len(), 2);

    // Over another image it says nothing.
    let other = Digest::of(b"other");
    to.store.add_signature_manifest(&other, &bytes).unwrap();
    assert_eq!(to.store.signatures(&other).unwrap(), []);
}

#[test]
fn there_is_a_bound() {
    let test = testing::store();
    let image = Digest::of(b"image");
    for number in 0..ImageSignature::MAX_SIGNATURES {
        let one = signature(image, number.to_string().as_bytes());
        test.store.add_signature(&image, &one).unwrap();
    }
    let error = test.store.add_signature(&image, &signature(image, b"more"));
    assert!(error.unwrap_err().to_string().contains("more than the 64"));
}

/// A manifest of these signatures over `image`, and of whatever `change` makes of their entries.
fn manifest(
    store: &Store,
    signatures: &[ImageSignature],
    change: impl Fn(usize, &mut Descriptor),
) -> Vec<u8> {
    let config = store.blobs().put_bytes(b"{}").unwrap();
    let layer = |(index, one): (usize, &ImageSignature)| {
        let mut layer = Descriptor {
            media_type: MEDIA_TYPE_PAYLOAD.to_owned(),
            digest: store.blobs().put_bytes(&one.payload).unwrap(),
            size: one.payload.len() as u64,
            platform: None,
            annotations: BTreeMap::from([(ANNOTATION_SIGNATURE.to_owned(), STANDARD.encode(&one.signature))]),
        };
        change(index, &mut layer);
        layer
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: MEDIA_TYPE_MANIFEST.to_owned(),
        config: Descriptor {
            media_type: MEDIA_TYPE_CONFIG.to_owned(),
            digest: config,
            size: 2,
            platform: None,
            annotations: BTreeMap::new(),
        },
        layers: signatures.iter().enumerate().map(layer).collect(),
        annotations: BTreeMap::new(),
    };
    serde_json::to_vec(&manifest).unwrap()
}

#[test]
fn what_is_no_signature_is_passed_over_and_the_rest_is_taken() {
    let test = testing::store();
    let store = &test.store;
    let image = Digest::of(b"image");
    let all: Vec<ImageSignature> = (0..7).map(|number: u8| signature(image, &[number])).collect();
    let other = Digest::of(b"other");
    let bytes = manifest(store, &all, |index, layer| match index {
        0 => layer.media_type = "application/vnd.oci.image.layer.v1.tar".to_owned(),
        1 => drop(
            layer
                .annotations
                .insert(ANNOTATION_SIGNATURE.to_owned(), "!".to_owned()),
        ),
        2 => drop(
            layer
                .annotations
                .insert(ANNOTATION_SIGNATURE.to_owned(), "A".repeat(1 << 20)),
        ),
        3 => layer.size = 1 << 40,
        // Its payload is not there; it is over another image.
        4 => layer.digest = Digest::of(b"nowhere"),
        5 => {
            let payload = signature(other, b"").payload;
            layer.size = payload.len() as u64;
            layer.digest = store.blobs().put_bytes(&payload).unwrap();
        }
        _ => {}
    });
    store.add_signature_manifest(&image, &bytes).unwrap();
    assert_eq!(store.signatures(&image).unwrap(), all[6..]);
    assert_eq!(store.signature_damage(&image).unwrap(), None);
    assert!(store.signature_contents(&image).unwrap().is_some());
    for junk in [&b"{"[..], b"[]", b"{}"] {
        store.add_signature_manifest(&image, junk).unwrap();
    }
    assert_eq!(store.signatures(&image).unwrap().len(), 1);
}

#[test]
fn strangers_take_no_place_of_those_who_are_known() {
    let test = testing::store();
    let image = Digest::of(b"image");
    let strangers: Vec<ImageSignature> = (0..200_u16)
        .map(|number| signature(image, &number.to_be_bytes()))
        .collect();
    let known = signature(image, b"known");
    let guard = crate::Guard::new(|_| Ok(()));
    let guarded = test.store.clone().guarded(
        guard.knowing(|_, signatures| signatures.iter().map(|one| one.signature == b"known").collect()),
    );
    let many = [strangers.clone(), vec![known.clone()]].concat();
    guarded
        .add_signature_manifest(&image, &manifest(&guarded, &many, |_, _| {}))
        .unwrap();
    let kept = guarded.signatures(&image).unwrap();
    assert_eq!(kept.len(), ImageSignature::MAX_SIGNATURES);
    assert!(kept.contains(&known));
    // One's own finds a place as well, and keeps it.
    let own = signature(image, b"own");
    guarded.add_signature(&image, &own).unwrap();
    let kept = guarded.signatures(&image).unwrap();
    assert!(kept.len() == ImageSignature::MAX_SIGNATURES && kept.contains(&known) && kept.contains(&own));
    // Where nobody is known, the first ones are kept.
    let other = testing::store();
    other
        .store
        .add_signature_manifest(&image, &manifest(&other.store, &many, |_, _| {}))
        .unwrap();
    assert_eq!(
        other.store.signatures(&image).unwrap(),
        strangers[..ImageSignature::MAX_SIGNATURES]
    );
}

#[test]
fn damaged_signatures_count_as_absent_and_a_prune_removes_them() {
    for (damage, left) in [("note", 0), ("manifest", 0), ("payload", 1), ("config", 2)] {
        let test = testing::store();
        let store = &test.store;
        image_for(store, "demo:v1", "amd64", "amd64");
        let image = store.target(&name("demo:v1")).unwrap().digest;
        let other_payload = ImageSignature {
            payload: signature(image, b"")
                .payload
                .iter()
                .copied()
                .chain([b' '])
                .collect(),
            signature: b"second".to_vec(),
        };
        store.add_signature(&image, &signature(image, b"first")).unwrap();
        store.add_signature(&image, &other_payload).unwrap();
        let contents = store.signature_contents(&image).unwrap().unwrap();
        let blob = |digest: &Digest| store.blobs().path(digest);
        let path = match damage {
            "note" => store.signatures_path(&image),
            "manifest" => blob(&contents.manifest.digest),
            "payload" => blob(&Digest::of(&other_payload.payload)),
            _ => blob(&contents.blobs[0].digest),
        };
        std::fs::write(&path, b"{").unwrap();
        assert_eq!(store.signatures(&image).unwrap().len(), left, "{damage}");
        assert!(store.signature_damage(&image).unwrap().is_some(), "{damage}");
        assert!(store.signature_contents(&image).unwrap().is_none(), "{damage}");
        // The image is none the worse for it.
        let found = store.image(&name("demo:v1")).unwrap();
        let shown = store.accepted(&name("demo:v1"), &found).unwrap();
        assert_eq!(shown.signatures.len(), left, "{damage}");
        assert!(
            store
                .contents(&name("demo:v1"), None)
                .unwrap()
                .signatures
                .is_empty()
        );
        // Only what is asked to tidy up does.
        assert_eq!(store.sweep([]).unwrap().damaged_signatures, 0);
        let removal = store.prune([]).unwrap();
        assert_eq!(
            (removal.damaged_signatures, removal.postponed),
            (1, None),
            "{damage}"
        );
        assert_eq!(store.signature_damage(&image).unwrap(), None, "{damage}");
        assert_eq!(store.signatures(&image).unwrap().len(), left, "{damage}");
        assert!(store.check().unwrap().damage.is_empty(), "{damage}");
    }
}

#[test]
fn own_signatures_go_to_hosts_and_with_the_image_but_nowhere_else() {
    let test = testing::store();
    let store = &test.store;
    image_for(store, "demo:v1", "amd64", "amd64");
    let demo = name("demo:v1");
    let image = store.image(&demo).unwrap();
    let digest = image.manifest_digest;
    let (own, others) = (signature(digest, b"own"), signature(digest, b"others'"));
    store.add_own_signature(&digest, &own).unwrap();
    assert_eq!(store.signatures(&digest).unwrap(), std::slice::from_ref(&own));
    assert_eq!(store.signature_contents(&digest).unwrap(), None);
    store.add_signature(&digest, &others).unwrap();
    let shown = store.accepted(&demo, &image).unwrap();
    assert_eq!(shown.signatures, [own, others]);
    assert_eq!(store.signature_contents(&digest).unwrap().unwrap().blobs.len(), 2);
    for number in 3..40 {
        store
            .add_own_signature(&digest, &signature(digest, &[number]))
            .unwrap();
    }
    let held = store.signatures(&digest).unwrap();
    assert_eq!(held.len(), 17, "those of the latest names, and the other one");
    assert_eq!(held[15], signature(digest, &[39]));
    store.remove_image(&demo).unwrap();
    assert_eq!(std::fs::read_dir(store.own_signatures_dir()).unwrap().count(), 0);
}
