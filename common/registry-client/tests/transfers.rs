//! What travels between a store and a registry, and what does not; cuts, waits and refusals on the way.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::time::Duration;

use gantry_model::Digest;
use gantry_registry_client::{Event, How, Platforms, PullOptions, PushOptions, RegistryError};
use gantry_store::Platform;
use gantry_store::manifest::{
    MEDIA_TYPE_DOCKER_INDEX, MEDIA_TYPE_DOCKER_MANIFEST, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_MANIFEST,
};
use serde_json::{Value, json};

use self::support::{Desk, FakeRegistry, Fault, name, noise};

fn options() -> PullOptions {
    PullOptions {
        platforms: Platforms::One(Platform::host()),
    }
}

/// A registry that holds an image with one layer of noise, and the desk it was pushed from.
async fn with_image(len: usize) -> (FakeRegistry, Desk, String) {
    let (registry, desk) = (FakeRegistry::start().await, Desk::new());
    let image = format!("{}/team/a:v1", registry.host);
    let name = desk.image(&image, &[("etc/noise", &noise(len))]);
    desk.client()
        .push(&desk.store, &name, &name, &PushOptions::default())
        .await
        .unwrap();
    registry.seen();
    desk.events();
    (registry, desk, image)
}

async fn pull(desk: &Desk, image: &str) -> Result<(), RegistryError> {
    desk.client()
        .pull(&desk.store, &name(image), &options(), |_| {})
        .await
        .map(drop)
}

#[tokio::test]
async fn what_was_pushed_is_pulled_and_nothing_travels_twice() {
    let (registry, desk, image) = with_image(3_000_000).await;
    let other = Desk::new();
    pull(&other, &image).await.unwrap();
    let (pushed, pulled) = (
        desk.store.image(&name(&image)).unwrap(),
        other.store.image(&name(&image)).unwrap(),
    );
    assert_eq!(pushed, pulled);
    assert!(other.store.check().unwrap().damage.is_empty());
    registry.seen();

    pull(&other, &image).await.unwrap();
    let seen: Vec<_> = registry.seen().iter().map(|seen| seen.method.clone()).collect();
    assert_eq!(
        seen,
        ["GET", "HEAD", "GET", "GET"],
        "the second pull looks where the registry is, what the tag leads to, for signatures and for statements"
    );
    desk.client()
        .push(&desk.store, &name(&image), &name(&image), &PushOptions::default())
        .await
        .unwrap();
    let sent: usize = registry.seen().iter().map(|seen| seen.body_len).sum();
    assert_eq!(sent, 0, "the second push sends nothing");
}

#[tokio::test]
async fn of_a_changed_image_only_what_changed_travels() {
    let (registry, desk, image) = with_image(3_000_000).await;
    // The same config and layer under another tag: only the manifest is new there.
    let tag = name(&image.replace("v1", "v2"));
    desk.client()
        .push(&desk.store, &name(&image), &tag, &PushOptions::default())
        .await
        .unwrap();
    let sent: usize = registry.seen().iter().map(|seen| seen.body_len).sum();
    assert!(sent < 2000, "{sent} bytes were sent");
}

#[tokio::test]
async fn a_blob_of_another_repository_is_taken_from_there() {
    let (registry, desk, image) = with_image(3_000_000).await;
    let elsewhere = name(&image.replace("team/a", "other/b"));
    desk.client()
        .push(&desk.store, &name(&image), &elsewhere, &PushOptions::default())
        .await
        .unwrap();
    let sent: usize = registry.seen().iter().map(|seen| seen.body_len).sum();
    assert!(sent < 2000, "{sent} bytes were sent");
    let mounted = desk.events().into_iter().filter(|event| {
        matches!(
            event,
            Event::Done {
                how: How::Mounted,
                ..
            }
        )
    });
    assert_eq!(mounted.count(), 2, "config and layer are mounted");
    let other = Desk::new();
    pull(&other, &elsewhere.to_string()).await.unwrap();
}

#[tokio::test]
async fn a_blob_that_may_not_be_taken_from_another_repository_is_sent() {
    let (registry, desk, image) = with_image(100_000).await;
    let to = |team: &str| name(&image.replace("team/a", team));
    let push = async |target| {
        let (name, options) = (name(&image), PushOptions::default());
        desk.client().push(&desk.store, &name, &target, &options).await
    };
    for (status, team) in [(401, "b"), (403, "c"), (404, "d"), (400, "e"), (500, "f")] {
        registry.faults(move |seen| {
            let mounted = seen.method == "POST" && seen.path.contains("mount=");
            mounted.then(|| Fault::Status(status, Vec::new()))
        });
        push(to(team)).await.unwrap();
        let sent: usize = registry.seen().iter().map(|seen| seen.body_len).sum();
        assert!(sent > 100_000, "{status}: {sent} bytes were sent");
        pull(&Desk::new(), &to(team).to_string()).await.unwrap();
    }

    // A token for both repositories is refused, one for the own is given.
    registry.want_token_of(format!("http://{}/token", registry.host));
    for (status, team) in [(401, "g"), (403, "h"), (400, "i")] {
        registry.faults(move |seen| {
            let both = seen.path.starts_with("/token") && seen.path.matches("scope=").count() > 1;
            both.then(|| Fault::Status(status, Vec::new()))
        });
        push(to(team)).await.unwrap();
        pull(&Desk::new(), &to(team).to_string()).await.unwrap();
    }

    // Who may not write at all is told so, and nothing was sent.
    registry.seen();
    registry.faults(|seen| (seen.method == "POST").then(|| Fault::Status(403, Vec::new())));
    let error = push(to("j")).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotLoggedIn { .. }), "{error}");
    assert!(registry.seen().iter().all(|seen| seen.body_len == 0));
}

#[tokio::test]
async fn a_list_whose_sizes_are_wrong_is_read_by_its_digests() {
    let (registry, desk, image) = with_image(100_000).await;
    let pushed = desk.store.image(&name(&image)).unwrap();
    let platform = json!({ "os": "linux", "architecture": Platform::host().architecture });
    for (tag, size) in [("small", 100), ("none", 0), ("large", 1_u64 << 40)] {
        let entry = json!({
            "mediaType": MEDIA_TYPE_MANIFEST, "digest": pushed.manifest_digest, "size": size, "platform": platform,
        });
        let list = json!({ "schemaVersion": 2, "mediaType": MEDIA_TYPE_DOCKER_INDEX, "manifests": [entry] });
        registry.set_manifest("team/a", tag, MEDIA_TYPE_DOCKER_INDEX, list.to_string());
        let (other, listed) = (Desk::new(), image.replace("v1", tag));
        pull(&other, &listed).await.unwrap();
        assert_eq!(
            other.store.image(&name(&listed)).unwrap().manifest_digest,
            pushed.manifest_digest
        );
        // And goes on as it came.
        let archive = other.dir.path().join("saved.tar");
        let file = std::fs::File::create(&archive).unwrap();
        other
            .store
            .save(&[name(&listed)], None, file, &mut |_| {})
            .unwrap();
        let third = Desk::new();
        third.store.load(&archive, None, &mut |_| {}).unwrap();
        assert!(third.store.check().unwrap().damage.is_empty(), "{tag}");
        third
            .client()
            .push(
                &third.store,
                &name(&listed),
                &name(&listed),
                &PushOptions::default(),
            )
            .await
            .unwrap();
    }
}

/// Paths and contents of a layer's files.
type Files<'a> = &'a [(&'a str, &'a [u8])];

/// A layer as sealer packed it: names without a folder before them, what is removed as `.wh.` files.
fn packed_by_sealer(files: Files<'_>) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// The document of an image, as sealer 0.8 had it.
fn document_of_sealer(platform: &Value, ids: &[&str]) -> Value {
    let mut layers: Vec<Value> = ids
        .iter()
        .map(|id| json!({ "id": format!("sha256:{}", id.repeat(64)), "type": "COPY", "value": "rootfs ." }))
        .collect();
    layers.push(json!({ "id": "", "type": "CMD", "value": "kubectl apply -f one.yaml" }));
    json!({
        "kind": "Image", "apiVersion": "", "metadata": { "name": "kubernetes:v1.19.8", "creationTimestamp": null,
            "annotations": { "sea.aliyun.com/ClusterFile": "kind: Cluster" } },
        "spec": { "id": "7a", "sealer_version": "v0.8.6", "platform": platform, "layers": layers, "image_config": {
            "image_type": "", "cmd": { "parent": ["echo base"], "current": ["helm install web charts/web"] },
            "args": { "parent": null, "current": { "N": "2" } }, "labels": { "owner": "shop" } } },
        "status": {},
    })
}

/// Puts an image into the registry as sealer pushed it, for one platform: the descriptor of its manifest.
fn push_as_sealer(registry: &FakeRegistry, tag: &str, document: &Value, layers: &[Vec<u8>]) -> Value {
    let mut config = document.clone();
    // From 0.8 on, for those who show what is in a registry.
    config["architecture"] = document["spec"]["platform"]["architecture"].clone();
    config["os"] = "linux".into();
    config["history"] = json!([{ "created_by": "COPY rootfs ." }]);
    let config = config.to_string().into_bytes();
    let blob = |kind: &str, bytes: &[u8]| {
        registry.set_blob("team/a", bytes.to_vec());
        json!({ "mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len() })
    };
    let gzip = |layer: &Vec<u8>| blob("application/vnd.docker.image.rootfs.diff.tar.gzip", layer);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MEDIA_TYPE_DOCKER_MANIFEST,
        "config": blob("application/vnd.docker.container.image.v1+json", &config),
        "layers": layers.iter().map(gzip).collect::<Vec<_>>(),
    });
    let manifest = manifest.to_string();
    let digest = Digest::of(manifest.as_bytes());
    registry.set_manifest("team/a", tag, MEDIA_TYPE_DOCKER_MANIFEST, manifest.clone());
    registry.set_manifest(
        "team/a",
        &digest.to_string(),
        MEDIA_TYPE_DOCKER_MANIFEST,
        manifest,
    );
    json!({
        "mediaType": MEDIA_TYPE_DOCKER_MANIFEST, "digest": digest, "size": 12_345, "platform": document["spec"]["platform"],
    })
}

/// The same image in a save file, loaded.
fn saved_by_sealer(desk: &Desk, document: &Value, layers: &[(&str, Files<'_>)]) -> gantry_store::Image {
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |path: String, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content).unwrap();
    };
    for (id, files) in layers {
        for (path, content) in *files {
            put(format!("{}/{path}", id.repeat(64)), content);
        }
    }
    put(
        format!("{}.yaml", "7a".repeat(32)),
        document.to_string().as_bytes(),
    );
    let entry = json!({ "id": "7a".repeat(32), "platform": document["spec"]["platform"] });
    let metadata = json!({ "saved:v1": { "manifests": [entry] } });
    put("Metadata".to_owned(), metadata.to_string().as_bytes());
    let bytes = tar.into_inner().unwrap();
    // JSON is YAML.
    let read_yaml = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
    desk.store
        .load_stream(&bytes[..], "saved.tar", None, Some(read_yaml), &mut |_| {})
        .unwrap();
    desk.store.image(&name("saved:v1")).unwrap()
}

#[tokio::test]
async fn what_early_sealer_pushed_is_pulled_as_the_image_that_its_save_file_gives() {
    let registry = FakeRegistry::start().await;
    let image = format!("{}/team/a:v1", registry.host);
    let noise = noise(100_000);
    let base: Files<'_> = &[("etc/old.conf", b"old"), ("bin/kubelet", &noise)];
    let upper: Files<'_> = &[("etc/.wh.old.conf", b""), ("etc/new.conf", b"new")];
    let packed = [packed_by_sealer(base), packed_by_sealer(upper)];
    let platform = json!({ "os": "linux", "architecture": Platform::host().architecture });
    let document = document_of_sealer(&platform, &["a", "b"]);
    let entry = push_as_sealer(&registry, "alone", &document, &packed);
    let other = json!({ "os": "linux", "architecture": "s390x" });
    let others = push_as_sealer(
        &registry,
        "other",
        &document_of_sealer(&other, &["a"]),
        &packed[..1],
    );
    // Its lists say a wrong size of everything.
    let list =
        json!({ "schemaVersion": 2, "mediaType": MEDIA_TYPE_DOCKER_INDEX, "manifests": [entry, others] });
    registry.set_manifest("team/a", "v1", MEDIA_TYPE_DOCKER_INDEX, list.to_string());

    let desk = Desk::new();
    let saved = saved_by_sealer(&desk, &document, &[("a", base), ("b", upper)]);
    for tag in ["alone", "v1"] {
        pull(&desk, &image.replace("v1", tag)).await.unwrap();
        let pulled = desk.store.image(&name(&image.replace("v1", tag))).unwrap();
        // Only tar streams differ: those of a save file have a folder before each name.
        let mut config = pulled.config.clone();
        assert_ne!(config.rootfs.diff_ids, saved.config.rootfs.diff_ids);
        config.rootfs = saved.config.rootfs.clone();
        assert_eq!(config, saved.config, "{tag}");
        assert_eq!(
            pulled.manifest().unwrap().annotations,
            saved.manifest().unwrap().annotations
        );
        assert_eq!(
            pulled.commands().unwrap(),
            ["echo base", "helm install web charts/web"]
        );
        let files = |image| gantry_store::Rootfs::read(&desk.store, image).unwrap();
        let (here, there) = (files(&pulled), files(&saved));
        assert!(here.get("etc/new.conf").is_some() && here.get("etc/old.conf").is_none());
        assert_eq!(
            here.get("bin/kubelet").unwrap().kind,
            there.get("bin/kubelet").unwrap().kind
        );
        // The layers themselves stay as they came.
        let layers = pulled.manifest().unwrap().layers;
        assert_eq!(layers[0].digest, Digest::of(&packed[0]));
        assert_eq!(layers[0].media_type, MEDIA_TYPE_LAYER_GZIP);
    }
    assert!(desk.store.check().unwrap().damage.is_empty());

    // The next pull fetches no layer, and a push sends none back.
    registry.seen();
    pull(&desk, &image).await.unwrap();
    desk.client()
        .push(
            &desk.store,
            &name(&image),
            &name(&image.replace("v1", "today")),
            &PushOptions::default(),
        )
        .await
        .unwrap();
    let seen = registry.seen();
    let digest = Digest::of(&packed[0]).to_string();
    assert!(
        seen.iter()
            .all(|seen| seen.method == "HEAD" || !seen.path.contains(&digest)),
        "{seen:?}"
    );
    let fresh = Desk::new();
    pull(&fresh, &image.replace("v1", "today")).await.unwrap();

    // All platforms are one index.
    let all = PullOptions {
        platforms: Platforms::All,
    };
    fresh
        .client()
        .pull(&fresh.store, &name(&image), &all, |_| {})
        .await
        .unwrap();
    let listed = fresh.store.platforms(&name(&image)).unwrap();
    let listed: Vec<String> = listed
        .iter()
        .map(|entry| entry.platform.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(listed, [Platform::host().to_string(), "linux/s390x".to_owned()]);
}

#[tokio::test]
async fn what_early_sealer_pushed_and_cannot_be_taken_is_named_before_its_layers_travel() {
    let registry = FakeRegistry::start().await;
    let image = format!("{}/team/a:v1", registry.host);
    let packed = packed_by_sealer(&[("etc/daemon.json", b"{}")]);
    let platform = json!({ "os": "linux", "architecture": Platform::host().architecture });
    let layers = [packed.clone()];
    push_as_sealer(
        &registry,
        "odd",
        &document_of_sealer(&platform, &["a", "b"]),
        &layers,
    );
    let entry = push_as_sealer(&registry, "v1", &document_of_sealer(&platform, &["a"]), &layers);
    let by_digest = format!("{image}@{}", entry["digest"].as_str().unwrap());
    let desk = Desk::new();
    for (wanted, reason) in [
        (
            image.replace("v1", "odd"),
            "has 1 layers, where its document speaks of 2",
        ),
        (by_digest, "pull it by its tag"),
    ] {
        let error = pull(&desk, &wanted).await.unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("sealer 0.8 or an older one") && said.contains(reason),
            "{said}"
        );
        assert_eq!(error.exit_code(), gantry_model::ExitCode::Input);
    }
    let layer = Digest::of(&packed).to_string();
    assert!(registry.seen().iter().all(|seen| !seen.path.contains(&layer)));
    assert!(desk.store.images().unwrap().is_empty());

    // A layer that is no tar stream is refused when it is here, and nothing has the name.
    push_as_sealer(
        &registry,
        "broken",
        &document_of_sealer(&platform, &["a"]),
        &[b"no layer".to_vec()],
    );
    pull(&desk, &image.replace("v1", "broken")).await.unwrap_err();
    assert!(desk.store.images().unwrap().is_empty());

    // Anything else that does not fit is not taken for one.
    let mut manifest = json!({ "schemaVersion": 2, "mediaType": MEDIA_TYPE_DOCKER_MANIFEST, "layers": [
        { "mediaType": MEDIA_TYPE_LAYER_GZIP, "digest": Digest::of(&packed), "size": packed.len() }] });
    let config = json!({ "architecture": "amd64", "os": "linux" })
        .to_string()
        .into_bytes();
    registry.set_blob("team/a", config.clone());
    manifest["config"] = json!({ "digest": Digest::of(&config), "size": config.len() });
    registry.set_manifest("team/a", "odd", MEDIA_TYPE_DOCKER_MANIFEST, manifest.to_string());
    let said = pull(&desk, &image.replace("v1", "odd"))
        .await
        .unwrap_err()
        .to_string();
    assert!(said.contains("1 layers, its config 0"), "{said}");
}

#[tokio::test]
async fn a_pull_goes_on_where_it_was_cut() {
    let (registry, desk, image) = with_image(3_000_000).await;
    let layer = desk.store.image(&name(&image)).unwrap().layers[0].clone();
    let mut cuts = 0;
    registry.faults(move |seen| {
        let cut = seen.path.contains(&layer.digest.to_string()) && cuts < 2;
        cuts += u32::from(cut);
        cut.then_some(Fault::Cut(1_000_000))
    });
    let other = Desk::new();
    pull(&other, &image).await.unwrap();
    let layer = layer.digest.to_string();
    let ranges: Vec<_> = registry
        .seen()
        .into_iter()
        .filter(|seen| seen.path.contains(&layer))
        .map(|seen| seen.range)
        .collect();
    assert_eq!(
        ranges,
        [None, Some("bytes=1000000-".into()), Some("bytes=2000000-".into())]
    );
}

#[tokio::test]
async fn a_later_command_goes_on_where_an_earlier_one_gave_up() {
    let (registry, desk, image) = with_image(3_000_000).await;
    let layer = desk.store.image(&name(&image)).unwrap().layers[0]
        .digest
        .to_string();
    let cut = layer.clone();
    let mut first = true;
    registry.faults(move |seen| match seen.path.contains(&cut) {
        true if std::mem::take(&mut first) => Some(Fault::Cut(1_500_000)),
        true => Some(Fault::Status(503, Vec::new())),
        false => None,
    });
    let other = Desk::new();
    let error = pull(&other, &image).await.unwrap_err().to_string();
    assert!(error.contains("as the test says (503)"), "{error}");
    assert!(other.store.images().unwrap().is_empty());
    registry.seen();
    registry.faults(|_| None);
    pull(&other, &image).await.unwrap();
    let asked = registry
        .seen()
        .into_iter()
        .find(|seen| seen.path.contains(&layer))
        .unwrap();
    assert_eq!(asked.range.as_deref(), Some("bytes=1500000-"));
}

#[tokio::test]
async fn a_push_goes_on_where_it_was_cut() {
    let (registry, desk) = (FakeRegistry::start().await, Desk::new());
    let image = desk.image(
        &format!("{}/a:v1", registry.host),
        &[("noise", &noise(9_000_000))],
    );
    let mut first = true;
    registry.faults(move |seen| {
        (seen.method == "PATCH" && std::mem::take(&mut first)).then_some(Fault::Swallow(5_000_000))
    });
    desk.client()
        .push(&desk.store, &image, &image, &PushOptions::default())
        .await
        .unwrap();
    let layer = desk.store.image(&image).unwrap().layers[0].clone();
    assert_eq!(registry.blob_len(&layer.digest), Some(layer.size as usize));
    let patches: Vec<_> = registry
        .seen()
        .into_iter()
        .filter(|seen| seen.method == "PATCH")
        .collect();
    assert_eq!(patches.len(), 2);
    assert_eq!(
        patches[0].body_len + patches[1].body_len,
        layer.size as usize,
        "no byte was sent twice"
    );
}

#[tokio::test]
async fn a_registry_says_when_to_come_back() {
    let (registry, _, image) = with_image(1000).await;
    let mut first = true;
    registry.faults(move |seen| {
        (seen.path.contains("/manifests/") && std::mem::take(&mut first))
            .then(|| Fault::Status(429, vec![("retry-after", "1".to_owned())]))
    });
    let other = Desk::new();
    let started = tokio::time::Instant::now();
    pull(&other, &image).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
    let waits: Vec<_> = other
        .events()
        .into_iter()
        .filter(|event| matches!(event, Event::Waiting { .. }))
        .collect();
    assert!(
        matches!(&waits[..], [Event::Waiting { wait, .. }] if *wait == Duration::from_secs(1)),
        "{waits:?}"
    );
}

#[tokio::test]
async fn a_mirror_that_cannot_help_is_passed_over() {
    let (registry, _, image) = with_image(1000).await;
    let mirror = FakeRegistry::start().await;
    let other = Desk::new();
    let conf = |mirror: &str| {
        format!(
            "[[registry]]\nprefix = \"hub.corp\"\nlocation = \"{}\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n",
            registry.host
        )
    };
    other.write("registries.conf", &conf(&mirror.host));
    let wanted = image.replace(&registry.host, "hub.corp");
    pull(&other, &wanted).await.unwrap();
    assert!(
        mirror.seen().iter().any(|seen| seen.path.contains("/manifests/")),
        "the mirror is asked first"
    );
    assert!(other.store.image(&name(&wanted)).is_ok());

    // The other way round: what the mirror has is not asked of the registry.
    let third = Desk::new();
    third.write(
        "registries.conf",
        &conf(&registry.host).replacen(&registry.host, "127.0.0.1:1", 1),
    );
    pull(&third, &wanted).await.unwrap();
}

#[tokio::test]
async fn a_mirror_that_does_not_answer_is_not_waited_for() {
    let (registry, _, image) = with_image(1000).await;
    let conf = |location: &str, mirror: &str| {
        format!(
            "[[registry]]\nprefix = \"hub.corp\"\nlocation = \"{location}\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n"
        )
    };
    let wanted = image.replace(&registry.host, "hub.corp");
    let desk = Desk::new();
    desk.write("registries.conf", &conf(&registry.host, "127.0.0.1:1"));
    pull(&desk, &wanted).await.unwrap();
    let events = desk.events();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Passed { reason } if reason.contains("127.0.0.1:1"))),
        "{events:?}"
    );
    assert!(
        !events.iter().any(|event| matches!(event, Event::Waiting { .. })),
        "{events:?}"
    );

    // While the registry itself is waited for, the mirror comes back; it is the only one there.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let desk = Desk::new();
    desk.write("registries.conf", &conf("127.0.0.1:1", &address));
    let back = async {
        while !desk
            .events()
            .iter()
            .any(|event| matches!(event, Event::Waiting { .. }))
        {
            tokio::task::yield_now().await;
        }
        registry.serve_at(&address).await;
    };
    let (pulled, ()) = tokio::join!(pull(&desk, &wanted), back);
    pulled.unwrap();

    // Where nobody comes back, everybody is asked a second time at most.
    let desk = Desk::new();
    desk.write("registries.conf", &conf("127.0.0.1:1", "127.0.0.1:2"));
    let error = pull(&desk, &wanted).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::Unreachable { registry, .. } if registry == "127.0.0.1:1"),
        "{error}"
    );
    let passed = desk
        .events()
        .into_iter()
        .filter(|event| matches!(event, Event::Passed { .. }));
    assert_eq!(passed.count(), 2);
}

#[tokio::test]
async fn a_token_is_fetched_once_for_what_is_done() {
    let (registry, desk, image) = with_image(100_000).await;
    let realm = format!("http://{}/token", registry.host);
    registry.want_token_of(realm);
    let other = Desk::new();
    other.write(
        "auth.json",
        &format!(
            r#"{{"auths": {{"{}": {{"auth": "b3BzOmdlaGVpbQ=="}}}}}}"#,
            registry.host
        ),
    );
    pull(&other, &image).await.unwrap();
    let tokens: Vec<_> = registry
        .seen()
        .into_iter()
        .filter(|seen| seen.path.starts_with("/token"))
        .collect();
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert!(
        tokens[0]
            .path
            .contains("scope=repository%3Ateam%2Fa%3Apull&account=ops"),
        "{}",
        tokens[0].path
    );
    assert_eq!(tokens[0].authorization.as_deref(), Some("Basic b3BzOmdlaGVpbQ=="));

    // To take a blob from another repository is to read that one.
    desk.write(
        "auth.json",
        &format!(
            r#"{{"auths": {{"{}": {{"auth": "b3BzOmdlaGVpbQ=="}}}}}}"#,
            registry.host
        ),
    );
    let elsewhere = name(&image.replace("team/a", "b"));
    desk.client()
        .push(&desk.store, &name(&image), &elsewhere, &PushOptions::default())
        .await
        .unwrap();
    let tokens = registry
        .seen()
        .into_iter()
        .filter(|seen| seen.path.starts_with("/token"));
    assert!(tokens.into_iter().any(|seen| {
        seen.path
            .contains("scope=repository%3Ab%3Apull%2Cpush&scope=repository%3Ateam%2Fa%3Apull")
    }));
}

/// Mirrors, search registries and what stands for another registry are named by `registries.conf`, which says of each itself whether it
/// is insecure.
#[tokio::test]
async fn insecure_is_said_of_the_registry_in_the_name_alone() {
    let (registry, _, image) = with_image(1000).await;
    let host = &registry.host;
    let short = image.replace(&format!("{host}/"), "");
    let corp = image.replace(host, "hub.corp");
    let pull = async |conf: &str, name: &str| {
        let other = Desk::new();
        other.write("registries.conf", conf);
        pull(&other, name).await.map(drop)
    };
    let search = format!("unqualified-search-registries = [\"{host}\"]\n");
    let moved = format!("[[registry]]\nprefix = \"hub.corp\"\nlocation = \"{host}\"\n");
    registry.seen();
    for (conf, name) in [(&search, &short), (&moved, &corp)] {
        let error = pull(conf, name).await.unwrap_err().to_string();
        assert!(error.contains(host), "{error}");
        assert!(registry.seen().is_empty(), "{name}: {error}");
    }
    // A mirror is passed over, and the registry itself asked.
    let mirror = FakeRegistry::start().await;
    let mirrored = format!(
        "[[registry]]\nlocation = \"{host}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        mirror.host
    );
    pull(&mirrored, &image).await.unwrap();
    assert!(mirror.seen().is_empty());

    let said = format!("{search}[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
    pull(&said, &short).await.unwrap();
    pull(&format!("{moved}insecure = true\n"), &corp).await.unwrap();
}

/// The attack: whoever answers in the place of an insecure registry names a server of his own, and is sent the password.
#[tokio::test]
async fn no_password_goes_to_an_insecure_token_server_elsewhere() {
    let (registry, _, image) = with_image(1000).await;
    let server = FakeRegistry::start().await;
    let (_, port) = server.host.rsplit_once(':').unwrap();
    let elsewhere = format!("localhost:{port}");
    registry.want_token_of(format!("http://{elsewhere}/token"));
    let other = Desk::new();
    let login = r#"{"auths": {"HOST": {"auth": "b3BzOmdlaGVpbQ=="}}}"#;
    other.write("auth.json", &login.replace("HOST", &registry.host));
    let error = pull(&other, &image).await.unwrap_err().to_string();
    assert!(
        error.contains("no password is sent there")
            && error.contains(&format!("for {elsewhere} in registries.conf")),
        "{error}"
    );
    assert!(server.seen().is_empty());

    // The same host is the one that was named.
    registry.want_token_of(format!("http://{}/token", server.host));
    pull(&other, &image).await.unwrap();
    assert_eq!(server.seen().len(), 1);
    // Or one of which it is said.
    registry.want_token_of(format!("http://{elsewhere}/token"));
    let other = Desk::new();
    other.write("auth.json", &login.replace("HOST", &registry.host));
    let conf = format!("[[registry]]\nlocation = \"{elsewhere}\"\ninsecure = true\n");
    other.write("registries.conf", &conf);
    pull(&other, &image).await.unwrap();
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn who_is_refused_is_told_to_log_in() {
    let (registry, _, image) = with_image(1000).await;
    registry.want_password("Basic b3BzOmdlaGVpbQ==");
    let other = Desk::new();
    let error = pull(&other, &image).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("`gantry login {}`", registry.host)),
        "{error}"
    );
    other.write(
        "auth.json",
        &format!(
            r#"{{"auths": {{"{}": {{"auth": "b3BzOndyb25n"}}}}}}"#,
            registry.host
        ),
    );
    let error = pull(&other, &image).await.unwrap_err().to_string();
    assert!(error.contains("to ops: 401 unauthorized"), "{error}");
    other.write(
        "auth.json",
        &format!(
            r#"{{"auths": {{"{}": {{"auth": "b3BzOmdlaGVpbQ=="}}}}}}"#,
            registry.host
        ),
    );
    pull(&other, &image).await.unwrap();
}

#[tokio::test]
async fn a_damaged_blob_is_not_blamed_on_the_registry() {
    let (registry, desk) = (FakeRegistry::start().await, Desk::new());
    let image = desk.image(&format!("{}/a:v1", registry.host), &[("noise", &noise(100_000))]);
    let layer = desk.store.image(&image).unwrap().layers[0].clone();
    let path = desk.store.blobs().path(&layer.digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = desk
        .client()
        .push(&desk.store, &image, &image, &PushOptions::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("does not match its digest"), "{error}");
    assert_eq!(error.exit_code(), gantry_model::ExitCode::Verification);
    assert!(registry.manifest("a/manifests/v1").is_none());
}

#[tokio::test]
async fn a_registry_with_an_ipv6_address() {
    let (registry, here, there) = (FakeRegistry::start_at("[::1]:0").await, Desk::new(), Desk::new());
    assert!(registry.host.starts_with("[::1]:"), "{}", registry.host);
    registry.want_password("Basic b3BzOmdlaGVpbQ==");
    let image = here.image(&format!("{}/team/a:v1", registry.host), &[("etc/a", b"a")]);
    let (client, options) = (here.client(), PushOptions::default());
    let refused = client.push(&here.store, &image, &image, &options).await;
    assert!(
        matches!(refused, Err(RegistryError::NotLoggedIn { .. })),
        "{refused:?}"
    );
    // However the address is spelled in the auth file.
    for (desk, address) in [(&here, "[::1]"), (&there, "[0:0:0:0:0:0:0:1]")] {
        let key = registry.host.replace("[::1]", address);
        desk.write(
            "auth.json",
            &format!(r#"{{"auths": {{"{key}": {{"auth": "b3BzOmdlaGVpbQ=="}}}}}}"#),
        );
    }
    here.client()
        .push(&here.store, &image, &image, &options)
        .await
        .unwrap();
    let platforms = Platforms::One(Platform::host());
    let pulled = there
        .client()
        .pull(&there.store, &image, &PullOptions { platforms }, |_| {})
        .await
        .unwrap();
    assert_eq!(pulled.image.digest, here.store.target(&image).unwrap().digest);
    assert_eq!(pulled.repository, format!("{}/team/a", registry.host));
}
