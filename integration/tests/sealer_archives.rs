//! What sealer saved is loaded, and what it pushed is pulled. Nothing of sealer before 0.9 is at hand: save files and what is in the
//! registry are made here, after what is known of their forms.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;

use gantry_integration::image_desk::ImageDesk;
use gantry_integration::registry::{Guard, Registry};
use gantry_integration::{Host, ImageTree, Testbed};
use gantry_model::Digest;
use serde_json::json;

const BASE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const UPPER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const IMAGE: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// A desk with the trees of two layers in `saved/`, the second of which removes a file of the first.
fn desk_with_layers() -> ImageDesk {
    let desk = ImageDesk::new().unwrap();
    desk.sh(&format!(
        "mkdir -p saved/{BASE}/etc saved/{BASE}/scripts saved/{UPPER}/etc\n\
         echo '{{}}' >saved/{BASE}/etc/daemon.json\n\
         echo old >saved/{BASE}/etc/old.conf\n\
         echo 'echo started' >saved/{BASE}/scripts/init.sh && chmod 755 saved/{BASE}/scripts/init.sh\n\
         ln -s init.sh saved/{BASE}/scripts/start\n\
         mknod saved/{UPPER}/etc/old.conf c 0 0"
    ))
    .unwrap();
    desk
}

fn layers(kind: &str) -> String {
    format!(
        "  layers:\n  - id: sha256:{BASE}\n    type: COPY\n    value: . .\n  - id: sha256:{UPPER}\n    type: RUN\n    \
         value: rm etc/old.conf\n{kind}"
    )
}

/// Loads `saved/` as one archive, and looks at what came of it.
fn load_and_look(desk: &ImageDesk, commands: &[&str]) {
    desk.sh("tar -C saved -cf saved.tar $(ls saved)").unwrap();
    let loaded = desk.gantry("load -i saved.tar").unwrap().ok().unwrap();
    assert!(loaded.starts_with("kubernetes:v1.19.8@sha256:"), "{loaded}");
    let listed = desk.gantry("ls -R kubernetes:v1.19.8").unwrap().ok().unwrap();
    assert!(listed.contains("scripts/start -> init.sh"), "{listed}");
    look(desk, "kubernetes:v1.19.8", commands);
}

/// Looks at an image of the two layers.
fn look(desk: &ImageDesk, image: &str, commands: &[&str]) {
    let listed = desk.gantry(&format!("ls -R {image}")).unwrap().ok().unwrap();
    assert!(
        listed.contains("scripts/init.sh") && !listed.contains("old.conf"),
        "{listed}"
    );
    let inspected = desk
        .gantry(&format!("inspect {image} -o json"))
        .unwrap()
        .ok()
        .unwrap();
    let document: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(document["commands"], json!(commands));
    let base = document["layers"][0]["path"].as_str().unwrap();
    desk.sh(&format!("diff --recursive saved/{BASE} {base}")).unwrap();
    let history = desk.gantry(&format!("history {image}")).unwrap().ok().unwrap();
    assert!(history.contains("RUN rm etc/old.conf"), "{history}");
    // From here on it is an image like every other.
    desk.gantry(&format!("save -o again.tar {image}"))
        .unwrap()
        .ok()
        .unwrap();
    desk.sh("skopeo inspect oci-archive:again.tar").unwrap();
}

#[test]
fn a_save_file_of_before_0_7_is_loaded() {
    let desk = desk_with_layers();
    let image = format!(
        "kind: Image\nmetadata:\n  name: kubernetes:v1.19.8\nspec:\n  id: {IMAGE}\n{}",
        layers("  - type: CMD\n    value: kubectl apply -f one.yaml\n")
    );
    fs::write(desk.folder().join("saved/image_metadata.yaml"), image).unwrap();
    let metadata = format!(r#"{{"name":"kubernetes:v1.19.8","id":"{IMAGE}"}}"#);
    fs::write(desk.folder().join("saved/Metadata"), metadata).unwrap();
    load_and_look(&desk, &["kubectl apply -f one.yaml"]);
}

#[test]
fn a_save_file_of_0_8_is_loaded() {
    let desk = desk_with_layers();
    let image = format!(
        "kind: Image\nspec:\n  id: {IMAGE}\n{}",
        layers(
            "  platform:\n    architecture: amd64\n    os: linux\n  image_config:\n    cmd:\n      parent:\n      - echo base\n      \
             current:\n      - helm install web charts/web --set n=${N}\n    args:\n      current:\n        N: \"2\"\n"
        )
    );
    fs::write(desk.folder().join(format!("saved/{IMAGE}.yaml")), image).unwrap();
    let metadata = format!(
        r#"{{"kubernetes:v1.19.8":{{"manifests":[{{"id":"{IMAGE}","platform":{{"architecture":"amd64","os":"linux"}}}}]}}}}"#
    );
    fs::write(desk.folder().join("saved/Metadata"), metadata).unwrap();
    load_and_look(&desk, &["echo base", "helm install web charts/web --set n=${N}"]);
    let env = desk
        .gantry("inspect -f {{.Env}} kubernetes:v1.19.8")
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(env.trim(), "[N=2]");
}

/// Puts an image of the two layers into a registry, as sealer 0.8 pushed it.
fn push_as_sealer(desk: &ImageDesk, image: &str) {
    // What is removed, it packs as `.wh.` files.
    desk.sh(&format!(
        "rm saved/{BASE}/scripts/start saved/{UPPER}/etc/old.conf && touch saved/{UPPER}/etc/.wh.old.conf\n\
         mkdir pushed && echo 'Directory Transport Version: 1.1' >pushed/version\n\
         for layer in {BASE} {UPPER}; do tar -C saved/$layer -czf $layer.gz $(ls saved/$layer); done"
    ))
    .unwrap();
    let document = json!({
        "kind": "Image", "metadata": { "name": "kubernetes:v1.19.8", "creationTimestamp": null }, "status": {},
        "architecture": "amd64", "os": "linux", "history": [{ "created_by": "COPY . ." }],
        "spec": {
            "id": IMAGE, "sealer_version": "v0.8.6", "platform": { "architecture": "amd64", "os": "linux" },
            "layers": [
                { "id": format!("sha256:{BASE}"), "type": "COPY", "value": ". ." },
                { "id": format!("sha256:{UPPER}"), "type": "RUN", "value": "rm etc/old.conf" },
                { "type": "CMD", "value": "kubectl apply -f one.yaml" },
            ],
            "image_config": { "cmd": { "parent": null, "current": ["kubectl apply -f one.yaml"] } },
        },
    });
    let blob = |kind: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(desk.folder().join("pushed").join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    };
    let layer = |id: &str| {
        let bytes = fs::read(desk.folder().join(format!("{id}.gz"))).unwrap();
        blob("application/vnd.docker.image.rootfs.diff.tar.gzip", &bytes)
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": blob("application/vnd.docker.container.image.v1+json", document.to_string().as_bytes()),
        "layers": [layer(BASE), layer(UPPER)],
    });
    fs::write(desk.folder().join("pushed/manifest.json"), manifest.to_string()).unwrap();
    desk.sh(&format!(
        "skopeo copy --dest-tls-verify=false dir:pushed docker://{image}"
    ))
    .unwrap();
}

#[test]
fn what_sealer_pushed_before_0_9_is_pulled() {
    let desk = desk_with_layers();
    let registry = Registry::start(&desk.folder().join("registry"), &Guard::default()).unwrap();
    let image = format!("{}/sealer-io/kubernetes:v1.19.8", registry.host());
    push_as_sealer(&desk, &image);
    let pull = format!("pull --insecure {image}");
    let pulled = desk.gantry(&pull).unwrap().ok().unwrap();
    assert!(pulled.starts_with(&format!("{image}@sha256:")), "{pulled}");
    look(&desk, &image, &["kubectl apply -f one.yaml"]);
    assert_eq!(desk.gantry(&pull).unwrap().ok().unwrap(), pulled);
    let fetched = registry.requests("GET", "/blobs/").unwrap();
    assert_eq!(fetched, 3, "{}", registry.log().unwrap());
}

#[test]
fn hosts_get_what_sealer_saved_before_0_7_and_run_its_scripts() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    let saved = operator.desk().join("saved");
    ImageTree::with_scripts(&saved.join(BASE))
        .unwrap()
        .file("etc/old.conf", "old")
        .unwrap();
    let image = format!(
        "kind: Image\nmetadata:\n  name: kubernetes:v1.19.8\nspec:\n  id: {IMAGE}\n{}",
        layers("  - type: CMD\n    value: echo launched >>/var/log/scripts\n")
    );
    operator.put("saved/image_metadata.yaml", image).unwrap();
    let metadata = format!(r#"{{"name":"kubernetes:v1.19.8","id":"{IMAGE}"}}"#);
    operator.put("saved/Metadata", metadata).unwrap();
    let made = operator
        .shell(&format!(
            "mkdir -p saved/{UPPER}/etc && mknod saved/{UPPER}/etc/old.conf c 0 0\n\
             rm -f saved/{BASE}/Kubefile && tar -C saved -cf saved.tar $(ls saved)"
        ))
        .status()
        .unwrap();
    assert!(made.success());
    operator.must("load -i saved.tar").unwrap();
    operator.must("sign kubernetes:v1.19.8").unwrap();
    // As its users have it: sealer's first version of Clusterfiles.
    let (master, worker) = (bed.host(1), bed.host(2));
    operator
        .put(
            "Clusterfile",
            format!(
                "apiVersion: zlink.aliyun.com/v1alpha1\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  \
                 image: kubernetes:v1.19.8\n  provider: BAREMETAL\n  masters: {{ ipList: [ {} ] }}\n  nodes: {{ ipList: [ {} ] }}\n",
                master.address(),
                worker.address()
            ),
        )
        .unwrap();
    operator.apply().unwrap().ok().unwrap();
    let ran = |host: &Host| host.must("grep -v registry /var/log/scripts").unwrap();
    let scripts =
        "init.sh /var/lib/docker sea.hub 5000\ndocker.sh /var/lib/docker sea.hub 5000\ninit-kube.sh \n";
    assert_eq!(ran(master), format!("{scripts}launched\n"));
    assert_eq!(ran(worker), scripts);
    for host in bed.hosts() {
        let rootfs = "/var/lib/sealer/data/demo/rootfs";
        host.must(&format!(
            "test -e {rootfs}/etc/daemon.json && ! test -e {rootfs}/etc/old.conf"
        ))
        .unwrap();
    }
    let again = operator.apply().unwrap().ok().unwrap();
    assert_eq!(
        (again.received_bytes(), again.steps()),
        (0, 0),
        "{}",
        again.finished
    );
}

#[test]
fn a_list_of_0_9_is_loaded_for_every_platform() {
    let desk = desk_with_layers();
    fs::write(desk.folder().join("saved/Kubefile"), "FROM scratch\nCOPY . .\n").unwrap();
    desk.sh(&format!("rm -r saved/{UPPER} && mkdir list")).unwrap();
    for (platform, id) in [("amd64", BASE), ("arm64", UPPER)] {
        for words in [
            format!("build -t demo:{platform} --platform linux/{platform} saved"),
            format!("save -o list/{id}.tar demo:{platform}"),
        ] {
            desk.gantry(&words).unwrap().ok().unwrap();
        }
    }
    desk.sh("echo docker.io/library/demo:v2 >list/Metadata && tar -C list -cf list.tar $(ls list)")
        .unwrap();
    let loaded = desk.gantry_in("there", "load list.tar").unwrap().ok().unwrap();
    assert!(
        loaded.starts_with("docker.io/library/demo:v2@sha256:"),
        "{loaded}"
    );
    for platform in ["amd64", "arm64"] {
        let said = desk
            .gantry_in(
                "there",
                &format!("inspect --platform linux/{platform} -f {{{{.Architecture}}}} demo:v2"),
            )
            .unwrap();
        assert_eq!(said.ok().unwrap().trim(), platform);
    }
}
