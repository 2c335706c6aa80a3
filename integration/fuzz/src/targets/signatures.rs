//! Signatures over images, keys, and policies that ask for them.

use std::io;

use gantry_model::{Digest, ImageEvidence, SignedPayload};
use gantry_signing::{Accepted, Policy, SigningKey, VerificationKey};
use gantry_store::attestations::{Envelope, Statement};

use super::{texts, with_text};
use crate::Target;

/// A public key in PEM, made by OpenSSL.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

/// A policy. Whatever it says, what asks for signatures accepts no image without one.
pub(crate) const POLICY: Target = Target {
    name: "policy",
    seeds: || {
        texts(&[
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
            r#"{"default": [{"type": "reject"}], "transports": {"docker": {
                "hub.example:5000/a/b:v1": [{"type": "sigstoreSigned", "keyPath": "/a.pub",
                  "signedIdentity": {"type": "remapIdentity", "prefix": "a", "signedPrefix": "b"}}],
                "*.example": [{"type": "sigstoreSigned", "keyData": "AAAA"}], "": [{"type": "reject"}]}}}"#,
        ])
    },
    run: |data| {
        with_text(data, |text| {
            let read_key = |_: &str| Ok::<_, io::Error>(PUBLIC_KEY.to_owned());
            let Ok(policy) = Policy::parse(text, "policy.json", &read_key) else {
                return;
            };
            for name in ["demo:v1", "hub.example:5000/a/b:v1"] {
                let shown = ImageEvidence {
                    name: name.parse().expect("it is a name"),
                    manifest: data.to_vec(),
                    index: Some(data.to_vec()),
                    signatures: vec![],
                };
                let decided = policy.check(&shown);
                assert!(decided != Ok(Accepted::Signed), "nothing was signed");
                assert!(decided.is_ok() || !policy.accepts_anything());
            }
        });
    },
};

/// What signatures and statements say, and keys.
pub(crate) const SIGNATURE: Target = Target {
    name: "signature",
    seeds: || {
        let payload = SignedPayload {
            image: Digest::of(b"manifest"),
            identity: "hub.example/demo".to_owned(),
            layers: None,
        };
        let mut seeds = texts(&[
            PUBLIC_KEY,
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----\n",
        ]);
        seeds.push(payload.to_bytes());
        let image = Digest::of(b"manifest");
        let mut envelope = Envelope::of(&Statement::about(&image, "demo", "https://a.test/b", "c".into()));
        envelope.add_signature(b"a signature");
        seeds.extend(serde_json::to_vec(&envelope));
        seeds
    },
    run: |data| {
        if let Ok(envelope) = serde_json::from_slice::<Envelope>(data) {
            let statement = envelope.statement("an attestation");
            assert!(statement.is_err() || envelope.signed_bytes().is_some());
            assert!(statement.is_err() || envelope.about("an attestation").is_ok());
        }
        if let Ok(payload) = SignedPayload::parse(data) {
            assert_eq!(SignedPayload::parse(&payload.to_bytes()), Ok(payload));
        }
        with_text(data, |text| {
            let _ = text.parse::<SigningKey>();
            if let Ok(key) = text.parse::<VerificationKey>() {
                assert_eq!(key.to_pem().parse(), Ok(key));
            }
        });
    },
};
