//! From where a build takes container images, and what becomes of them when it fails: as people type it, with a registry of the
//! test's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod desk;
#[path = "desk/registry.rs"]
mod registry;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use desk::Desk;
use gantry_model::Digest;
use registry::{Registry, TestImage};

/// An architecture that nobody tests on.
const ELSEWHERE: &str = "s390x";

/// A folder to build from whose list names these images.
fn names(desk: &Desk, images: &[&str]) {
    desk.file("app/manifests/imageList", images.join("\n"));
    desk.file("app/Kubefile", "FROM scratch\nCOPY manifests manifests\n");
}

/// Builds it; gives whether that went well, and what was said.
fn build(desk: &Desk, more: &[&str]) -> (bool, String) {
    let built = desk.run(&[&["build", "-t", "app:v1", "--retries", "1"], more, &["app"]].concat());
    (built.status.success(), String::from_utf8(built.stderr).unwrap())
}

fn builds(desk: &Desk, more: &[&str]) -> String {
    let (well, said) = build(desk, more);
    assert!(well, "{said}");
    said
}

fn fails(desk: &Desk, more: &[&str]) -> String {
    let (well, said) = build(desk, more);
    assert!(!well, "{said}");
    said
}

/// Where the store has a blob.
fn blob(desk: &Desk, digest: &Digest) -> PathBuf {
    desk.path("root/store/blobs/sha256").join(digest.hex())
}

#[test]
fn what_a_failed_build_fetched_is_not_fetched_again() {
    let (desk, registry) = (Desk::new(), Registry::new());
    let (web, db) = (TestImage::of_here("web"), TestImage::of_here("db"));
    let images = [registry.add("app/web:1", &web), registry.add("app/db:1", &db)];
    names(&desk, &images.each_ref().map(String::as_str));
    let insecure = ["--insecure-registry", &registry.name];
    let lost = format!("/v2/app/db/blobs/{}", db.layer());
    registry.lacks(&lost, vec![blob(&desk, &web.layer())]);
    let said = fails(&desk, &insecure);
    assert!(said.contains("app/db is not in registry"), "{said}");
    assert!(blob(&desk, &web.layer()).exists());
    registry.has_all();
    builds(&desk, &insecure);
    assert_eq!(registry.asked(&web.layer().to_string()), 1);
    assert_eq!(registry.asked(&db.layer().to_string()), 2);
    assert!(!blob(&desk, &web.layer()).exists(), "it is in a layer now");
    desk.ok(&["check", "app:v1"]);

    // One that is given up is pruned like steps of builds.
    names(&desk, &[&registry.add("app/more:1", &TestImage::of_here("more"))]);
    let more = TestImage::of_here("more");
    let lost = format!("/v2/app/more/blobs/{}", more.layer());
    registry.lacks(&lost, vec![blob(&desk, &Digest::of(&more.blobs[0]))]);
    fails(&desk, &insecure);
    desk.ok(&["prune"]);
    assert!(!blob(&desk, &Digest::of(&more.blobs[0])).exists());
}

#[test]
fn an_image_for_another_platform_is_not_the_one_that_is_named() {
    let (desk, registry) = (Desk::new(), Registry::new());
    let image = TestImage::new(ELSEWHERE, "web");
    let name = registry.add("app/web:1", &image);
    names(&desk, &[&name]);
    let insecure = ["--insecure-registry", &registry.name];
    let said = fails(&desk, &insecure);
    assert!(said.contains("it is for linux/s390x"), "{said}");
    builds(&desk, &[&insecure[..], &["--platform", "linux/s390x"]].concat());

    // Somebody copies that registry/ into an image for this machine.
    let tree = "registry/docker/registry/v2";
    for line in desk
        .ok(&["ls", "-R", "app:v1", tree])
        .lines()
        .filter(|line| line.starts_with('-'))
    {
        let path = format!("{tree}/{}", line.split_whitespace().last().unwrap());
        desk.file(&format!("app/{path}"), desk.ok(&["cat", "app:v1", &path]));
    }
    desk.file(
        "app/Kubefile",
        "FROM scratch\nCOPY manifests manifests\nCOPY registry registry\n",
    );
    let said = fails(&desk, &insecure);
    assert!(
        said.contains("it is for linux/s390x, and hosts are linux/"),
        "{said}"
    );
    builds(&desk, &["--build-mode", "lite"]);
    let report = desk.run(&["check", "app:v1"]);
    let text = String::from_utf8(report.stdout).unwrap();
    assert_eq!(report.status.code(), Some(6), "{text}");
    assert!(
        text.contains("DAMAGED") && text.contains("it is for linux/s390x"),
        "{text}"
    );
}

#[test]
fn each_platform_of_one_build_has_the_container_images_of_its_own() {
    let (desk, registry) = (Desk::new(), Registry::new());
    let platforms = [("amd64", "web for amd64"), (ELSEWHERE, "web for s390x")];
    let images = platforms.map(|(architecture, layer)| TestImage::new(architecture, layer));
    let list: Vec<_> = platforms
        .iter()
        .zip(&images)
        .map(|((architecture, _), image)| (*architecture, image))
        .collect();
    let name = registry.add_list("app/web:1", &list);
    names(&desk, &[&name]);
    builds(
        &desk,
        &[
            "--insecure-registry",
            &registry.name,
            "--platform",
            "linux/amd64,linux/s390x",
        ],
    );
    let blobs = "registry/docker/registry/v2/blobs/sha256";
    for (place, (architecture, _)) in platforms.iter().enumerate() {
        let inside = desk.ok(&[
            "ls",
            "-R",
            "--platform",
            &format!("linux/{architecture}"),
            "app:v1",
            blobs,
        ]);
        for (other, image) in images.iter().enumerate() {
            assert_eq!(
                inside.contains(&image.layer().hex().to_string()),
                place == other,
                "{architecture}: {inside}"
            );
        }
        desk.ok(&["check", "--platform", &format!("linux/{architecture}"), "app:v1"]);
    }
    for image in &images {
        assert_eq!(registry.asked(&image.layer().to_string()), 1, "each travels once");
    }
}

#[test]
fn images_of_an_archive_are_taken_as_they_are() {
    let desk = Desk::new();
    // No layer of a ClusterImage could be made of these.
    let (web, db) = (TestImage::of_here("web"), TestImage::of_here("db"));
    let mut entries = Vec::new();
    for (image, name) in [
        (
            &web,
            r#","annotations":{"org.opencontainers.image.ref.name":"hub.example/app/web:1"}"#,
        ),
        (&db, ""),
    ] {
        let bytes = image.manifest.as_bytes().to_vec();
        for blob in image.blobs.iter().chain([&bytes]) {
            desk.file(&format!("images/blobs/sha256/{}", Digest::of(blob).hex()), blob);
        }
        entries.push(format!(
            r#"{{"mediaType":"{}","digest":"{}","size":{}{name}}}"#,
            registry::MANIFEST,
            image.digest(),
            image.manifest.len()
        ));
    }
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
    desk.file("images/index.json", index);
    desk.file("images/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    names(
        &desk,
        &[
            "hub.example/app/web:1",
            &format!("hub.example/app/db@{}", db.digest()),
        ],
    );
    let said = builds(&desk, &["--from-archive", "images"]);
    assert!(said.contains("1 of images have no name there"), "{said}");
    for (image, content) in [(&web, "web"), (&db, "db")] {
        let hex = image.layer().hex();
        let path = format!(
            "registry/docker/registry/v2/blobs/sha256/{}/{hex}/data",
            &hex[..2]
        );
        assert_eq!(desk.ok(&["cat", "app:v1", &path]), content);
    }
    desk.ok(&["check", "app:v1"]);
    assert_eq!(
        fs::read_dir(desk.path("root/store/tmp")).map_or(0, Iterator::count),
        0
    );
}

#[test]
fn an_archive_that_is_not_there_is_known_before_anything_is_built() {
    let desk = Desk::new();
    desk.file("app/Kubefile", "FROM scratch\nLABEL nothing=missing\n");
    let error = desk.fails(
        2,
        &["build", "-t", "app:v1", "--from-archive", "absent.tar", "app"],
    );
    assert!(
        error.contains("cannot read absent.tar") && !error.contains("[1/"),
        "{error}"
    );
}

#[test]
fn only_the_registry_that_is_named_may_be_insecure() {
    let (desk, registry) = (Desk::new(), Registry::new());
    let name = registry.add("app/web:1", &TestImage::of_here("web"));
    names(&desk, &[&name]);
    let said = fails(&desk, &["--insecure"]);
    assert!(said.contains("--insecure does not say which registry"), "{said}");
    for other in [&[][..], &["--insecure-registry", "hub.example"]] {
        let said = fails(&desk, other);
        assert!(said.contains("is not trusted: it does not speak TLS"), "{said}");
    }
    // --from-registry is the one that --insecure speaks of.
    let said = fails(&desk, &["--insecure", "--from-registry", "127.0.0.1:1"]);
    assert!(said.contains("cannot reach registry 127.0.0.1:1"), "{said}");
    builds(&desk, &["--insecure", "--from-registry", &registry.name]);
    builds(&desk, &["--no-cache", "--insecure-registry", &registry.name]);
}

#[test]
fn a_registry_that_does_not_answer_is_tried_once_for_all_of_its_images() {
    let desk = Desk::new();
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let images: Vec<String> = (0..12)
        .map(|number| format!("{nobody}/app/web:{number}"))
        .collect();
    names(&desk, &images.iter().map(String::as_str).collect::<Vec<_>>());
    for more in [&[][..], &["--insecure-registry", &nobody]] {
        let said = fails(&desk, more);
        assert_eq!(said.matches("trying again").count(), 1, "{said}");
        assert_eq!(said.matches("missing:").count(), 1, "{said}");
        for (number, image) in images.iter().enumerate() {
            let place = format!(
                "\n  manifests/imageList:{}: {image} is not in registry/\n",
                number + 1
            );
            assert!(said.contains(&place), "{said}");
        }
        assert!(
            said.contains("12 container images that are named cannot be had"),
            "{said}"
        );
    }
}

#[test]
fn a_list_may_say_who_may_have_its_images() {
    let (desk, registry) = (Desk::new(), Registry::new());
    registry.wants("Y2k6czNjcmV0");
    registry.add("app/web:1", &TestImage::of_here("web"));
    names(&desk, &[]);
    let list = |password: &str| {
        desk.file(
            "images.yaml",
            format!(
                "- registry: {}\n  username: ci\n  password: {password}\n  images:\n  - app/web:1\n",
                registry.name
            ),
        );
    };
    let arguments = [
        "--insecure-registry",
        &registry.name,
        "--image-list-with-auth",
        "images.yaml",
    ];
    list("wr0ng");
    let said = fails(&desk, &arguments);
    assert!(
        said.contains("images.yaml:5: ") && said.contains("to ci"),
        "{said}"
    );
    assert!(!said.contains("wr0ng"), "{said}");
    list("s3cret");
    builds(&desk, &arguments);
    let inside = desk.ok(&["inspect", "-f", "{{json .}}", "app:v1"]);
    assert!(
        inside.contains(&format!("{}/app/web:1", registry.name)),
        "{inside}"
    );
    assert!(!inside.contains("s3cret"), "{inside}");
    desk.file(
        "images.yaml",
        "- registry: hub.example\n  username: ci\n  passwort: s3cret\n  images: [a:1]\n",
    );
    let said = fails(&desk, &arguments);
    assert!(
        said.contains("images.yaml:3:3: an entry has no such field"),
        "{said}"
    );
    assert!(!said.contains("s3cret"), "{said}");
}
