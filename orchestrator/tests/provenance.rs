//! How an image was built is noted, signed along with it, and goes where it goes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod desk;

use std::fs;
use std::process::Command;

use desk::*;
use gantry_signing::SigningKey;
use gantry_store::Store;
use gantry_store::attestations::{Envelope, Statement};
use serde_json::{Value, json};

/// A desk with two pairs of keys, and an image `app:v1` on top of `base:v1`.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.ok(&["keys", "generate"]);
    desk.ok(&["keys", "generate", "-o", "other"]);
    desk.file("one/a", "a");
    desk.file("one/Kubefile", "FROM scratch\nCOPY a .\n");
    desk.ok(&["build", "-t", "base:v1", "one"]);
    desk.file("two/b", "b");
    desk.file("two/Kubefile", "FROM base:v1\nARG Password\nCOPY b .\n");
    desk.ok(&["build", "-t", "app:v1", "--build-arg", "Password=hunter2", "two"]);
    desk
}

fn digest(desk: &Desk, image: &str) -> String {
    desk.ok(&["inspect", "-f", "{{.Digest}}", image])
        .trim()
        .to_owned()
}

#[test]
fn a_build_says_what_went_into_it_and_no_secret() {
    let desk = desk();
    let statement = desk.json(&["provenance", "app:v1"]);
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let hex = digest(&desk, "app:v1").replace("sha256:", "");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], hex.as_str());
    let build = &statement["predicate"]["buildDefinition"];
    assert_eq!(
        build["externalParameters"]["arguments"],
        serde_json::json!(["Password"])
    );
    let materials = build["resolvedDependencies"].as_array().unwrap();
    assert_eq!(materials[0]["name"], "Kubefile");
    let base = digest(&desk, "base:v1").replace("sha256:", "");
    assert_eq!(materials[1]["digest"]["sha256"], base.as_str());
    assert!(!statement.to_string().contains("hunter2"), "{statement}");

    // The same build says the same, and is the same image.
    desk.ok(&["build", "-t", "app:v1", "--build-arg", "Password=hunter2", "two"]);
    assert_eq!(desk.json(&["provenance", "app:v1"]), statement);
    // It goes with the image.
    desk.ok(&["rmi", "app:v1"]);
    assert_eq!(
        fs::read_dir(desk.path("root/store/provenance")).unwrap().count(),
        1,
        "that of the base"
    );
}

fn ask<'a>(key: &[&'a str]) -> Vec<&'a str> {
    [&["--root", "there", "provenance"], key, &["app:v1"]].concat()
}

#[test]
fn it_is_signed_with_the_image_and_travels_with_it() {
    let desk = desk();
    let refused = desk.fails(6, &["provenance", "--key", "gantry.pub", "app:v1"]);
    assert!(refused.contains("gantry sign --key"), "{refused}");
    desk.ok(&["sign", "--key", "gantry.key", "app:v1"]);
    desk.ok(&["sign", "--key", "gantry.key", "app:v1"]);
    desk.ok(&["save", "--format", "oci-dir", "-o", "layout", "app:v1"]);
    desk.ok(&["save", "-o", "app.tar", "app:v1"]);
    let before = desk.json(&["provenance", "app:v1"]);

    for place in ["layout", "app.tar"] {
        let there = ["--root", "there", "load", place];
        desk.ok(&there);
        let statement = desk.json(&ask(&["--key", "other.pub", "--key", "gantry.pub"]));
        assert_eq!(statement["predicate"], before["predicate"], "{place}");
        assert_eq!(desk.json(&ask(&[]))["predicate"], before["predicate"]);
        desk.fails(6, &ask(&["--key", "other.pub"]));
        desk.ok(&["--root", "there", "store", "check"]);
        desk.ok(&["--root", "there", "rmi", "app:v1"]);
        let left = fs::read_dir(desk.path("there/store/attestations")).unwrap();
        assert_eq!(left.count(), 0, "{place}");
    }
    // An image that nobody signed says nothing elsewhere.
    desk.ok(&["save", "-o", "base.tar", "base:v1"]);
    desk.ok(&["--root", "there", "load", "base.tar"]);
    let unknown = desk.fails(2, &["--root", "there", "provenance", "base:v1"]);
    assert!(
        unknown.contains("nothing says how base:v1 was built"),
        "{unknown}"
    );
}

#[test]
fn openssl_finds_the_envelope_good_and_a_changed_one_is_refused() {
    let desk = desk();
    desk.ok(&["sign", "--key", "gantry.key", "app:v1"]);
    desk.ok(&["save", "--format", "oci-dir", "-o", "layout", "app:v1"]);
    let path = |hex: &str| desk.path(&format!("layout/blobs/sha256/{}", hex.replace("sha256:", "")));
    let json = |path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let index = json(desk.path("layout/index.json"));
    let entries = index["manifests"].as_array().unwrap();
    let entry = entries
        .iter()
        .find(|entry| entry["annotations"]["kind"] == "dev.cosignproject.cosign/atts")
        .unwrap();
    let manifest = json(path(entry["digest"].as_str().unwrap()));
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.dsse.envelope.v1+json");
    assert_eq!(
        layer["annotations"]["predicateType"],
        "https://slsa.dev/provenance/v1"
    );
    let envelope = path(layer["digest"].as_str().unwrap());
    let said = json(envelope.clone());
    desk.file("payload.base64", said["payload"].as_str().unwrap());
    desk.file("signature.base64", said["signatures"][0]["sig"].as_str().unwrap());
    let script = "openssl base64 -d -A -in signature.base64 -out signature && \
                  openssl base64 -d -A -in payload.base64 -out payload && \
                  { printf 'DSSEv1 28 application/vnd.in-toto+json %s ' $(stat -c %s payload); cat payload; } > signed && \
                  openssl dgst -sha256 -verify gantry.pub -signature signature signed";
    let verified = Command::new("sh")
        .args(["-c", script])
        .current_dir(desk.dir.path())
        .output()
        .unwrap();
    assert_eq!(verified.stdout, b"Verified OK\n", "{verified:?}");

    let mut bytes = fs::read(&envelope).unwrap();
    bytes[40] ^= 1;
    fs::write(&envelope, bytes).unwrap();
    desk.fails(6, &["--root", "there", "load", "layout"]);
    desk.fails(2, &["--root", "there", "inspect", "app:v1"]);
}

#[test]
fn what_is_said_of_an_index_is_said_of_its_images() {
    let desk = desk();
    desk.ok(&["manifest", "create", "list:v1", "base:v1"]);
    let store = Store::open(&desk.path("root")).unwrap();
    let index = store.target(&"list:v1".parse().unwrap()).unwrap().digest;
    assert_ne!(index.to_string(), digest(&desk, "base:v1"));
    let ask = ["--root", "there", "provenance", "--key", "gantry.pub", "list:v1"];
    desk.ok(&["save", "-o", "list.tar", "list:v1"]);
    desk.ok(&["--root", "there", "load", "list.tar"]);
    desk.fails(6, &ask);

    // As `cosign attest` does it, of the index alone.
    let said = json!({ "builder": "another one" });
    let kind = "https://slsa.dev/provenance/v1";
    let mut envelope = Envelope::of(&Statement::about(&index, "list", kind, said.clone()));
    let key: SigningKey = fs::read_to_string(desk.path("gantry.key"))
        .unwrap()
        .parse()
        .unwrap();
    let signature = key.sign_bytes(&envelope.signed_bytes().unwrap()).unwrap();
    envelope.add_signature(&signature);
    store.add_attestation(&index, &envelope).unwrap();
    desk.ok(&["save", "-o", "attested.tar", "list:v1"]);
    desk.ok(&["--root", "there", "load", "attested.tar"]);
    let statement = desk.json(&ask);
    assert_eq!(statement["predicate"], said);
    assert_eq!(statement["subject"][0]["digest"]["sha256"], index.hex().as_str());
    desk.fails(
        6,
        &["--root", "there", "provenance", "--key", "other.pub", "list:v1"],
    );

    // One platform's digest is enough, and so is a name of its own.
    let alone = digest(&desk, "base:v1");
    let by_digest = format!("list@{alone}");
    for (words, image) in [
        (&["load", "-t", "alone:v1", "base.tar"][..], "alone:v1"),
        (&["rmi", "alone:v1"], &by_digest),
        (&["images"], &alone),
    ] {
        desk.ok(&["save", "-o", "base.tar", "base:v1"]);
        desk.ok(&[&["--root", "there"], words].concat());
        let ask = ["--root", "there", "provenance", "--key", "gantry.pub", image];
        assert_eq!(desk.json(&ask)["predicate"], said, "{image}");
    }

    // What is said of the image itself comes first.
    desk.ok(&["sign", "--key", "gantry.key", "list:v1"]);
    let own = desk.json(&["provenance", "--key", "gantry.pub", "list:v1"]);
    assert_ne!(own["predicate"], said);
}
