//! Signing and verifying images as a person does it: keys, names, platforms, archives.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod desk;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use desk::Desk;
use gantry_model::SignedPayload;
use gantry_signing::SigningKey;
use gantry_store::Store;
use serde_json::Value;

/// A desk with an image `demo:v1` that nobody signed and a pair of keys.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.base_context();
    desk.ok(&["build", "--no-sign", "-t", "demo:v1", "base"]);
    desk.ok(&["keys", "generate"]);
    desk
}

/// The same for another platform, `demo:arm64`.
fn build_for_arm64(desk: &Desk) {
    let platform = ["--platform", "linux/arm64", "base"];
    desk.ok(&[["build", "--no-sign", "-t", "demo:arm64"].as_slice(), &platform].concat());
}

#[test]
fn keys_are_kept_to_their_owner_and_never_overwritten() {
    let desk = desk();
    let mode = |path: &str| fs::metadata(desk.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("gantry.key"), mode("gantry.pub") & 0o600), (0o600, 0o600));
    let before = fs::read(desk.path("gantry.key")).unwrap();
    let said = desk.fails(2, &["keys", "generate"]);
    assert!(said.contains("gantry.key is there already"), "{said}");
    assert_eq!(fs::read(desk.path("gantry.key")).unwrap(), before);
}

#[test]
fn an_image_is_signed_once_and_verified_under_every_name() {
    let desk = desk();
    let said = desk.fails(6, &["verify", "--key", "gantry.pub", "demo:v1"]);
    assert!(said.contains("demo:v1 has no signature"), "{said}");

    let signed = desk.ok(&["sign", "--key", "gantry.key", "demo:v1"]);
    assert!(signed.starts_with("demo:v1@sha256:"), "{signed}");
    let again = desk.run(&["sign", "--key", "gantry.key", "demo:v1"]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(said.contains("was signed by this key as demo before"), "{said}");

    desk.ok(&["tag", "demo:v1", "hub.example/demo:v1"]);
    let table = desk.ok(&["verify", "--key", "gantry.pub", "hub.example/demo:v1"]);
    assert!(table.starts_with("IMAGE"), "{table}");
    assert!(table.contains("linux/") && table.contains("demo"), "{table}");

    desk.ok(&["keys", "generate", "-o", "other", "--type", "ed25519"]);
    desk.fails(6, &["verify", "--key", "other.pub", "demo:v1"]);
    desk.ok(&["verify", "--key", "other.pub", "--key", "gantry.pub", "demo:v1"]);
    desk.ok(&[
        "sign",
        "--key",
        "other.key",
        "--as",
        "hub.example/demo",
        "demo:v1",
    ]);
    let json = desk.ok(&["verify", "--key", "other.pub", "-o", "json", "demo:v1"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["identity"], "hub.example/demo");
    assert_eq!(json.as_array().unwrap().len(), 1);

    // Another image has none of them.
    desk.file("base/etc/empty", "not any more");
    desk.ok(&["build", "--no-sign", "-t", "demo:v1", "base"]);
    desk.fails(6, &["verify", "--key", "gantry.pub", "demo:v1"]);
    desk.ok(&["verify", "--key", "gantry.pub", "hub.example/demo:v1"]);
    desk.ok(&["rmi", "demo:v1", "hub.example/demo:v1"]);
    let blobs = fs::read_dir(desk.path("root/store/blobs/sha256")).unwrap();
    let signatures = fs::read_dir(desk.path("root/store/signatures")).unwrap();
    assert_eq!(blobs.count() + signatures.count(), 0, "nothing is left of either");
}

/// What the signatures over the image with this name say.
fn signed(desk: &Desk, name: &str) -> Vec<SignedPayload> {
    let store = Store::open(&desk.path("root")).unwrap();
    let target = store.target(&name.parse().unwrap()).unwrap();
    let signatures = store.signatures(&target.digest).unwrap().into_iter();
    signatures
        .map(|one| SignedPayload::parse(&one.payload).unwrap())
        .collect()
}

#[test]
fn what_is_made_here_is_signed_by_the_own_key_under_each_of_its_names() {
    let desk = Desk::new();
    desk.base_context();
    let built = desk.run(&["build", "-t", "demo:v1", "base"]);
    let key = desk.path("root/orchestrator/pki/images.key.pem");
    let mode = fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let secret = fs::read_to_string(&key).unwrap();
    let said = [built.stdout, built.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(!said.contains(secret.lines().nth(1).unwrap()), "{said}");
    desk.file("ours.pub", desk.ok(&["keys", "show"]));
    let verify = |name: &str| {
        desk.ok(&["verify", "--key", "ours.pub", name]);
    };
    verify("demo:v1");
    // The same once more is the same signature.
    desk.ok(&["build", "-t", "demo:v1", "base"]);
    assert_eq!(signed(&desk, "demo:v1").len(), 1);
    assert_eq!(signed(&desk, "demo:v1")[0].layers, None);

    desk.ok(&["build", "-t", "demo:arm64", "--platform", "linux/arm64", "base"]);
    desk.ok(&["manifest", "create", "both:v1", "demo:v1", "demo:arm64"]);
    verify("both:v1");
    desk.ok(&["tag", "demo:v1", "hub.example/tools:v1"]);
    let names =
        |name: &str| -> Vec<String> { signed(&desk, name).into_iter().map(|one| one.identity).collect() };
    assert_eq!(names("demo:v1"), ["demo", "both", "hub.example/tools"]);
    desk.file("more/Kubefile", "FROM scratch\nCOPY Kubefile etc/\n");
    desk.ok(&["build", "--no-sign", "-t", "more:v1", "more"]);
    desk.fails(6, &["verify", "--key", "ours.pub", "more:v1"]);
    desk.ok(&["merge", "--no-sign", "-t", "unsigned:v1", "demo:v1", "more:v1"]);
    desk.fails(6, &["verify", "--key", "ours.pub", "unsigned:v1"]);
    desk.ok(&["tag", "unsigned:v1", "other:v1"]);
    desk.fails(6, &["verify", "--key", "ours.pub", "other:v1"]);
    desk.ok(&["tag", "demo:v1", "again:v1"]);
    desk.ok(&["merge", "-t", "shop:v1", "demo:v1", "again:v1"]);
    verify("shop:v1");
    desk.ok(&[
        "build",
        "-t",
        "both:v2",
        "--platform",
        "linux/amd64,linux/arm64",
        "base",
    ]);
    verify("both:v2");
    desk.file("upon/Kubefile", "FROM both:v2\nCOPY Kubefile etc/\n");
    desk.ok(&[
        "build",
        "-t",
        "upon:v1",
        "--platform",
        "linux/amd64,linux/arm64",
        "upon",
    ]);
    verify("upon:v1");
}

#[test]
fn what_is_made_of_an_image_that_nobody_signed_is_not_signed() {
    let desk = desk();
    desk.file("ours.pub", desk.ok(&["keys", "show"]));
    let is_signed = |name: &str| desk.run(&["verify", "--key", "ours.pub", name]).status.success();
    let warned = |words: &[&str]| {
        let made = desk.run(words);
        let said = String::from_utf8(made.stderr).unwrap();
        assert!(made.status.success(), "{words:?}: {said}");
        said
    };
    desk.file("upon/Kubefile", "FROM demo:v1\nCOPY Kubefile etc/\n");
    desk.file("mine/Kubefile", "FROM scratch\nCOPY Kubefile etc/\n");
    desk.ok(&["build", "-t", "mine:v1", "mine"]);
    let build = ["build", "-t", "upon:v1", "upon"];
    let merge = ["merge", "-t", "merged:v1", "mine:v1", "demo:v1"];
    for words in [build.as_slice(), &merge] {
        let (said, name) = (warned(words), words[2]);
        assert!(
            said.contains(&format!("{name} is not signed, for demo:v1 is not"))
                && said.contains("`gantry sign demo:v1`")
                && said.contains(&format!("`gantry sign {name}`")),
            "{said}"
        );
        assert!(!is_signed(name), "{name}");
    }
    desk.ok(&["tag", "upon:v1", "renamed:v1"]);
    assert!(!is_signed("renamed:v1"));
    let all = [&build[..], &["--platform", "linux/amd64,linux/arm64"]].concat();
    desk.ok(&[
        "build",
        "--no-sign",
        "-t",
        "demo:arm64",
        "--platform",
        "linux/arm64",
        "base",
    ]);
    desk.ok(&["tag", "demo:v1", "demo:amd64"]);
    desk.ok(&["rmi", "demo:v1"]);
    desk.ok(&["manifest", "create", "demo:v1", "demo:amd64", "demo:arm64"]);
    assert!(warned(&all).contains("upon:v1 is not signed, for demo:v1 is not"));
    assert!(!is_signed("upon:v1"));

    // Once somebody said so, what is made of it is signed: of an index, by what speaks for all of it.
    desk.ok(&["sign", "demo:v1"]);
    for words in [build.as_slice(), &all, &merge] {
        let said = warned(words);
        assert!(!said.contains("not signed"), "{said}");
        assert!(is_signed(words[2]), "{words:?}");
    }
}

#[test]
fn what_was_allowed_once_is_signed_however_it_is_made_again() {
    let desk = desk();
    desk.file("upon/Kubefile", "FROM demo:v1\nCOPY Kubefile etc/\n");
    let build = ["build", "-t", "upon:v1", "upon"];
    desk.ok(&build);
    desk.ok(&["sign", "upon:v1"]);
    let again = desk.run(&build);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(again.status.success() && !said.contains("not signed"), "{said}");
    desk.file("ours.pub", desk.ok(&["keys", "show"]));
    desk.ok(&["verify", "--key", "ours.pub", "upon:v1"]);
}

#[test]
fn a_key_that_the_policy_asks_for_vouches_for_what_is_built_on() {
    let desk = desk();
    desk.file("ours.pub", desk.ok(&["keys", "show"]));
    desk.file("upon/Kubefile", "FROM demo:v1\nCOPY Kubefile etc/\n");
    let key = desk.path("gantry.pub").display().to_string();
    desk.file(
        "vendors.json",
        format!(
            r#"{{"default": [{{"type": "insecureAcceptAnything"}}],
                "transports": {{"docker": {{"demo": [{{"type": "sigstoreSigned", "keyPath": "{key}"}}]}}}}}}"#
        ),
    );
    desk.ok(&["sign", "--key", "gantry.key", "demo:v1"]);
    // What nobody asks for vouches for nothing.
    desk.ok(&["build", "-t", "upon:v1", "upon"]);
    desk.fails(6, &["verify", "--key", "ours.pub", "upon:v1"]);
    desk.ok(&[
        "--signature-policy",
        "vendors.json",
        "build",
        "-t",
        "upon:v1",
        "upon",
    ]);
    desk.ok(&["verify", "--key", "ours.pub", "upon:v1"]);
    // Nor does an entry that asks for nothing.
    desk.ok(&["tag", "demo:v1", "free:v1"]);
    desk.file("free/Kubefile", "FROM free:v1\nCOPY Kubefile etc/\n");
    desk.ok(&[
        "--signature-policy",
        "vendors.json",
        "build",
        "-t",
        "freed:v1",
        "free",
    ]);
    desk.fails(6, &["verify", "--key", "ours.pub", "freed:v1"]);
}

#[test]
fn what_comes_from_elsewhere_is_signed_by_the_own_key_when_somebody_says_so() {
    let desk = desk();
    desk.ok(&["save", "--format", "docker-archive", "-o", "plain.tar", "demo:v1"]);
    desk.ok(&["load", "-t", "plain:v1", "plain.tar"]);
    desk.file("ours.pub", desk.ok(&["keys", "show"]));
    desk.fails(6, &["verify", "--key", "ours.pub", "plain:v1"]);
    desk.ok(&["sign", "plain:v1"]);
    desk.ok(&["verify", "--key", "ours.pub", "plain:v1"]);
    assert_eq!(signed(&desk, "plain:v1")[0].layers, None, "its manifest says it");
    let again = desk.run(&["sign", "plain:v1"]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(said.contains("was signed by this key as plain before"), "{said}");
}

#[test]
fn what_hosts_are_to_ask_is_not_asked_of_what_is_loaded_here() {
    let desk = desk();
    desk.ok(&["save", "-o", "unsigned.tar", "demo:v1"]);
    desk.ok(&["rmi", "demo:v1"]);
    let packaged = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/agent/policy.json");
    let policy = packaged.to_str().unwrap();
    desk.ok(&["--signature-policy", policy, "load", "unsigned.tar"]);
    desk.ok(&["--signature-policy", policy, "sign", "demo:v1"]);
}

#[test]
fn an_image_for_several_platforms_is_signed_as_a_whole_and_each() {
    let desk = desk();
    build_for_arm64(&desk);
    desk.ok(&["manifest", "create", "both:v1", "demo:v1", "demo:arm64"]);
    let signed = desk.ok(&["sign", "--key", "gantry.key", "both:v1"]);
    assert_eq!(signed.lines().count(), 3, "{signed}");
    let table = desk.ok(&["verify", "--key", "gantry.pub", "both:v1"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    for platform in ["all", "linux/amd64", "linux/arm64"] {
        assert!(table.contains(platform), "{platform}: {table}");
    }
    // What was signed is each image, whatever leads to it.
    desk.ok(&["verify", "--key", "gantry.pub", "demo:arm64"]);
}

#[test]
fn a_signature_over_an_index_speaks_for_an_image_that_is_named_by_its_digest() {
    let desk = desk();
    build_for_arm64(&desk);
    desk.ok(&["save", "-o", "alone.tar", "demo:arm64"]);
    desk.ok(&["manifest", "create", "demo:both", "demo:v1", "demo:arm64"]);
    let arm64 = desk.ok(&["inspect", "-f", "{{.Digest}}", "demo:arm64"]);
    let by_digest = format!("demo@{}", arm64.trim());
    desk.ok(&["rmi", "demo:arm64"]);
    // As `cosign sign` does it, of the index alone.
    let store = Store::open(&desk.path("root")).unwrap();
    let index = store.target(&"demo:both".parse().unwrap()).unwrap().digest;
    let key: SigningKey = fs::read_to_string(desk.path("gantry.key"))
        .unwrap()
        .parse()
        .unwrap();
    store
        .add_signature(&index, &key.sign(index, "demo").unwrap())
        .unwrap();

    let verified = desk.ok(&["verify", "--key", "gantry.pub", &by_digest]);
    assert!(
        verified.contains(&index.short()) && verified.contains("all"),
        "{verified}"
    );
    let said = desk.ok(&["inspect", "-f", "{{.SignedAs}}", &by_digest]);
    assert_eq!(said.trim(), "[demo]");
    let key = desk.path("gantry.pub").display().to_string();
    desk.file(
        "policy.json",
        format!(r#"{{"default": [{{"type": "sigstoreSigned", "keyPath": "{key}"}}]}}"#),
    );
    let policy = ["--signature-policy", "policy.json"];
    let load = [&policy[..], &["load", "-t", "demo:alone", "alone.tar"]].concat();
    desk.ok(&load);
    let there = [&policy[..], &["--root", "there", "load", "alone.tar"]].concat();
    desk.fails(6, &there);

    // Who signs one platform by its digest signs no other.
    desk.ok(&["rmi", "demo:alone"]);
    let signed = desk.ok(&["sign", "--key", "gantry.key", &by_digest]);
    assert_eq!(signed, format!("demo:both@{}\n", arm64.trim()));
}

#[test]
fn a_signature_is_in_the_archive_and_openssl_finds_it_good() {
    let desk = desk();
    desk.ok(&["sign", "--key", "gantry.key", "demo:v1"]);
    desk.ok(&["save", "--format", "oci-dir", "-o", "layout", "demo:v1"]);
    let read = |path: &str| fs::read(desk.path(path)).unwrap();
    let json = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
    let blob = |descriptor: &Value| {
        let hex = descriptor["digest"]
            .as_str()
            .unwrap()
            .strip_prefix("sha256:")
            .unwrap();
        read(&format!("layout/blobs/sha256/{hex}"))
    };
    let index = json(read("layout/index.json"));
    let image = index["manifests"][0]["digest"].as_str().unwrap();
    let manifest = json(blob(&index["manifests"][1]));
    let payload = blob(&manifest["layers"][0]);
    assert_eq!(
        json(payload.clone())["critical"]["image"]["docker-manifest-digest"],
        image
    );
    desk.file("payload", payload);
    let annotation = &manifest["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"];
    desk.file("signature.base64", annotation.as_str().unwrap());
    let openssl = |script: &str| {
        let output = Command::new("sh")
            .args(["-c", script])
            .current_dir(desk.dir.path())
            .output();
        output.unwrap()
    };
    let verify = "openssl base64 -d -A -in signature.base64 -out signature && \
                  openssl dgst -sha256 -verify gantry.pub -signature signature payload";
    let output = openssl(verify);
    assert_eq!(output.stdout, b"Verified OK\n", "{output:?}");

    // A signature made by openssl is one of ours: nothing in it is ours alone.
    desk.ok(&["save", "-o", "demo.tar", "demo:v1"]);
    desk.ok(&["rmi", "demo:v1"]);
    desk.ok(&["load", "demo.tar"]);
    desk.ok(&["verify", "--key", "gantry.pub", "demo:v1"]);
}

#[test]
fn a_file_that_is_no_key_is_named_with_what_makes_it_one() {
    let desk = desk();
    for (words, said) in [
        (["sign", "--key", "gantry.pub", "demo:v1"], "it is a public key"),
        (["verify", "--key", "gantry.key", "demo:v1"], "-pubout"),
        (["sign", "--key", "base/Kubefile", "demo:v1"], "no PEM block"),
        (
            ["sign", "--key", "nowhere.key", "demo:v1"],
            "cannot read key nowhere.key",
        ),
    ] {
        let error = desk.fails(2, &words);
        assert!(error.contains(said), "{words:?}: {error}");
    }
    desk.file("cosign.key", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n");
    let error = desk.fails(2, &["sign", "--key", "cosign.key", "demo:v1"]);
    assert!(error.contains("cosign import-key-pair"), "{error}");
}

#[test]
fn an_image_that_the_policy_of_this_machine_refuses_is_not_loaded() {
    let desk = desk();
    desk.ok(&["save", "-o", "unsigned.tar", "demo:v1"]);
    desk.ok(&["sign", "--key", "gantry.key", "demo:v1"]);
    desk.ok(&["save", "-o", "signed.tar", "demo:v1"]);
    desk.ok(&["rmi", "demo:v1"]);
    let key = desk.path("gantry.pub").display().to_string();
    desk.file(
        "policy.json",
        format!(r#"{{"default": [{{"type": "sigstoreSigned", "keyPath": "{key}"}}]}}"#),
    );
    let load = |archive| ["--signature-policy", "policy.json", "load", archive];
    let said = desk.fails(6, &load("unsigned.tar"));
    assert!(
        said.contains("image demo:v1 (") && said.contains("is refused by policy.json: it is not signed"),
        "{said}"
    );
    assert_eq!(
        fs::read_dir(desk.path("root/store/blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
    desk.ok(&load("signed.tar"));
    // By another name it is another image.
    let said = desk.fails(
        6,
        &[
            "--signature-policy",
            "policy.json",
            "load",
            "-t",
            "other:v1",
            "signed.tar",
        ],
    );
    assert!(said.contains("but as \"demo\""), "{said}");

    desk.file("policy.json", "{\n  \"default\": [{\"type\": \"rejct\"}]\n}");
    let said = desk.fails(2, &load("signed.tar"));
    assert!(
        said.contains("policy.json:2:") && said.contains("did you mean \"reject\"?"),
        "{said}"
    );
}

#[test]
fn an_image_that_the_policy_of_this_machine_refuses_reaches_no_host() {
    let desk = desk();
    let key = desk.path("gantry.pub").display().to_string();
    desk.file(
        "policy.json",
        format!(r#"{{"default": [{{"type": "sigstoreSigned", "keyPath": "{key}"}}]}}"#),
    );
    desk.ok(&["token", "create"]);
    // Whoever asks for the host is seen here.
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let udp = std::net::UdpSocket::bind(("127.0.0.1", port)).unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    desk.file(
        "Clusterfile",
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {name: demo}\nspec:\n  image: demo:v1\n  \
         hosts: [{ips: [127.0.0.1], roles: [master]}]\n",
    );
    let port = port.to_string();
    for words in [
        ["apply", "-f", "Clusterfile", "--agent-port", &port].as_slice(),
        &["stage", "-f", "Clusterfile", "--agent-port", &port],
        &["plan", "-f", "Clusterfile", "--agent-port", &port],
        &["run", "demo:v1", "-m", "127.0.0.1", "-y", "--agent-port", &port],
    ] {
        let said = desk.fails(6, words);
        assert!(
            said.contains("image demo:v1 (") && said.contains("policy.json: it is not signed"),
            "{words:?}: {said}"
        );
        assert!(said.contains("nothing was changed"), "{words:?}: {said}");
    }
    assert!(tcp.accept().is_err() && udp.recv_from(&mut [0]).is_err());
    assert!(!desk.path("root/clusters/demo/plan.json").exists());

    // Once it is signed, the host is asked.
    desk.ok(&["sign", "--key", "gantry.key", "demo:v1"]);
    let apply = ["apply", "-f", "Clusterfile", "--agent-port", &port];
    desk.fails(7, &[&apply[..], &["--connect-timeout", "1s"]].concat());
    assert!(udp.recv_from(&mut [0]).is_ok());
}

#[test]
fn a_name_that_is_signed_has_no_tag() {
    let desk = desk();
    for (name, tag) in [("hub.example/demo:v1", ":v1"), ("demo:latest", ":latest")] {
        let said = desk.fails(2, &["sign", "--key", "gantry.key", "--as", name, "demo:v1"]);
        assert!(said.contains(&format!("leave out \"{tag}\"")), "{said}");
    }
    desk.fails(6, &["verify", "--key", "gantry.pub", "demo:v1"]);
}

#[test]
fn that_an_image_is_signed_is_seen_and_where_signatures_are_lost_is_said() {
    let desk = desk();
    let list = |desk: &Desk| desk.json(&["images", "-o", "json"])[0]["signedAs"].clone();
    assert_eq!(list(&desk), serde_json::json!([]));
    let quiet = desk.run(&["save", "--format", "docker-archive", "-o", "plain.tar", "demo:v1"]);
    assert!(!String::from_utf8(quiet.stderr).unwrap().contains("signatures"));
    desk.ok(&[
        "sign",
        "--key",
        "gantry.key",
        "--as",
        "hub.example/demo",
        "demo:v1",
    ]);
    assert_eq!(list(&desk), serde_json::json!(["hub.example/demo"]));
    let table = desk.ok(&["images"]);
    assert!(table.contains("SIGNED") && table.contains("others"), "{table}");
    let said = desk.ok(&["inspect", "--no-unpack", "demo:v1"]);
    assert!(said.contains("Signed as  hub.example/demo"), "{said}");
    assert_eq!(
        desk.ok(&["inspect", "-f", "{{join .SignedAs \",\"}}", "demo:v1"])
            .trim(),
        "hub.example/demo"
    );
    let lossy = desk.run(&["save", "--format", "docker-archive", "-o", "demo.tar", "demo:v1"]);
    let said = String::from_utf8(lossy.stderr).unwrap();
    assert!(
        lossy.status.success() && said.contains("saved without its signatures"),
        "{said}"
    );
}

/// Whoever may write to a repository may sign what lies there: that somebody did is no reason to believe it.
#[test]
fn whose_signature_it_is_counts_for_the_list_and_for_verify() {
    let desk = desk();
    let signed = |name: &str| {
        let images = desk.json(&["images", "-o", "json"]);
        let mut images = images.as_array().unwrap().iter();
        let tag = name.rsplit_once(':').unwrap().1;
        images.find(|one| one["tag"] == tag).unwrap()["signed"].clone()
    };
    assert_eq!(signed("demo:v1"), Value::Null);
    let said = desk.fails(6, &["verify", "demo:v1"]);
    assert!(said.contains("nobody's signature counts for demo:v1"), "{said}");

    desk.ok(&["sign", "--key", "gantry.key", "demo:v1"]);
    assert_eq!(signed("demo:v1"), "others");
    desk.fails(6, &["verify", "demo:v1"]);
    // By a key that the policy names, for this name.
    let policy = |scope: &str| {
        let key = desk.path("gantry.pub").display().to_string();
        desk.file(
            "policy.json",
            format!(
                r#"{{"default": [{{"type": "insecureAcceptAnything"}}], "transports": {{"docker": {{
                    "{scope}": [{{"type": "sigstoreSigned", "keyPath": "{key}"}}]}}}}}}"#
            ),
        );
        key
    };
    policy("tools");
    assert_eq!(signed("demo:v1"), "others");
    let key = policy("demo");
    assert_eq!(signed("demo:v1"), "yes");
    let table = desk.ok(&["verify", "demo:v1"]);
    assert!(table.contains(&key), "{table}");
    policy("tools");

    // By the own one, as what the image is called.
    desk.ok(&["sign", "demo:v1"]);
    assert_eq!(signed("demo:v1"), "yes");
    assert!(desk.ok(&["images"]).contains(" yes"));
    let table = desk.ok(&["verify", "demo:v1"]);
    assert!(
        table.contains("the own one") && !table.contains("gantry.pub"),
        "{table}"
    );
    // Of a policy that cannot be read nothing is believed.
    desk.file("policy.json", "{");
    assert_eq!(signed("demo:v1"), "others");
    desk.fails(2, &["verify", "demo:v1"]);
}

#[test]
fn damaged_signatures_block_nothing_and_are_pruned() {
    let desk = desk();
    desk.ok(&["sign", "--key", "gantry.key", "demo:v1"]);
    let notes = fs::read_dir(desk.path("root/store/signatures")).unwrap();
    let note = notes.into_iter().next().unwrap().unwrap().path();
    let note: Value = serde_json::from_slice(&fs::read(note).unwrap()).unwrap();
    let hex = note["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    fs::write(desk.path("root/store/blobs/sha256").join(hex), "{").unwrap();
    let saved = desk.run(&["save", "-o", "demo.tar", "demo:v1"]);
    let said = String::from_utf8(saved.stderr).unwrap();
    assert!(
        saved.status.success()
            && said.contains("warning: signatures over demo:v1")
            && said.contains("gantry prune"),
        "{said}"
    );
    desk.fails(6, &["verify", "--key", "gantry.pub", "demo:v1"]);
    let pruned = desk.ok(&["prune"]);
    assert!(pruned.contains("damaged signatures over 1 image"), "{pruned}");
    desk.ok(&["sign", "--key", "gantry.key", "demo:v1"]);
    desk.ok(&["verify", "--key", "gantry.pub", "demo:v1"]);
    desk.ok(&["store", "check"]);
}

#[test]
fn a_pair_of_keys_that_cannot_be_written_leaves_no_half() {
    let desk = desk();
    fs::create_dir(desk.path("full")).unwrap();
    let said = desk.fails(2, &["keys", "generate", "-o", "nowhere/release"]);
    assert!(said.contains("cannot write nowhere/release.key"), "{said}");
    // Its public half has no place.
    std::os::unix::fs::symlink("nowhere/at-all", desk.path("full/release.pub")).unwrap();
    let said = desk.fails(5, &["keys", "generate", "-o", "full/release"]);
    assert!(said.contains("cannot write full/release.pub"), "{said}");
    assert!(
        !desk.path("full/release.key").exists(),
        "a private key that nobody was told of"
    );
}
