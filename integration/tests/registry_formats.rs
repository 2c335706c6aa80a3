//! A real registry between Gantry and podman, buildah and skopeo: every form in which one of them pushes an image is the same
//! tree for all.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use gantry_integration::ImageTree;
use gantry_integration::estargz::{self, Layer, NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK, TOC_NAME};
use gantry_integration::image_desk::ImageDesk;
use gantry_integration::image_tree::noise;
use gantry_integration::registry::{Guard, Registry};
use gantry_integration::tree_list::{TREE_LIST, assert_same_tree};
use serde_json::Value;

/// podman, buildah and skopeo with a storage of their own, and what they are told in each call.
const PEERS: &str = r#"
    storage="--root $PWD/peers --runroot $PWD/peers-run --storage-driver vfs"
    podman="podman $storage" buildah="buildah $storage"
    there="containers-storage:[vfs@$PWD/peers+$PWD/peers-run]localhost"
"#;

/// Two layers of everything that a filesystem has; the second one changes, adds and removes. Which image it is, is written in both,
/// so that no layer is another image's, too: what podman knows under another form it does not push in a new one.
const BUILD: &str = r#"
    build() {
        local name=$1
        local below=$($buildah from --quiet scratch)
        local tree=$($buildah mount $below)
        cp -a tree/. $tree/
        echo "$name" >$tree/etc/name
        local above=$($buildah from --quiet $($buildah commit --quiet --rm $below))
        tree=$($buildah mount $above)
        rm -r $tree/etc/removed $tree/dir
        mkdir $tree/dir
        echo new >$tree/dir/new
        echo "$name, changed" >$tree/etc/name
        $buildah commit --quiet --rm $above $name >/dev/null
    }
"#;

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_LIST: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const CHUNKED: &str = "io.containers.zstd-chunked.manifest-checksum";

/// How an image is pushed, and what the registry has then: the type of the manifest, and how the layers are compressed. docker's own form knows no zstd: podman refuses to make it.
const FORMS: [(&str, &str, &str, &str); 10] = [
    (
        "podman-oci-gzip",
        "$podman push $options --format oci --compression-format gzip $image $target",
        OCI,
        "gzip",
    ),
    (
        "podman-oci-zstd",
        "$podman push $options --format oci --compression-format zstd $image $target",
        OCI,
        "zstd",
    ),
    (
        "podman-chunked",
        "$podman push $options --format oci --compression-format zstd:chunked $image $target",
        OCI,
        "zstd:chunked",
    ),
    (
        "podman-docker",
        "$podman push $options --format v2s2 $image $target",
        DOCKER,
        "gzip",
    ),
    (
        "buildah-chunked",
        "$buildah push $options --format oci --compression-format zstd:chunked $image $target",
        OCI,
        "zstd:chunked",
    ),
    (
        "buildah-docker",
        "$buildah push $options --format v2s2 $image $target",
        DOCKER,
        "gzip",
    ),
    (
        "skopeo-oci-zstd",
        "$skopeo --format oci --dest-compress-format zstd $there/$image $target",
        OCI,
        "zstd",
    ),
    (
        "skopeo-docker",
        "$skopeo --format v2s2 $there/$image $target",
        DOCKER,
        "gzip",
    ),
    (
        "skopeo-oci-plain",
        "$skopeo --format oci $there/$image dir:$image; $skopeo --preserve-digests dir:$image $target",
        OCI,
        "",
    ),
    (
        "skopeo-docker-plain",
        "$skopeo --format v2s2 $there/$image dir:$image; $skopeo --preserve-digests dir:$image $target",
        DOCKER,
        "",
    ),
];

/// A desk with the folder `tree`, and a registry.
fn desk_and_registry() -> (ImageDesk, Registry) {
    let desk = ImageDesk::new().unwrap();
    write_tree(&desk);
    let registry = Registry::start(&desk.folder().join("registry"), &Guard::default()).unwrap();
    (desk, registry)
}

fn write_tree(desk: &ImageDesk) {
    let tree = ImageTree::with_scripts(&desk.folder().join("tree")).unwrap();
    tree.file("etc/removed", "soon gone")
        .unwrap()
        .file("dir/old", "hidden later")
        .unwrap()
        .file("empty", "")
        .unwrap()
        .incompressible("bin/kubelet", 300_000, 3)
        .unwrap();
    desk.sh(
        "cd tree && rm Kubefile && cp /bin/true setuid && chmod 4755 setuid && mkdir -m 1777 sticky
         ln bin/kubelet bin/same && ln -s kubelet bin/link && ln -s ../../.. dir/out && mkdir 'a folder' && touch 'a folder/naïve name'
         setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 bin/kubelet",
    )
    .unwrap();
}

/// The document that the registry has under a name, and how it calls it.
fn document(desk: &ImageDesk, registry: &Registry, path: &str) -> (String, Value) {
    let accept: Vec<String> = [OCI, OCI_LIST, DOCKER, DOCKER_LIST]
        .iter()
        .map(|kind| format!("--header 'Accept: {kind}'"))
        .collect();
    let answer = desk
        .sh(&format!(
            "curl --silent --show-error --fail {} --write-out '\\n%{{content_type}}' http://{}/v2/{path}",
            accept.join(" "),
            registry.host()
        ))
        .unwrap();
    let (text, kind) = answer.rsplit_once('\n').unwrap();
    (kind.to_owned(), serde_json::from_str(text).unwrap())
}

/// The tree that podman or buildah see in an image of the registry.
fn tree_of_peer(desk: &ImageDesk, fetch: &str, image: &str) -> String {
    let script = format!(
        "{PEERS}\nimage={image}\n{fetch}\n( cd $folder\n{TREE_LIST} )\n$podman image unmount --all >/dev/null; $buildah rm --all >/dev/null"
    );
    desk.sh(&script).unwrap()
}

const BY_PODMAN: &str = "folder=$($podman image mount $($podman pull --quiet --tls-verify=false $image))";
const BY_BUILDAH: &str =
    "folder=$($buildah mount $($buildah from --quiet --pull-always --tls-verify=false docker://$image))";

/// By ranges of its layers, as their tables of contents have them (containers-storage.conf(5), `pull_options`).
const BY_PODMAN_LAZILY: &str = r#"
    printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' $PWD/lazy $PWD/lazy-run >storage.conf
    printf '[storage.options]\npull_options = { enable_partial_images = "true" }\n' >>storage.conf
    export CONTAINERS_STORAGE_CONF=$PWD/storage.conf
    podman=podman
    folder=$($podman image mount $($podman pull --quiet --tls-verify=false $image))
"#;

fn digest(printed: &str) -> &str {
    printed.trim().split_once('@').unwrap().1
}

#[test]
fn what_podman_buildah_and_skopeo_push_has_the_same_tree_here() {
    let (desk, registry) = desk_and_registry();
    let host = registry.host();
    for (image, push, manifest_kind, compression) in FORMS {
        let words = format!(
            "{PEERS}{BUILD}
             options='--quiet --tls-verify=false' skopeo='skopeo copy --quiet --dest-tls-verify=false'
             image={image} target=docker://{host}/others/{image}:v1
             build $image
             {push} >/dev/null
             cd $($podman image mount $image)
             {TREE_LIST}
             cd / && $podman image unmount $image >/dev/null"
        );
        let there = desk.sh(&words).unwrap();
        assert!(
            there.contains("links=2") && there.contains("security.capability") && there.contains("dir/new"),
            "{there}"
        );
        assert!(
            !there.contains("etc/removed") && !there.contains("dir/old"),
            "{there}"
        );

        // It is what it is meant to be.
        let (kind, manifest) = document(&desk, &registry, &format!("others/{image}/manifests/v1"));
        assert_eq!(kind, manifest_kind, "{image}");
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2, "{image}: {manifest}");
        let start = if kind == OCI { OCI_LAYER } else { DOCKER_LAYER };
        let sign = if kind == OCI { "+" } else { "." };
        for layer in layers {
            let (end, chunked) = match compression {
                "" => (String::new(), false),
                "zstd:chunked" => (format!("{sign}zstd"), true),
                other => (format!("{sign}{other}"), false),
            };
            assert_eq!(layer["mediaType"], format!("{start}{end}"), "{image}: {manifest}");
            assert_eq!(
                layer["annotations"][CHUNKED].is_string(),
                chunked,
                "{image}: {manifest}"
            );
        }

        let name = format!("{host}/others/{image}:v1");
        // In a store of its own: what two images have in common is one file there, and has more links.
        let gantry = |words: &str| desk.gantry_in(image, words).unwrap().ok().unwrap();
        let pulled = gantry(&format!("pull {name} --insecure"));
        assert_same_tree(&desk.tree(image, &name, "linux/amd64").unwrap(), &there, image);
        // It goes on as it came.
        let pushed = gantry(&format!("push {name} {host}/again/{image}:v1 --insecure"));
        assert_eq!(digest(&pushed), digest(&pulled), "{image}");
        gantry("store check");
    }
}

#[test]
fn what_gantry_pushed_has_the_same_tree_for_podman_and_buildah() {
    let (desk, registry) = desk_and_registry();
    desk.sh(
        r#"printf 'FROM scratch\nCOPY . .\n' >tree/Kubefile
        mkdir above
        printf 'FROM odd:v1\nCOPY daemon.json etc/\nRUN rm -r etc/removed dir && mkdir dir && echo new >dir/new\n' >above/Kubefile
        echo '{"second": true}' >above/daemon.json"#,
    )
    .unwrap();
    desk.gantry("build -t odd:v1 tree").unwrap().ok().unwrap();
    let name = format!("{}/ours/odd:v2", registry.host());
    desk.gantry(&format!("build -t {name} above"))
        .unwrap()
        .ok()
        .unwrap();
    desk.gantry(&format!("push {name} --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    let here = desk.tree("root", &name, "linux/amd64").unwrap();
    assert!(here.contains("dir/new") && !here.contains("dir/old"), "{here}");
    for (who, fetch) in [("podman", BY_PODMAN), ("buildah", BY_BUILDAH)] {
        assert_same_tree(&here, &tree_of_peer(&desk, fetch, &name), who);
    }
}

#[test]
fn lists_that_podman_made_are_pulled_for_each_of_their_platforms() {
    let (desk, registry) = desk_and_registry();
    let host = registry.host();
    for (form, list_kind, manifest_kind) in [("oci", OCI_LIST, OCI), ("v2s2", DOCKER_LIST, DOCKER)] {
        let words = format!(
            "{PEERS}
             build() {{
                 local name=$1; shift
                 local container=$($buildah from --quiet \"$@\" scratch)
                 local tree=$($buildah mount $container)
                 cp -a tree/. $tree/
                 echo $name >$tree/etc/name
                 $buildah commit --quiet --rm $container $name >/dev/null
             }}
             build {form}-amd64
             build {form}-arm64 --arch arm64
             build {form}-arm --arch arm --variant v7
             $podman manifest create {form} >/dev/null
             for image in {form}-amd64 {form}-arm64 {form}-arm; do
                 $podman manifest add {form} $there/$image:latest >/dev/null
             done
             $podman manifest push --quiet --all --tls-verify=false --format {form} {form} docker://{host}/list/{form}:all >/dev/null"
        );
        desk.sh(&words).unwrap();
        let (kind, list) = document(&desk, &registry, &format!("list/{form}/manifests/all"));
        assert_eq!(kind, list_kind);
        let entries = list["manifests"].as_array().unwrap();
        assert_eq!(entries.len(), 3, "{list}");
        assert!(
            entries.iter().all(|entry| entry["mediaType"] == manifest_kind),
            "{list}"
        );

        let name = format!("{host}/list/{form}:all");
        for (image, platform) in [
            ("amd64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("arm", "linux/arm/v7"),
        ] {
            let there = format!(
                "{PEERS}cd $($podman image mount {form}-{image})\n{TREE_LIST}\ncd / && $podman image unmount --all >/dev/null"
            );
            let there = desk.sh(&there).unwrap();
            let one = format!("{form}-{image}");
            desk.gantry_in(&one, &format!("pull {name} --insecure --platform {platform}"))
                .unwrap()
                .ok()
                .unwrap();
            assert_same_tree(&desk.tree(&one, &name, platform).unwrap(), &there, &one);
        }
        // What was for one platform is no other's.
        let wrong = desk
            .gantry_in("none", &format!("pull {name} --insecure --platform linux/s390x"))
            .unwrap();
        assert!(
            wrong
                .stderr
                .contains("there is one for linux/amd64, linux/arm64, linux/arm/v7"),
            "{wrong}"
        );
        for words in [
            format!("pull {name} --insecure --all-platforms"),
            format!("push {name} {host}/again/{form}:all --insecure"),
        ] {
            desk.gantry(&words).unwrap().ok().unwrap();
        }
        let again = document(&desk, &registry, &format!("again/{form}/manifests/all"));
        assert_eq!(again, (kind, list), "it goes on as it came");
    }
}

/// Whoever does not know eStargz reads it as gzip, and finds the format's own files among the others: so do podman and buildah, and so
/// does Gantry, for the digest of the layer in the config is of all of them.
#[test]
fn an_estargz_image_has_the_tree_that_podman_sees() {
    let (desk, registry) = desk_and_registry();
    let folder = desk.folder();
    desk.sh("mkdir -p above/etc && echo new >above/etc/new && touch above/etc/.wh.removed above/.wh.dir")
        .unwrap();
    std::fs::write(folder.join("above/large"), noise(200_000, 9)).unwrap();
    // Extended attributes would need PAX headers, which are not written here.
    desk.sh("setfattr -x security.capability tree/bin/kubelet")
        .unwrap();
    let layers = [
        Layer::pack(&folder.join("tree"), &["bin/kubelet", "scripts/init.sh"]).unwrap(),
        Layer::pack(&folder.join("above"), &[]).unwrap(),
    ];
    estargz::write_layout(&folder.join("layout"), &layers).unwrap();
    let name = format!("{}/lazy/demo:v1", registry.host());
    desk.sh(&format!(
        "skopeo copy --quiet --preserve-digests --dest-tls-verify=false oci:layout:v1 docker://{name}"
    ))
    .unwrap();
    let (_, manifest) = document(&desk, &registry, "lazy/demo/manifests/v1");
    let toc = &manifest["layers"][0]["annotations"]["containerd.io/snapshot/stargz/toc.digest"];
    assert!(toc.is_string(), "{manifest}");

    let pulled = desk
        .gantry(&format!("pull {name} --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    let here = desk.tree("root", &name, "linux/amd64").unwrap();
    // Both landmarks are the same but for their names: Gantry keeps such files once, with two links.
    let without = |list: &str, left_out: &[&str]| -> String {
        let lines = list
            .lines()
            .filter(|line| left_out.iter().all(|name| !line.contains(name)));
        lines.map(|line| format!("{line}\n")).collect()
    };
    let landmarks = [PREFETCH_LANDMARK, NO_PREFETCH_LANDMARK];
    for (who, fetch) in [("podman", BY_PODMAN), ("buildah", BY_BUILDAH)] {
        let there = tree_of_peer(&desk, fetch, &name);
        assert_same_tree(&without(&here, &landmarks), &without(&there, &landmarks), who);
        assert!(
            landmarks
                .iter()
                .all(|own| there.contains(&format!("file {own} "))),
            "{there}"
        );
    }
    assert!(
        landmarks.iter().all(|own| here.contains(&format!("file {own} "))),
        "{here}"
    );

    // That it is eStargz is shown by podman, too, when it may take files one by one: then it reads the table of contents.
    let parts = registry.answers("GET", "/lazy/demo/blobs/").unwrap().len();
    let one_by_one = tree_of_peer(&desk, BY_PODMAN_LAZILY, &name);
    let own = [&landmarks[..], &[TOC_NAME]].concat();
    assert_eq!(without(&one_by_one, &own), one_by_one);
    // podman 4.3 gives files that it takes in this way no times.
    let without_times = |list: &str| -> String {
        let lines = list.lines().map(|line| line.split(" time=").next().unwrap());
        lines.map(|line| format!("{line}\n")).collect()
    };
    let here = without(&here, &own);
    assert_same_tree(
        &without_times(&here),
        &without_times(&one_by_one),
        "podman, one by one",
    );
    let parts = registry
        .answers("GET", "/lazy/demo/blobs/")
        .unwrap()
        .split_off(parts);
    assert!(
        parts.iter().filter(|(status, _)| *status == 206).count() >= 2 * layers.len(),
        "{parts:?}"
    );
    // Everything else is what was packed.
    let lay = format!(
        "rm -r tree/dir tree/etc/removed && cp -a above/etc/new tree/etc/ && cp -a above/large tree/
         cd $(GANTRY_ROOT=$PWD/root gantry mount {name})
         diff --recursive --no-dereference --exclude={TOC_NAME} --exclude='.*prefetch.landmark' . $OLDPWD/tree && echo same"
    );
    assert_eq!(desk.sh(&lay).unwrap().trim(), "same");
    desk.gantry(&format!("umount {name}")).unwrap().ok().unwrap();
    let again = format!("push {name} {}/again/demo:v1 --insecure", registry.host());
    let pushed = desk.gantry(&again).unwrap().ok().unwrap();
    assert_eq!(digest(&pushed), digest(&pulled));
    let kept = document(&desk, &registry, "again/demo/manifests/v1");
    assert_eq!(kept.1, manifest, "others may still read it lazily");
}
