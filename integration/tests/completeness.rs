//! Container images that a build took from a real registry are served by a real registry, out of the built image's own tree;
//! and what sets hosts up asks for nothing else.

use std::fs;

use gantry_integration::ImageTree;
use gantry_integration::image_desk::ImageDesk;
use gantry_integration::kubernetes_image::{Runtime, kubernetes_image};
use gantry_integration::registry::{Guard, Registry};
use serde_json::{Value, json};

#[test]
fn what_a_build_took_from_a_registry_is_served_from_the_image() {
    let desk = ImageDesk::new().unwrap();
    let host = |registry: &Registry| registry.host().to_owned();
    let registry = Registry::start(&desk.folder().join("vendor"), &Guard::default()).unwrap();
    let vendor = host(&registry);
    ImageTree::with_scripts(&desk.folder().join("hello"))
        .unwrap()
        .incompressible("bin/hello", 6_000_000, 7)
        .unwrap();
    desk.gantry("build -t hello:1.0 hello").unwrap().ok().unwrap();
    desk.gantry(&format!("push hello:1.0 {vendor}/team/hello:1.0 --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    // As docker pushes: another manifest, gzip.
    ImageTree::with_scripts(&desk.folder().join("web"))
        .unwrap()
        .incompressible("bin/web", 3_000_000, 8)
        .unwrap();
    desk.gantry("build -t web:2 web").unwrap().ok().unwrap();
    desk.gantry("save --format docker-archive -o web.tar web:2")
        .unwrap()
        .ok()
        .unwrap();
    desk.sh(&format!(
        "skopeo copy --quiet --format v2s2 --dest-tls-verify=false docker-archive:web.tar docker://{vendor}/library/web:2"
    ))
    .unwrap();

    fs::create_dir_all(desk.folder().join("app/manifests")).unwrap();
    fs::write(
        desk.folder().join("app/manifests/pods.yaml"),
        format!(
            "kind: Pod\nspec:\n  containers:\n  - image: vendor.example/team/hello:1.0\n  - image: web:2\n  - image: {vendor}/team/hello:1.0\n"
        ),
    )
    .unwrap();
    fs::write(
        desk.folder().join("app/Kubefile"),
        "FROM scratch\nCOPY manifests manifests\n",
    )
    .unwrap();
    let refused = desk
        .gantry(&format!(
            "build -t app:v1 --from-registry {vendor}/nowhere --insecure app"
        ))
        .unwrap();
    assert_eq!(refused.status, Some(2), "{refused}");
    assert!(
        refused
            .stderr
            .contains("manifests/pods.yaml:4: vendor.example/team/hello:1.0 is not in registry/"),
        "{refused}"
    );
    let build = format!("build -t app:v1 --from-registry {vendor} --insecure app");
    let built = desk.gantry(&build).unwrap();
    built.clone().ok().unwrap();
    desk.gantry("check app:v1").unwrap().ok().unwrap();
    let blobs = registry.requests("GET", "/blobs/").unwrap();
    let again = desk.gantry(&build).unwrap();
    assert_eq!(again.stdout, built.stdout, "the same image");
    assert_eq!(
        registry.requests("GET", "/blobs/").unwrap(),
        blobs,
        "no blob travels twice: {again}"
    );

    // What hosts would have, file by file.
    let serving = desk.folder().join("cluster");
    fs::create_dir_all(serving.join("data")).unwrap();
    desk.sh(
        "for path in $(gantry ls -R app:v1 registry | awk '/^-/ { print $NF }'); do\n\
         mkdir -p cluster/data/$(dirname $path)\n\
         gantry cat app:v1 registry/$path > cluster/data/$path\n\
         done",
    )
    .unwrap();
    let cluster = Registry::start(&serving, &Guard::default()).unwrap();
    let cluster = host(&cluster);
    let digest = |image: &str| {
        let show = format!("skopeo inspect --tls-verify=false --format '{{{{.Digest}}}}' docker://{image}");
        desk.sh(&show).unwrap()
    };
    for (at_vendor, at_cluster) in [
        (
            "team/hello:1.0",
            vec![
                "team/hello:1.0".to_owned(),
                "vendor.example/team/hello:1.0".to_owned(),
                // A registry with a port has a place of its own, too.
                format!("{}/team/hello:1.0", vendor.replace(':', "_")),
            ],
        ),
        (
            "library/web:2",
            vec!["library/web:2".to_owned(), "docker.io/library/web:2".to_owned()],
        ),
    ] {
        let wanted = digest(&format!("{vendor}/{at_vendor}"));
        for name in at_cluster {
            assert_eq!(digest(&format!("{cluster}/{name}")), wanted, "{name}");
            let copied = name.replace(['/', ':'], "-");
            desk.sh(&format!(
                "skopeo copy --quiet --src-tls-verify=false docker://{cluster}/{name} dir:{copied}"
            ))
            .unwrap();
        }
    }
}

#[test]
fn the_scripts_of_kubernetes_images_need_no_network() {
    let desk = ImageDesk::new().unwrap();
    for (runtime, scripts) in [
        (Runtime::Docker, &["scripts/init.sh"][..]),
        (
            Runtime::Containerd,
            &["scripts/containerd.sh", "scripts/init-kube.sh"],
        ),
    ] {
        let context = kubernetes_image(runtime).unwrap();
        let name = format!("{}:v1.20.2", runtime.image());
        desk.gantry(&format!(
            "build -t {name} --build-mode lite {}",
            context.display()
        ))
        .unwrap()
        .ok()
        .unwrap();
        let check = format!("check {name} --rehearse -o json");
        let checked = desk.gantry(&check).unwrap().ok().unwrap();
        let document: Value = serde_json::from_str(&checked).unwrap();
        let rehearsal = &document["rehearsal"];
        assert_eq!(rehearsal["findings"], json!([]), "{name}");
        for script in scripts {
            let ran = rehearsal["scripts"].as_array().unwrap();
            assert!(
                ran.contains(&json!({ "name": script, "succeeded": true })),
                "{name}: {script} ran to its end: {rehearsal}"
            );
        }
    }

    // What a hurried change would do to one of them.
    let base = format!("{}:v1.20.2", Runtime::Docker.image());
    fs::create_dir_all(desk.folder().join("hurried/scripts")).unwrap();
    fs::write(
        desk.folder().join("hurried/scripts/init.sh"),
        "bash docker.sh\nbash init-kube.sh\ncurl -fsSL https://packages.example/key.gpg\n",
    )
    .unwrap();
    fs::write(
        desk.folder().join("hurried/Kubefile"),
        format!("FROM {base}\nCOPY scripts scripts\n"),
    )
    .unwrap();
    desk.gantry("build -t hurried:v1 --build-mode lite hurried")
        .unwrap()
        .ok()
        .unwrap();
    let checked = desk.gantry("check hurried:v1 --rehearse").unwrap();
    assert_eq!(checked.status, Some(6), "{checked}");
    assert!(
        checked
            .stdout
            .contains("reaches packages.example:443   init.sh:3 (curl)"),
        "{checked}"
    );
}
