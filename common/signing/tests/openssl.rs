//! OpenSSL is asked what it thinks of our keys and signatures, and we of its.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::Command;

use gantry_model::{Digest, ImageSignature, SignedPayload};
use gantry_signing::{KeyKind, SigningKey, VerificationKey};

fn openssl(folder: &Path, words: &str) -> String {
    let output = Command::new("openssl")
        .args(words.split(' '))
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {words}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// How OpenSSL verifies and signs; it hashes for ECDSA and must not for Ed25519.
fn hashing(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::EcdsaP256 => "-rawin -digest sha256",
        KeyKind::Ed25519 => "-rawin",
    }
}

#[test]
fn openssl_verifies_what_we_signed() {
    for kind in [KeyKind::EcdsaP256, KeyKind::Ed25519] {
        let folder = tempfile::tempdir().unwrap();
        let (key, private) = SigningKey::generate(kind).unwrap();
        let signature = key.sign(Digest::of(b"manifest"), "hub/demo").unwrap();
        fs::write(folder.path().join("key"), private).unwrap();
        fs::write(folder.path().join("pub"), key.verification_key().to_pem()).unwrap();
        fs::write(folder.path().join("payload"), &signature.payload).unwrap();
        fs::write(folder.path().join("signature"), &signature.signature).unwrap();
        let verify = format!(
            "pkeyutl -verify -pubin -inkey pub -in payload -sigfile signature {}",
            hashing(kind)
        );
        openssl(folder.path(), &verify);
        // What it makes of the private key is our public one.
        let public = openssl(folder.path(), "pkey -in key -pubout");
        assert_eq!(public.parse::<VerificationKey>().unwrap(), key.verification_key());
        if kind == KeyKind::EcdsaP256 {
            openssl(
                folder.path(),
                "dgst -sha256 -verify pub -signature signature payload",
            );
        }
    }
}

#[test]
fn we_verify_what_openssl_signed_and_use_its_keys() {
    for (kind, make) in [
        (
            KeyKind::EcdsaP256,
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key",
        ),
        (KeyKind::Ed25519, "genpkey -algorithm ED25519 -out key"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        openssl(folder.path(), make);
        let public: VerificationKey = openssl(folder.path(), "pkey -in key -pubout").parse().unwrap();
        let private: SigningKey = fs::read_to_string(folder.path().join("key"))
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(private.verification_key(), public);

        let image = Digest::of(b"manifest");
        let payload = SignedPayload {
            image,
            identity: "hub/demo".to_owned(),
            layers: None,
        };
        fs::write(folder.path().join("payload"), payload.to_bytes()).unwrap();
        let sign = format!(
            "pkeyutl -sign -inkey key -in payload -out signature {}",
            hashing(kind)
        );
        openssl(folder.path(), &sign);
        let signature = ImageSignature {
            payload: payload.to_bytes(),
            signature: fs::read(folder.path().join("signature")).unwrap(),
        };
        assert_eq!(public.verify(&image, &signature).unwrap(), payload);
    }
}
