//! What policies accept and refuse, and how they say what they do not understand.

use std::io;

use gantry_model::{Digest, ImageEvidence, ImageSignature, SignedPayload};

use super::{Accepted, HOST_KEYS_PATH, Policy, PolicyError};
use crate::{KeyKind, SigningKey};

/// Two keys, as files.
struct Keys {
    vendor: SigningKey,
    other: SigningKey,
}

impl Keys {
    fn new() -> Self {
        let key = |kind| SigningKey::generate(kind).unwrap().0;
        Self {
            vendor: key(KeyKind::EcdsaP256),
            other: key(KeyKind::Ed25519),
        }
    }

    fn policy(&self, text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text, "policy.json", &|path| match path {
            "/keys/vendor.pub" => Ok(self.vendor.verification_key().to_pem()),
            "/keys/other.pub" => Ok(self.other.verification_key().to_pem()),
            "/keys/all.pub" => Ok(format!(
                "Operator: ann\n{}\nOperator: bob\n{}",
                self.other.verification_key().to_pem(),
                self.vendor.verification_key().to_pem()
            )),
            "/keys/none.pub" => Ok("not a key".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }
}

const SIGNED: &str = r#"{
  "default": [{"type": "reject"}],
  "transports": {"docker": {
    "hub.example/prod": [{"type": "sigstoreSigned", "keyPath": "/keys/vendor.pub"}],
    "hub.example/prod/tools": [{"type": "insecureAcceptAnything"}],
    "demo": [{"type": "sigstoreSigned", "keyPath": "/keys/vendor.pub",
              "signedIdentity": {"type": "exactRepository", "dockerRepository": "hub.example/prod/demo"}}],
    "mirror.example": [{"type": "sigstoreSigned", "keyPath": "/keys/vendor.pub",
              "signedIdentity": {"type": "remapIdentity", "prefix": "mirror.example", "signedPrefix": "hub.example/prod"}}],
    "both.example": [{"type": "sigstoreSigned", "keyPath": "/keys/vendor.pub"},
                     {"type": "sigstoreSigned", "keyPath": "/keys/other.pub"}]
  }}
}"#;

fn evidence(name: &str, signatures: Vec<ImageSignature>) -> ImageEvidence {
    ImageEvidence {
        name: name.parse().unwrap(),
        manifest: b"manifest".to_vec(),
        index: None,
        signatures,
    }
}

fn image() -> Digest {
    Digest::of(b"manifest")
}

#[test]
fn the_entry_that_is_most_specific_decides() {
    let keys = Keys::new();
    let policy = keys.policy(SIGNED).unwrap();
    assert!(!policy.accepts_anything());
    let signed = |key: &SigningKey, identity: &str| key.sign(image(), identity).unwrap();
    let (by, with) = (&keys.vendor, "hub.example/prod/demo");
    for (name, signatures, said) in [
        (
            "hub.example/prod/demo:v1",
            vec![signed(by, with)],
            Ok(Accepted::Signed),
        ),
        ("hub.example/prod/tools/a:v1", vec![], Ok(Accepted::Unasked)),
        (
            "hub.example/prod/demo:v1",
            vec![],
            Err("it is not signed, and has to be by key /keys/vendor.pub"),
        ),
        (
            "hub.example/prod/demo:v1",
            vec![signed(&keys.other, with)],
            Err("its signature is not by key"),
        ),
        (
            "hub.example/prod/other:v1",
            vec![signed(by, with)],
            Err("but as \"hub.example/prod/demo\""),
        ),
        (
            "hub.example/test/demo:v1",
            vec![signed(by, with)],
            Err("no image of this name is accepted"),
        ),
        ("demo:v1", vec![signed(by, with)], Ok(Accepted::Signed)),
        (
            "docker.io/library/demo:v1",
            vec![signed(by, with)],
            Ok(Accepted::Signed),
        ),
        ("demo:v1", vec![signed(by, "demo")], Err("but as \"demo\"")),
        (
            "mirror.example/demo:v1",
            vec![signed(by, with)],
            Ok(Accepted::Signed),
        ),
        (
            "mirror.example/demo:v1",
            vec![signed(by, "mirror.example/demo")],
            Err("but as"),
        ),
        (
            "both.example/demo:v1",
            vec![signed(by, "both.example/demo")],
            Err("/keys/other.pub"),
        ),
        (
            "both.example/demo:v1",
            vec![
                signed(by, "both.example/demo"),
                signed(&keys.other, "both.example/demo"),
            ],
            Ok(Accepted::Signed),
        ),
    ] {
        let decided = policy.check(&evidence(name, signatures));
        match (decided, said) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{name}"),
            (Err(rejection), Err(said)) => {
                let text = rejection.to_string();
                assert!(text.contains(said), "{name}: {text}");
                let begin = format!("image {name} ({}) is refused by policy.json: ", image().short());
                assert!(text.starts_with(&begin), "{text}");
            }
            (found, wanted) => panic!("{name}: {found:?} and not {wanted:?}"),
        }
    }
}

#[test]
fn a_signature_over_another_image_or_changed_is_none() {
    let keys = Keys::new();
    let policy = keys.policy(SIGNED).unwrap();
    let name = "hub.example/prod/demo:v1";
    let refused = |signature| {
        policy
            .check(&evidence(name, vec![signature]))
            .unwrap_err()
            .to_string()
    };
    let other = keys
        .vendor
        .sign(Digest::of(b"other"), "hub.example/prod/demo")
        .unwrap();
    let said = refused(other);
    assert!(said.contains("is over another image"), "{said}");
    let good = keys.vendor.sign(image(), "hub.example/prod/demo").unwrap();
    for at in 0..good.payload.len() {
        let mut bad = good.clone();
        bad.payload[at] ^= 0x20;
        let said = refused(bad);
        assert!(said.contains("its signature is not by key"), "{said}");
    }
    let many = vec![good; ImageEvidence::MAX_SIGNATURES + 1];
    assert!(policy.check(&evidence(name, many)).is_err());
}

#[test]
fn any_key_of_a_file_or_of_several_files_will_do() {
    let keys = Keys::new();
    let stranger = SigningKey::generate(KeyKind::Ed25519).unwrap().0;
    for asked in [
        r#""keyPath": "/keys/all.pub""#,
        r#""keyPaths": ["/keys/other.pub", "/keys/vendor.pub"]"#,
    ] {
        let text = format!(r#"{{"default": [{{"type": "sigstoreSigned", {asked}}}]}}"#);
        let policy = keys.policy(&text).unwrap();
        for key in [&keys.vendor, &keys.other] {
            let shown = evidence("demo:v1", vec![key.sign(image(), "demo").unwrap()]);
            assert_eq!(policy.check(&shown), Ok(Accepted::Signed));
        }
        let shown = evidence("demo:v1", vec![stranger.sign(image(), "demo").unwrap()]);
        let said = policy.check(&shown).unwrap_err().to_string();
        assert!(said.contains("its signature is not by key /keys/"), "{said}");
    }
}

#[test]
fn how_layers_travel_counts_as_far_as_every_key_that_is_asked_for_says_it() {
    let keys = Keys::new();
    let policy = keys.policy(SIGNED).unwrap();
    let (form, other_form) = (Digest::of(b"form"), Digest::of(b"other form"));
    let says = |key: &SigningKey, image: Digest, identity: &str, layers: Option<Digest>| {
        let identity = identity.to_owned();
        let payload = SignedPayload {
            image,
            identity,
            layers,
        };
        key.sign_payload(&payload).unwrap()
    };
    let (vendor, other) = (&keys.vendor, &keys.other);
    let prod = "hub.example/prod/demo";
    for (name, signatures, said) in [
        (prod, vec![says(vendor, image(), prod, Some(form))], vec![form]),
        (prod, vec![says(vendor, image(), prod, None)], vec![]),
        // Whoever else says so, or of something else.
        (
            prod,
            vec![
                says(vendor, image(), prod, None),
                says(other, image(), prod, Some(form)),
                says(vendor, Digest::of(b"another"), prod, Some(form)),
                says(vendor, image(), "hub.example/prod/another", Some(form)),
            ],
            vec![],
        ),
        (
            "both.example/demo",
            vec![
                says(vendor, image(), "both.example/demo", Some(form)),
                says(vendor, image(), "both.example/demo", Some(other_form)),
                says(other, image(), "both.example/demo", Some(other_form)),
            ],
            vec![other_form],
        ),
        (
            "both.example/demo",
            vec![
                says(vendor, image(), "both.example/demo", Some(form)),
                says(other, image(), "both.example/demo", None),
            ],
            vec![],
        ),
    ] {
        let shown = evidence(&format!("{name}:v1"), signatures);
        assert_eq!(policy.signed_layers(&shown), said, "{name}");
    }
}

#[test]
fn keys_that_orchestrators_bring_are_asked_for_on_hosts_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    let asks = |keys: &str| {
        let text = format!(r#"{{"default": [{{"type": "sigstoreSigned", {keys}}}]}}"#);
        std::fs::write(&path, &text).unwrap();
        text
    };
    let text = asks(&format!(r#""keyPath": "{HOST_KEYS_PATH}""#));
    assert!(Policy::read_for_store(&path).unwrap().accepts_anything());
    // No host has it before an orchestrator asked it for something.
    let error = Keys::new().policy(&text).unwrap_err().to_string();
    assert!(
        error.contains("no orchestrator has brought its key") && error.contains("run the same command again"),
        "{error}"
    );
    asks(r#""keyPath": "/keys/gone.pub""#);
    assert!(Policy::read_for_store(&path).is_err());
}

#[test]
fn who_signed_the_index_signed_what_it_names() {
    let keys = Keys::new();
    let policy = keys.policy(SIGNED).unwrap();
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}"}}]}}"#,
        image()
    );
    let index = index.into_bytes();
    let signature = keys
        .vendor
        .sign(Digest::of(&index), "hub.example/prod/demo")
        .unwrap();
    let mut shown = evidence("hub.example/prod/demo:v1", vec![signature]);
    assert!(policy.check(&shown).is_err(), "the index was not shown");
    shown.index = Some(index);
    assert_eq!(policy.check(&shown), Ok(Accepted::Signed));
    shown.manifest = b"another one".to_vec();
    assert!(policy.check(&shown).is_err(), "the index does not name it");
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    let keys = Keys::new();
    let one = |requirement: &str| format!("{{\n  \"default\": [\n    {requirement}]\n}}");
    for (text, place, said) in [
        (one(r#"{"type": "sigstoreSined"}"#), ":3:", "did you mean \"sigstoreSigned\"?"),
        (one(r#"{"type": "signedBy", "keyPath": "/a"}"#), ":3:", "OpenPGP"),
        (one(r#"{"type": "sigstoreSigned"}"#), ":3:", "either keyPath or keyData"),
        (one(r#"{"type": "sigstoreSigned", "keyPaths": []}"#), ":3:", "either keyPath or keyData"),
        (
            one(r#"{"type": "sigstoreSigned", "keyPath": "/keys/vendor.pub", "keyPaths": ["/keys/other.pub"]}"#),
            ":3:",
            "either keyPath or keyData",
        ),
        (one(r#"{"type": "sigstoreSigned", "fulcio": {}}"#), ":3:", "unknown field `fulcio`"),
        (one(r#"{"type": "sigstoreSigned", "keyPath": "keys/a.pub"}"#), ":3:", "not an absolute path"),
        (one(r#"{"type": "sigstoreSigned", "keyData": "AAAA"}"#), ":3:", "keyData is not"),
        (one(r#"{"type": "sigstoreSigned", "keyPath": "/keys/none.pub"}"#), ":3:43", "no PEM block"),
        (one(r#"{"type": "sigstoreSigned", "keyPath": "/keys/gone.pub"}"#), ":3:43", "cannot read key /keys/gone.pub"),
        (one(r#"{"type": "reject", "keyPath": "/keys/vendor.pub"}"#), ":3:", "has no other fields"),
        (
            one(r#"{"type": "sigstoreSigned", "keyPath": "/keys/vendor.pub", "signedIdentity": {"type": "matchExact"}}"#),
            ":3:",
            "compares tags",
        ),
        (one(""), ":4:", "an empty list"),
        ("{}".to_owned(), ":1:2", "missing field `default`"),
        (r#"{"default": [{"type": "reject"}], "transports": {"oci": {}}}"#.to_owned(), ":1:", "unknown field `oci`"),
        (
            r#"{"default": [{"type": "reject"}], "transports": {"docker": {"a": [{"type": "reject"}], "docker.io/library/a": [{"type": "reject"}]}}}"#.to_owned(),
            ":1:",
            "is there twice",
        ),
        (
            r#"{"default": [{"type": "reject"}], "transports": {"docker": {"Demo": [{"type": "reject"}]}}}"#.to_owned(),
            ":1:",
            "lower case",
        ),
    ] {
        let error = keys.policy(&text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("policy.json{place}")), "{place}: {error}");
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn a_policy_that_is_not_there_or_broken_accepts_nothing_unless_nobody_chose_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.json");
    assert!(matches!(Policy::read(&path), Err(PolicyError::Io { .. })));
    let policy = Policy::accept_anything();
    assert_eq!(policy.check(&evidence("demo:v1", vec![])), Ok(Accepted::Unasked));
    let pinned = format!("demo@{}", Digest::of(b"another image"));
    let refused = policy.check(&evidence(&pinned, vec![])).unwrap_err().to_string();
    assert!(refused.contains("its name says that it is"), "{refused}");
    std::fs::write(&path, "{").unwrap();
    assert!(matches!(Policy::read(&path), Err(PolicyError::Wrong { .. })));
    std::fs::write(&path, " ".repeat(2 << 20)).unwrap();
    assert!(matches!(Policy::read(&path), Err(PolicyError::Io { .. })));
}

#[test]
fn keys_are_known_whatever_entry_asks_for_them() {
    let keys = Keys::new();
    let policy = keys.policy(SIGNED).unwrap();
    let stranger = SigningKey::generate(KeyKind::Ed25519).unwrap().0;
    let knows = |key: &SigningKey, of: Digest| policy.knows(&image(), &key.sign(of, "whatever").unwrap());
    assert!(knows(&keys.vendor, image()) && knows(&keys.other, image()));
    assert!(!knows(&stranger, image()) && !knows(&keys.vendor, Digest::of(b"another")));
    assert!(!Policy::accept_anything().knows(&image(), &stranger.sign(image(), "demo").unwrap()));
}
