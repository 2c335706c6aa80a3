//! Signatures travel with their images, in every form that has a place for them.

use std::fs;

use gantry_model::{Digest, ImageSignature, SignedPayload};
use serde_json::Value;

use super::tests::{image, image_for, name, saved};
use crate::testing;
use crate::{Store, StoreError};

fn sign(store: &Store, image: Digest, identity: &str) -> ImageSignature {
    let payload = SignedPayload {
        image,
        identity: identity.to_owned(),
        layers: None,
    };
    let signature = ImageSignature {
        payload: payload.to_bytes(),
        signature: b"as good as any here".to_vec(),
    };
    store.add_signature(&image, &signature).unwrap();
    signature
}

#[test]
fn signatures_travel_in_archives_folders_and_parts() {
    let (from, dir) = (testing::store(), tempfile::tempdir().unwrap());
    let store = &from.store;
    for architecture in ["amd64", "arm64"] {
        image_for(store, &format!("demo:{architecture}"), architecture, architecture);
    }
    let of = |text: &str| store.platforms(&name(text)).unwrap();
    let entries = [of("demo:amd64"), of("demo:arm64")].concat();
    let index = store.set_platforms(&name("demo:v1"), entries.clone()).unwrap();
    let signed = [index, entries[0].digest, entries[1].digest];
    let signatures = signed.map(|digest| sign(store, digest, "demo"));

    let archive = saved(store, &["demo:v1"], dir.path());
    let folder = dir.path().join("layout");
    let names = [name("demo:v1")];
    store.save_folder(&names, None, &folder, &mut |_| {}).unwrap();
    let parts = dir.path().join("parts.tar");
    store
        .save_parts(&names, None, &parts, 64 << 10, None, &mut |_| {})
        .unwrap();
    let mut joined = Vec::new();
    for number in 1.. {
        match fs::read(dir.path().join(format!("parts.tar.part-{number:04}"))) {
            Ok(part) => joined.extend(part),
            Err(_) => break,
        }
    }
    fs::write(&parts, joined).unwrap();
    for path in [&archive, &folder, &parts] {
        let to = testing::store();
        let loaded = to.store.load(path, None, &mut |_| {}).unwrap();
        assert_eq!(loaded.len(), 1, "signatures are no images: {}", path.display());
        for (digest, signature) in signed.iter().zip(&signatures) {
            assert_eq!(
                to.store.signatures(digest).unwrap(),
                std::slice::from_ref(signature)
            );
        }
        assert!(to.store.check().unwrap().damage.is_empty());
        // The archive of what was loaded is the same archive.
        if *path == archive {
            let again = tempfile::tempdir().unwrap();
            let again = saved(&to.store, &["demo:v1"], again.path());
            assert_eq!(fs::read(again).unwrap(), fs::read(&archive).unwrap());
        }
    }
}

#[test]
fn a_folder_keeps_no_signatures_of_an_image_that_was_replaced() {
    let (from, dir) = (testing::store(), tempfile::tempdir().unwrap());
    let (store, folder) = (&from.store, dir.path().join("layout"));
    let entries = |folder: &std::path::Path| {
        let index = fs::read(folder.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        index["manifests"].as_array().unwrap().clone()
    };
    for content in ["one", "two"] {
        let digest = image(store, "demo:v1", content).manifest_digest;
        sign(store, digest, "demo");
        store
            .save_folder(&[name("demo:v1")], None, &folder, &mut |_| {})
            .unwrap();
        let entries = entries(&folder);
        assert_eq!(entries.len(), 2, "{entries:?}");
        let tag = format!("demo:sha256-{}.sig", digest.hex());
        assert_eq!(
            entries[1]["annotations"]["org.opencontainers.image.ref.name"],
            tag
        );
        assert_eq!(
            entries[0]["annotations"]["kind"],
            "dev.cosignproject.cosign/image"
        );
        assert_eq!(entries[1]["annotations"]["kind"], "dev.cosignproject.cosign/sigs");
    }
}

#[test]
fn a_changed_signature_is_refused_with_its_archive() {
    let (from, dir) = (testing::store(), tempfile::tempdir().unwrap());
    let digest = image(&from.store, "demo:v1", "content").manifest_digest;
    let signature = sign(&from.store, digest, "demo");
    let folder = dir.path().join("layout");
    from.store
        .save_folder(&[name("demo:v1")], None, &folder, &mut |_| {})
        .unwrap();
    let payload = folder.join(super::blob_path(&Digest::of(&signature.payload)));
    let text = fs::read_to_string(&payload).unwrap();
    fs::write(&payload, text.replace("\"demo\"", "\"d3mo\"")).unwrap();
    let to = testing::store();
    let error = to.store.load(&folder, None, &mut |_| {}).unwrap_err();
    assert!(matches!(error, StoreError::WrongDigest { .. }), "{error}");
    fs::remove_file(&payload).unwrap();
    let error = to.store.load(&folder, None, &mut |_| {}).unwrap_err();
    assert!(matches!(error, StoreError::CutShort { .. }), "{error}");
    assert_eq!(to.store.blobs().list().unwrap(), [], "nothing of it was kept");
}
