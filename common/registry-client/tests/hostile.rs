//! Registries that lie: every lie ends in an error that names it, and no name in the store leads to anything of it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use gantry_model::{Digest, ExitCode};
use gantry_registry_client::{Platforms, PullOptions, PushOptions, RegistryError};
use gantry_store::Platform;
use serde_json::json;

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
    assert!(
        desk.store.images().unwrap().is_empty(),
        "a name leads to what a liar sent"
    );
    assert!(!desk.store.blobs().exists(&layer), "what a liar sent is a blob");
    assert_eq!(
        desk.store.remove_partial_blobs().unwrap(),
        0,
        "what a liar sent is kept"
    );
    // The same store works with an honest registry.
    registry.faults(|_| None);
    pull(&desk, &image).await.unwrap();
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
        let desk = Desk::new();
        let error = pull(&desk, &format!("{host}/evil:{tag}")).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{tag}: {error}");
        assert_eq!(error.exit_code(), ExitCode::Verification, "{tag}");
        assert!(!error.to_string().contains('\u{1b}'), "{tag}");
        assert!(desk.store.images().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_list_that_holds_itself_by_another_name() {
    let registry = FakeRegistry::start().await;
    let inner = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }).to_string();
    registry.set_manifest("evil", "inner", INDEX, inner.clone());
    let platform = json!({ "os": "linux", "architecture": Platform::host().architecture });
    let entry = json!({ "mediaType": INDEX, "digest": Digest::of(inner.as_bytes()), "size": inner.len(), "platform": platform });
    registry.set_manifest(
        "evil",
        "v1",
        INDEX,
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }).to_string(),
    );
    let desk = Desk::new();
    pull(&desk, &format!("{}/evil:v1", registry.host))
        .await
        .unwrap_err();
    assert!(desk.store.images().unwrap().is_empty());
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
