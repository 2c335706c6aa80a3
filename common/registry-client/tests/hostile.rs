//! Registries that lie: every lie ends in an error that names it, and no name in the store leads to anything of it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use flate2::write::GzEncoder;
use gantry_model::{Digest, ExitCode, ImageReference};
use gantry_registry_client::{Platforms, PullOptions, PushOptions, RegistryError};
use gantry_store::{Platform, Rootfs};
use serde_json::{Value, json};

use self::support::{Desk, FakeRegistry, Fault, name, noise};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

async fn pull(desk: &Desk, image: &str) -> Result<(), RegistryError> {
    let options = PullOptions {
        platforms: Platforms::One(Platform::host()),
    };
    desk.client()
        .pull(&desk.store, &name(image), &options, |_| {})
        .await
        .map(drop)
}

/// What is said in the place of a size.
type WrongSize = fn(u64) -> Value;

/// A desk with an image that came before, and what its store looks like.
struct Guarded {
    desk: Desk,
    here: ImageReference,
    before: BTreeMap<PathBuf, Digest>,
}

impl Guarded {
    fn new() -> Self {
        let desk = Desk::new();
        let here = desk.image("here:1", &[("etc/here", b"was here before")]);
        let before = desk.files();
        Self { desk, here, before }
    }

    /// The image is refused, for one platform and for all, and the store is as it was. Gives the first error.
    async fn refuses(&self, image: &str) -> RegistryError {
        let mut first = None;
        for platforms in [Platforms::One(Platform::host()), Platforms::All] {
            let options = PullOptions { platforms };
            let (client, wanted) = (self.desk.client(), name(image));
            let pulled = client.pull(&self.desk.store, &wanted, &options, |_| {});
            let error = pulled.await.expect_err(image);
            self.is_as_before(&error);
            first.get_or_insert(error);
        }
        first.unwrap()
    }

    fn is_as_before(&self, error: &RegistryError) {
        let store = &self.desk.store;
        let names: Vec<_> = store
            .images()
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, std::slice::from_ref(&self.here), "{error}");
        assert!(store.check().unwrap().damage.is_empty(), "{error}");
        let rootfs = Rootfs::read(store, &store.image(&self.here).unwrap()).unwrap();
        let mut content = Vec::new();
        rootfs.copy_file("etc/here", &mut content).unwrap();
        assert_eq!(content, b"was here before");
        // What came of it and was what its digest says helps the next try; no name leads to it, so it can go. What was on its way
        // beside the lie ends a moment later.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            store.remove_partial_blobs().unwrap();
            store.prune([]).unwrap();
            let after = self.desk.files();
            if after == self.before {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{error}: {after:?}, and before {:?}",
                self.before
            );
            std::thread::yield_now();
        }
    }
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len() })
}

/// An entry of an index, for this machine.
fn entry(kind: &str, digest: Digest, size: usize) -> Value {
    let platform = json!({ "os": "linux", "architecture": Platform::host().architecture });
    json!({ "mediaType": kind, "digest": digest, "size": size, "platform": platform })
}

fn index(entries: &[Value]) -> String {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string()
}

fn manifest(config: &Value, layers: &[Value]) -> String {
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers }).to_string()
}

/// The config of an image with this layer, uncompressed.
fn config(layer: &[u8]) -> String {
    json!({
        "architecture": Platform::host().architecture,
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(layer)] },
    })
    .to_string()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar stream with one entry of this name, as wrong as it may be, and where it leads if it leads somewhere.
fn tar(name: &str, target: Option<&str>) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(0o644);
    header.set_size(0);
    if let Some(target) = target {
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(tar::EntryType::Link);
    }
    header.set_cksum();
    [&header.as_bytes()[..], &[0; 1024]].concat()
}

async fn with_image() -> (FakeRegistry, String, Digest) {
    let (registry, desk) = (FakeRegistry::start().await, Desk::new());
    let image = format!("{}/a:v1", registry.host);
    let name = desk.image(&image, &[("noise", &noise(500_000))]);
    desk.client()
        .push(&desk.store, &name, &name, &PushOptions::default())
        .await
        .unwrap();
    registry.seen();
    let layer = desk.store.image(&name).unwrap().layers[0].digest;
    (registry, image, layer)
}

/// Pulls with this fault wherever `wrong` is asked for; gives the error, after a look at the store.
async fn refused(wrong: &str, fault: Fault) -> RegistryError {
    let (registry, image, layer) = with_image().await;
    let wrong = wrong.replace("LAYER", &layer.to_string());
    registry.faults(move |seen| (seen.method == "GET" && seen.path.contains(&wrong)).then(|| fault.clone()));
    let desk = Desk::new();
    let error = pull(&desk, &image).await.unwrap_err();
    assert!(!desk.store.blobs().exists(&layer), "what a liar sent is a blob");
    assert_eq!(
        desk.store.remove_partial_blobs().unwrap(),
        0,
        "what a liar sent is kept"
    );
    let guarded = Guarded::new();
    guarded.refuses(&image).await;
    // The same store works with an honest registry.
    registry.faults(|_| None);
    pull(&guarded.desk, &image).await.unwrap();
    error
}

#[tokio::test]
async fn wrong_bytes_of_a_blob() {
    let error = refused("LAYER", Fault::Flip).await;
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Verification);
}

#[tokio::test]
async fn a_blob_that_always_ends_early_and_always_begins_again() {
    let (registry, image, layer) = with_image().await;
    registry.faults(move |seen| {
        seen.path
            .contains(&layer.to_string())
            .then(|| Fault::Body(noise(300_000)))
    });
    let desk = Desk::new();
    let error = pull(&desk, &image).await.unwrap_err();
    assert!(matches!(error, RegistryError::BrokenOff { .. }), "{error}");
    assert!(desk.store.images().unwrap().is_empty() && !desk.store.blobs().exists(&layer));
}

#[tokio::test]
async fn a_blob_without_end() {
    let error = refused("LAYER", Fault::Endless).await;
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Verification);
}

#[tokio::test]
async fn a_manifest_without_end() {
    let error = refused("/manifests/", Fault::Endless).await;
    assert!(error.to_string().contains("larger than 4194304 bytes"), "{error}");
}

#[tokio::test]
async fn a_manifest_that_is_not_what_its_header_says() {
    let error = refused(
        "/manifests/",
        Fault::Body(b"{\"schemaVersion\":2,\"layers\":[]}".to_vec()),
    )
    .await;
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");
}

#[tokio::test]
async fn manifests_that_contradict_themselves() {
    let registry = FakeRegistry::start().await;
    let host = registry.host.clone();
    let config = json!({ "mediaType": "x", "digest": Digest::of(b"c"), "size": 1 });
    let layer = json!({ "mediaType": "x", "digest": Digest::of(b"l"), "size": 1 });
    let many: Vec<_> = std::iter::repeat_n(layer.clone(), 5000).collect();
    let entries: Vec<_> = std::iter::repeat_n(layer, 5000).collect();
    for (tag, kind, document, reason) in [
        (
            "both",
            MANIFEST,
            json!({ "schemaVersion": 2, "config": config, "layers": [], "manifests": [] }),
            "both at once",
        ),
        (
            "other",
            INDEX,
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [] }),
            "the registry says",
        ),
        (
            "old",
            MANIFEST,
            json!({ "schemaVersion": 1, "fsLayers": [] }),
            "schema 1",
        ),
        (
            "many",
            MANIFEST,
            json!({ "schemaVersion": 2, "config": config, "layers": many }),
            "5000 layers",
        ),
        (
            "wide",
            INDEX,
            json!({ "schemaVersion": 2, "manifests": entries }),
            "names 5000 images",
        ),
        ("text", MANIFEST, json!("\u{1b}[2J"), "invalid type"),
    ] {
        registry.set_manifest("evil", tag, kind, document.to_string());
        let error = Guarded::new().refuses(&format!("{host}/evil:{tag}")).await;
        assert!(error.to_string().contains(reason), "{tag}: {error}");
        assert_eq!(error.exit_code(), ExitCode::Verification, "{tag}");
        assert!(!error.to_string().contains('\u{1b}'), "{tag}");
    }
}

#[tokio::test]
async fn a_redirect_does_not_carry_the_password_along() {
    let (registry, image, layer) = with_image().await;
    let (thief, blobs) = (FakeRegistry::start().await, registry.clone());
    registry.want_password("Basic b3BzOmdlaGVpbQ==");
    let target = format!("http://{}/v2/a/blobs/{layer}", thief.host);
    registry.faults(move |seen| {
        let redirected = seen.authorization.is_some() && seen.path.contains(&layer.to_string());
        redirected.then(|| Fault::Status(307, vec![("location", target.clone())]))
    });
    // The thief has the blob, so that everything else goes well.
    let desk = Desk::new();
    desk.write(
        "auth.json",
        &format!(
            r#"{{"auths": {{"{}": {{"auth": "b3BzOmdlaGVpbQ=="}}}}}}"#,
            blobs.host
        ),
    );
    let error = pull(&desk, &image).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    let asked = thief.seen();
    assert!(!asked.is_empty(), "the redirect was followed");
    assert!(asked.iter().all(|seen| seen.authorization.is_none()), "{asked:?}");
}

#[tokio::test]
async fn a_redirect_in_a_circle() {
    let error = refused(
        "LAYER",
        Fault::Status(302, vec![("location", "?again".to_owned())]),
    )
    .await;
    assert!(
        error.to_string().contains("redirected more than 5 times"),
        "{error}"
    );
}

#[tokio::test]
async fn a_registry_that_stumbles_for_ever() {
    let (registry, image, layer) = with_image().await;
    registry.faults(move |seen| seen.path.contains(&layer.to_string()).then_some(Fault::Cut(10)));
    let error = pull(&Desk::new(), &image).await.unwrap_err();
    // Its answer may be lost with the connection, or be its beginning.
    let noticed = matches!(
        error,
        RegistryError::BrokenOff { .. } | RegistryError::Unreachable { .. }
    );
    assert!(noticed, "{error}");
    let asked = registry
        .seen()
        .iter()
        .filter(|seen| seen.path.contains(&layer.to_string()))
        .count();
    assert_eq!(asked, 4, "once, and three times again");
}

#[tokio::test]
async fn wrong_digests() {
    let registry = FakeRegistry::start().await;
    let guarded = Guarded::new();
    let at = |rest: &str| format!("{}/evil{rest}", registry.host);
    let layer = tar("a", None);
    let config = config(&layer);
    let said = descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
    registry.set_blob("evil", gzip(&layer));
    let layers = [descriptor(
        "application/vnd.oci.image.layer.v1.tar+gzip",
        &gzip(&layer),
    )];
    let whole = manifest(&said, &layers);

    // By the digest that an index says, and by the one that people say, there is something else.
    let other = Digest::of(b"another");
    registry.set_lie("evil", &other, MANIFEST, whole.clone());
    let list = index(&[entry(MANIFEST, other, whole.len())]);
    registry.set_manifest("evil", "listed", INDEX, list);
    for image in [at(":listed"), at(&format!("@{other}"))] {
        let error = guarded.refuses(&image).await;
        assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Verification);
    }
    // A config, with another one's bytes: there is none by that digest yet.
    registry.set_manifest("evil", "whole", MANIFEST, whole);
    let error = guarded.refuses(&at(":whole")).await;
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    let place = Digest::of(config.as_bytes()).to_string();
    let lie = config.replace("linux", "hurds");
    registry.faults(move |seen| {
        seen.path
            .contains(&place)
            .then(|| Fault::Body(lie.clone().into()))
    });
    registry.set_blob("evil", config);
    let error = guarded.refuses(&at(":whole")).await;
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");
}

#[tokio::test]
async fn a_layer_that_is_not_what_its_config_says() {
    let registry = FakeRegistry::start().await;
    let guarded = Guarded::new();
    let (layer, other) = (gzip(&tar("a", None)), config(&tar("b", None)));
    registry.set_blob("evil", layer.clone());
    registry.set_blob("evil", other.clone());
    let said = descriptor("application/vnd.oci.image.config.v1+json", other.as_bytes());
    let layers = [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &layer)];
    registry.set_manifest("evil", "v1", MANIFEST, manifest(&said, &layers));
    let error = guarded.refuses(&format!("{}/evil:v1", registry.host)).await;
    assert!(error.to_string().contains("does not match its digest"), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Verification);
}

#[tokio::test]
async fn wrong_sizes() {
    let registry = FakeRegistry::start().await;
    let guarded = Guarded::new();
    let at = |tag: &str| format!("{}/evil:{tag}", registry.host);
    let layer = tar("a", None);
    let (packed, config) = (gzip(&layer), config(&layer));
    registry.set_blob("evil", packed.clone());
    registry.set_blob("evil", config.clone());
    let said = descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
    let gzipped = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed);
    let sized = |descriptor: &Value, wrong: WrongSize| {
        let mut descriptor = descriptor.clone();
        descriptor["size"] = wrong(descriptor["size"].as_u64().unwrap());
        descriptor
    };
    let sizes: [(&str, WrongSize, &str); 6] = [
        (
            "short",
            |size| json!(size - 1),
            "which is what its manifest announces",
        ),
        ("long", |size| json!(size + 1), "broke off"),
        ("nothing", |_| json!(0), "does not match its digest"),
        ("endless", |_| json!(u64::MAX), "room"),
        (
            "negative",
            |size| json!(-i64::try_from(size).unwrap()),
            "invalid value",
        ),
        ("broken", |_| json!(1.5), "invalid type"),
    ];
    for (kind, wrong, reason) in sizes {
        for (what, document) in [
            ("layer", manifest(&said, &[sized(&gzipped, wrong)])),
            (
                "config",
                manifest(&sized(&said, wrong), std::slice::from_ref(&gzipped)),
            ),
        ] {
            let tag = format!("{what}-{kind}");
            registry.set_manifest("evil", &tag, MANIFEST, document);
            let error = guarded.refuses(&at(&tag)).await;
            // How large a config may be is bounded; a layer may have what the disk has.
            let reason = if tag == "config-endless" {
                "the most that is accepted"
            } else {
                reason
            };
            assert!(error.to_string().contains(reason), "{tag}: {error}");
        }
    }
    // What a list says of the size of a manifest is not believed, nor held against it: its digest tells which one it is.
    let whole = manifest(&said, &[gzipped]);
    registry.set_manifest("evil", "whole", MANIFEST, whole.clone());
    let digest = Digest::of(whole.as_bytes());
    for (tag, size) in [("short", 3), ("long", whole.len() + 1), ("endless", usize::MAX)] {
        let list = index(&[entry(MANIFEST, digest, size)]);
        registry.set_manifest("evil", tag, INDEX, list);
        pull(&Desk::new(), &at(tag)).await.unwrap();
    }
    pull(&guarded.desk, &at("whole")).await.unwrap();
}

#[tokio::test]
async fn bodies_without_end_of_what_is_asked_besides() {
    let (registry, image, _) = with_image().await;
    registry.faults(|seen| seen.path.contains("/blobs/").then_some(Fault::Endless));
    let error = Guarded::new().refuses(&image).await;
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    let error = refused("/manifests/v1", Fault::EndlessRefusal).await;
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    assert!(error.to_string().len() < 1000, "{error}");

    // What may be there of signatures is no reason not to have the image.
    let (registry, image, _) = with_image().await;
    registry.faults(|seen| seen.path.contains("/manifests/sha256-").then_some(Fault::Endless));
    let desk = Desk::new();
    pull(&desk, &image).await.unwrap();
    let digest = desk.store.target(&name(&image)).unwrap().digest;
    assert!(desk.store.signatures(&digest).unwrap().is_empty());

    // A token that never ends, and a list of tags, in one page and in as many as one wants.
    registry.faults(|seen| seen.path.starts_with("/token").then_some(Fault::Endless));
    registry.want_token_of(format!("http://{}/token", registry.host));
    let error = Guarded::new().refuses(&image).await;
    assert!(error.to_string().contains("larger than 1048576 bytes"), "{error}");
    let registry = FakeRegistry::start().await;
    let repository = name(&format!("{}/evil:v1", registry.host));
    registry.faults(|_| Some(Fault::Endless));
    let error = desk.client().tags(&repository).await.unwrap_err();
    assert!(error.to_string().contains("larger than 8388608 bytes"), "{error}");
    let mut page = 0;
    registry.faults(move |_| {
        page += 1;
        let tags: Vec<String> = (0..40_000).map(|tag| format!("t{tag}")).collect();
        let next = format!("</v2/evil/tags/list?last={page}>; rel=\"next\"");
        Some(Fault::Page(json!({ "tags": tags }).to_string(), next))
    });
    let error = desk.client().tags(&repository).await.unwrap_err();
    assert!(error.to_string().contains("longer than 100000 tags"), "{error}");
}

#[tokio::test]
async fn a_page_of_tags_that_lies_with_a_stranger() {
    let (registry, thief, desk) = (
        FakeRegistry::start().await,
        FakeRegistry::start().await,
        Desk::new(),
    );
    let next = format!("<http://{}/v2/evil/tags/list>; rel=\"next\"", thief.host);
    registry.faults(move |_| {
        Some(Fault::Page(
            json!({ "tags": ["a\u{1b}[2J"] }).to_string(),
            next.clone(),
        ))
    });
    let repository = name(&format!("{}/evil:v1", registry.host));
    let error = desk.client().tags(&repository).await.unwrap_err();
    assert!(
        error.to_string().contains("its next page lies elsewhere"),
        "{error}"
    );
    assert!(thief.seen().is_empty());
}

#[tokio::test]
async fn an_upload_that_leads_to_a_stranger_does_not_carry_the_password_along() {
    let (registry, thief, desk) = (
        FakeRegistry::start().await,
        FakeRegistry::start().await,
        Desk::new(),
    );
    registry.want_password("Basic b3BzOmdlaGVpbQ==");
    let auths = json!({ "auths": { &*registry.host: { "auth": "b3BzOmdlaGVpbQ==" } } });
    desk.write("auth.json", &auths.to_string());
    let location = format!("http://{}/v2/evil/blobs/uploads/u0", thief.host);
    registry.faults(move |seen| {
        let begins = seen.method == "POST" && seen.authorization.is_some();
        begins.then(|| Fault::Status(202, vec![("location", location.clone())]))
    });
    let image = desk.image(
        &format!("{}/evil:v1", registry.host),
        &[("noise", &noise(6_000_000))],
    );
    let (client, options) = (desk.client(), PushOptions::default());
    // The stranger takes it; whether the registry has it then is for the registry to say.
    let _ = client.push(&desk.store, &image, &image, &options).await;
    let asked = thief.seen();
    assert!(!asked.is_empty(), "the upload went where the registry said");
    assert!(asked.iter().all(|seen| seen.authorization.is_none()), "{asked:?}");
}

#[tokio::test]
async fn names_that_lead_out_of_their_place() {
    let registry = FakeRegistry::start().await;
    let guarded = Guarded::new();
    let at = |tag: &str| format!("{}/evil:{tag}", registry.host);
    let layer = tar("a", None);
    let config = config(&layer);
    registry.set_blob("evil", config.clone());
    let said = descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
    for digest in [
        "sha256:../../../../../../etc/passwd",
        "../blobs",
        "sha256:",
        "md5:0",
        "sha256:..\u{0}",
    ] {
        let layers = [json!({ "mediaType": "x", "digest": digest, "size": 1 })];
        registry.set_manifest("evil", "digest", MANIFEST, manifest(&said, &layers));
        let error = guarded.refuses(&at("digest")).await;
        assert_eq!(error.exit_code(), ExitCode::Verification, "{digest:?}: {error}");
    }
    for (path, target) in [
        ("../../../etc/passwd", None),
        ("a/../../../etc/passwd", None),
        ("a", Some("../../../etc/passwd")),
        ("a", Some("/etc/passwd")),
    ] {
        let layer = tar(path, target);
        let (packed, config) = (gzip(&layer), self::config(&layer));
        registry.set_blob("evil", packed.clone());
        registry.set_blob("evil", config.clone());
        let said = descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
        let layers = [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed)];
        registry.set_manifest("evil", "path", MANIFEST, manifest(&said, &layers));
        let error = guarded.refuses(&at("path")).await;
        let said = format!(
            "{error}: {:?}",
            std::error::Error::source(&error).map(ToString::to_string)
        );
        assert!(said.contains("cannot be in a layer"), "{path} {target:?}: {said}");
    }
    // A layer that is to be had elsewhere: nobody asks there.
    let thief = FakeRegistry::start().await;
    let mut foreign = descriptor(
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        b"foreign",
    );
    foreign["urls"] = json!([format!("http://{}/layer", thief.host)]);
    registry.set_manifest("evil", "foreign", MANIFEST, manifest(&said, &[foreign]));
    let error = guarded.refuses(&at("foreign")).await;
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    assert!(thief.seen().is_empty());
}

#[tokio::test]
async fn a_hundred_thousand_layers() {
    let registry = FakeRegistry::start().await;
    let guarded = Guarded::new();
    let layer = json!({ "mediaType": "x", "digest": Digest::of(b"l"), "size": 1 });
    let many = vec![layer; 100_000];
    registry.set_manifest("evil", "layers", MANIFEST, manifest(&many[0], &many));
    registry.set_manifest("evil", "images", INDEX, index(&many));
    // As many as an index has room for, and each with as many layers as there is room for.
    for tag in ["layers", "images"] {
        let error = guarded.refuses(&format!("{}/evil:{tag}", registry.host)).await;
        assert!(
            error.to_string().contains("larger than 4194304 bytes"),
            "{tag}: {error}"
        );
        assert_eq!(error.exit_code(), ExitCode::Verification, "{tag}");
    }
    // Few bytes, many layers: in a config that the manifest does not contradict.
    let diff_ids = vec![Digest::of(b"l"); 100_000];
    let config = json!({ "os": "linux", "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let config = config.to_string();
    registry.set_blob("evil", config.clone());
    registry.set_blob("evil", "l");
    let said = descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
    registry.set_manifest("evil", "config", MANIFEST, manifest(&said, &many[..1]));
    let error = guarded.refuses(&format!("{}/evil:config", registry.host)).await;
    assert!(
        error.to_string().contains("1 layers, its config 100000"),
        "{error}"
    );
}

#[tokio::test]
async fn lists_that_name_themselves_and_each_other() {
    let registry = FakeRegistry::start().await;
    let guarded = Guarded::new();
    let at = |tag: &str| format!("{}/evil:{tag}", registry.host);
    // No list can have its own digest in it: the registry has to lie about it.
    let (own, other) = (Digest::of(b"own"), Digest::of(b"other"));
    let itself = index(&[entry(INDEX, own, 1)]);
    let itself = itself.replace("\"size\":1", &format!("\"size\":{}", itself.len() + 2));
    registry.set_manifest("evil", "itself", INDEX, itself.clone());
    registry.set_lie("evil", &own, INDEX, itself);
    let one = index(&[entry(INDEX, other, 10_000)]);
    registry.set_manifest("evil", "each-other", INDEX, one.clone());
    registry.set_lie(
        "evil",
        &other,
        INDEX,
        index(&[entry(INDEX, Digest::of(one.as_bytes()), one.len())]),
    );
    for tag in ["itself", "each-other"] {
        let error = guarded.refuses(&at(tag)).await;
        assert!(
            matches!(error, RegistryError::WrongDigest { .. }),
            "{tag}: {error}"
        );
    }
    // As a manifest it is no image; as what it is, a list in a list, as deep as one likes, is refused at the first.
    let mut list = index(&[]);
    for depth in 0..20 {
        let digest = Digest::of(list.as_bytes());
        registry.set_manifest("evil", &format!("depth-{depth}"), INDEX, list.clone());
        list = index(&[
            entry(INDEX, digest, list.len()),
            entry(MANIFEST, digest, list.len()),
        ]);
    }
    registry.set_manifest("evil", "deep", INDEX, list);
    registry.seen();
    guarded.refuses(&at("deep")).await;
    let asked = registry.seen().len();
    assert!(asked < 20, "{asked} requests for one list");
}
