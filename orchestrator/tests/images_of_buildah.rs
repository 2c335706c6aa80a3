//! Images as sealer 0.9 and later write them, through buildah: ordinary OCI images with gzip layers, and two annotations.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod desk;
#[path = "desk/registry.rs"]
mod registry;

use std::io::Write as _;

use desk::{Desk, text};
use flate2::Compression;
use flate2::write::GzEncoder;
use gantry_model::{Digest, LayerDescriptor, SignedPayload};
use gantry_signing::SigningKey;
use gantry_store::{Platform, Store};
use registry::{MANIFEST, Registry, TestImage};
use serde_json::{Value, json};

const TREE: &str = "registry/docker/registry/v2";

/// Files by path; folders on the way as tar has them.
fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut known = std::collections::BTreeSet::new();
    for (path, content) in files {
        for (at, _) in path.match_indices('/') {
            if known.insert(path[..at].to_owned()) {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                archive
                    .append_data(&mut header, format!("{}/", &path[..at]), &[][..])
                    .unwrap();
            }
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, path, content.as_slice())
            .unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What sealer lays into `registry/` of a container image, under its path alone.
fn cached(repository: &str, tag: &str, image: &TestImage) -> Vec<(String, Vec<u8>)> {
    let manifest = image.digest();
    let link = |path: &str| {
        (
            format!("{TREE}/repositories/{repository}/{path}/link"),
            manifest.to_string().into_bytes(),
        )
    };
    let mut files = vec![
        link(&format!("_manifests/tags/{tag}/current")),
        link(&format!("_manifests/tags/{tag}/index/sha256/{}", manifest.hex())),
        link(&format!("_manifests/revisions/sha256/{}", manifest.hex())),
    ];
    let blob = |bytes: &[u8]| {
        let hex = Digest::of(bytes).hex();
        (
            format!("{TREE}/blobs/sha256/{}/{hex}/data", &hex[..2]),
            bytes.to_vec(),
        )
    };
    files.push(blob(image.manifest.as_bytes()));
    for bytes in &image.blobs {
        let layer = Digest::of(bytes);
        files.push(blob(bytes));
        files.push((
            format!(
                "{TREE}/repositories/{repository}/_layers/sha256/{}/link",
                layer.hex()
            ),
            layer.to_string().into_bytes(),
        ));
    }
    files
}

/// What buildah makes of a sealer's Kubefile: `COPY rootfs`, `APP web`, then the layer with `registry/`.
fn image_of_buildah(layers: &[Vec<(String, Vec<u8>)>], named: &[&str]) -> TestImage {
    let architecture = Platform::host().architecture;
    let tars: Vec<Vec<u8>> = layers.iter().map(|files| tar(files)).collect();
    let blobs: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
    let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
    let labels = json!({
        "cluster.alpha.sealer.io/cluster-runtime-type": "kubernetes",
        "cluster.alpha.sealer.io/cluster-runtime-version": "v1.22.15",
        "cluster.alpha.sealer.io/container-runtime-type": "docker",
        "io.buildah.version": "1.26.7",
        "io.sealer.version": "v0.10.0",
    });
    let history: Vec<Value> = layers
        .iter()
        .map(|_| json!({ "created": "2023-05-06T07:08:09Z", "created_by": "/bin/sh -c #(nop) COPY dir:1 in .", "comment": "FROM scratch" }))
        .chain([json!({ "created": "2023-05-06T07:08:10Z", "created_by": "/bin/sh", "empty_layer": true })])
        .collect();
    let config = json!({
        "created": "2023-05-06T07:08:10.123456789Z", "architecture": architecture, "os": "linux",
        "config": { "Env": ["Zone=a"], "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": history,
    })
    .to_string()
    .into_bytes();
    let extension = json!({
        "buildClient": { "sealerVersion": "v0.10.0", "buildahVersion": "1.26.7" }, "schemaVersion": "v1alpha1",
        "type": "kube-installer",
        "applications": [{ "name": "web", "type": "kube", "files": ["web.yaml"], "version": "v1", "env": { "Replicas": "3" } }],
        "labels": labels, "env": { "Zone": "a" }, "launch": { "app_names": ["web"] },
    });
    let images: Vec<Value> = named
        .iter()
        .map(|image| json!({ "image": image, "appName": "", "platform": { "architecture": architecture, "os": "linux" } }))
        .collect();
    let described = |kind: &str, bytes: &[u8]| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": Digest::of(bytes), "size": bytes.len() });
    let layers: Vec<Value> = blobs
        .iter()
        .map(|blob| described("layer.v1.tar+gzip", blob))
        .collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": described("config.v1+json", &config), "layers": layers,
        "annotations": {
            "org.opencontainers.image.base.digest": "", "org.opencontainers.image.base.name": "",
            "sealer.image.container.images": json!(images).to_string(), "sealer.image.extension": extension.to_string(),
        },
    });
    TestImage {
        manifest: manifest.to_string(),
        blobs: blobs.into_iter().chain([config]).collect(),
    }
}

fn files(files: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    let owned = files.iter();
    owned
        .map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec()))
        .collect()
}

fn layers(with_registry: bool) -> Vec<Vec<(String, Vec<u8>)>> {
    let rootfs = files(&[
        ("scripts/docker.sh", "#!/bin/bash\n"),
        ("scripts/init-kube.sh", "#!/bin/bash\n"),
        ("etc/kubeadm.yml", "kind: ClusterConfiguration\n"),
        ("manifests/imageList", "registry.k8s.io/pause:3.5\n"),
    ]);
    let web = "kind: Pod\nspec: { containers: [ { name: web, image: nginx:1.25 } ] }\n";
    let app = files(&[("application/apps/web/web.yaml", web)]);
    let mut all = vec![rootfs, app];
    if with_registry {
        let pause = TestImage::of_here("pause");
        let nginx = TestImage::of_here("nginx");
        all.push(
            [
                cached("pause", "3.5", &pause),
                cached("library/nginx", "1.25", &nginx),
            ]
            .concat(),
        );
    }
    all
}

#[test]
fn a_signature_says_in_which_form_its_layers_travel() {
    let (desk, registry) = (Desk::new(), Registry::new());
    let name = registry.add(
        "sealerio/kubernetes:v1.22.15",
        &image_of_buildah(&layers(false), &[]),
    );
    desk.ok(&["pull", "--insecure", &name]);
    let store = Store::open(&desk.path("root")).unwrap();
    let image = store.image(&name.parse().unwrap()).unwrap();
    let signed = || -> Vec<Option<Digest>> {
        let signatures = store.signatures(&image.manifest_digest).unwrap().into_iter();
        signatures
            .map(|one| SignedPayload::parse(&one.payload).unwrap().layers)
            .collect()
    };
    assert_eq!(signed(), []);
    desk.ok(&["sign", &name]);
    let travelling = LayerDescriptor::digest_as_they_travel(&image.layers);
    assert_eq!(signed(), [Some(travelling)]);
    let again = desk.run(&["sign", &name]);
    assert!(text(&again.stderr).contains("was signed by this key"));
    // Whatever key it is; and what was signed with less is signed once more.
    desk.ok(&["keys", "generate"]);
    let key: SigningKey = std::fs::read_to_string(desk.path("gantry.key"))
        .unwrap()
        .parse()
        .unwrap();
    let as_cosign_does = key
        .sign(image.manifest_digest, name.split_once(":v1").unwrap().0)
        .unwrap();
    store
        .add_signature(&image.manifest_digest, &as_cosign_does)
        .unwrap();
    desk.ok(&["sign", "--key", "gantry.key", &name]);
    assert_eq!(signed(), [Some(travelling), None, Some(travelling)]);
}

#[test]
fn one_is_pulled_looked_into_and_complete() {
    let (desk, registry) = (Desk::new(), Registry::new());
    let named = ["registry.k8s.io/pause:3.5", "nginx:1.25"];
    let image = image_of_buildah(&layers(true), &named);
    let name = registry.add("sealerio/kubernetes:v1.22.15", &image);
    let pulled = desk.ok(&["pull", "--insecure", &name]);
    assert_eq!(
        pulled,
        format!("{name}@{}\n", image.digest()),
        "it stays what the registry has"
    );

    let shown = desk.json(&["inspect", "-f", "json", &name]);
    assert_eq!(shown["Digest"], image.digest().to_string());
    assert_eq!(shown["Env"], json!(["Zone=a"]));
    assert_eq!(
        shown["Labels"]["cluster.alpha.sealer.io/cluster-runtime-version"],
        "v1.22.15"
    );
    assert_eq!(
        shown["Commands"],
        json!(["export Replicas=3 && kubectl apply -f application/apps/web/web.yaml"])
    );
    assert_eq!(shown["Applications"][0]["name"], "web");
    let images = shown["ContainerImages"].as_array().unwrap();
    let images: Vec<_> = images
        .iter()
        .map(|image| image["image"].as_str().unwrap())
        .collect();
    assert_eq!(images, named);
    assert_eq!(shown["Layers"].as_array().unwrap().len(), 3);
    let table = desk.ok(&["inspect", &name]);
    assert!(
        table.contains("App        web (kube)") && table.contains("Created    2023-05-06"),
        "{table}"
    );
    // Its layers are unpacked by now, as they are.
    for layer in desk.layers(&name) {
        assert!(desk.layer(&layer).is_dir(), "{layer}");
    }
    assert_eq!(
        desk.ok(&["cat", &name, "manifests/imageList"]),
        "registry.k8s.io/pause:3.5\n"
    );
    let said = desk.run(&["check", &name]);
    assert!(
        said.status.success(),
        "{}{}",
        text(&said.stdout),
        text(&said.stderr)
    );
    desk.ok(&["store", "check"]);

    // What is built on it launches what it launches.
    desk.file("more/Kubefile", format!("FROM {name}\nAPPENV web Replicas=4\n"));
    desk.ok(&["build", "-t", "more:v1", "more"]);
    let more = desk.json(&["inspect", "-f", "json", "more:v1"]);
    assert_eq!(
        more["Commands"],
        json!(["export Replicas=4 && kubectl apply -f application/apps/web/web.yaml"])
    );
}

#[test]
fn one_that_lacks_what_its_files_name_is_told_where() {
    let (desk, registry) = (Desk::new(), Registry::new());
    let image = image_of_buildah(&layers(false), &[]);
    let name = registry.add("sealerio/kubernetes:lite", &image);
    desk.ok(&["pull", "--insecure", &name]);
    let report = desk.run(&["check", &name]);
    assert_eq!(report.status.code(), Some(6), "{}", text(&report.stderr));
    let report = text(&report.stdout);
    assert!(
        report.contains("manifests/imageList") && report.contains("registry.k8s.io/pause:3.5"),
        "{report}"
    );
    assert!(
        report.contains("application/apps/web/web.yaml") && report.contains("nginx:1.25"),
        "{report}"
    );
}

#[test]
fn a_short_name_that_leads_nowhere_is_told_where_sealer_looked() {
    let (desk, registry) = (Desk::new(), Registry::new());
    desk.file(
        "registries.conf",
        format!(
            "unqualified-search-registries = [\"{0}\"]\n[[registry]]\nlocation = \"{0}\"\ninsecure = true\n",
            registry.name
        ),
    );
    let pull = |words: &[&str]| {
        let words = [&["pull", "--insecure"], words].concat();
        let output = desk
            .command(&words)
            .env("CONTAINERS_REGISTRIES_CONF", desk.path("registries.conf"))
            .output()
            .unwrap();
        assert!(!output.status.success());
        text(&output.stderr)
    };
    let said = pull(&["kubernetes:v1.22.15"]);
    assert!(
        said.contains("`gantry pull docker.io/sealerio/kubernetes:v1.22.15`")
            && said.contains("registries.conf"),
        "{said}"
    );
    let said = pull(&["team/kubernetes:v1.22.15"]);
    assert!(
        said.contains("registries.conf") && !said.contains("sealerio"),
        "{said}"
    );
    let said = pull(&[&format!("{}/kubernetes:v1.22.15", registry.name)]);
    assert!(!said.contains("registries.conf"), "{said}");
}
