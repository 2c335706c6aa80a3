//! Images as files: what Gantry saved skopeo and podman read, what they wrote Gantry loads, and damage is refused.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use gantry_integration::ImageTree;
use gantry_integration::image_desk::ImageDesk;

/// A desk with an image `demo:v1` of about 6 MB, made of the folder `context`.
fn desk_with_image() -> ImageDesk {
    let desk = ImageDesk::new().unwrap();
    ImageTree::with_scripts(&desk.folder().join("context"))
        .unwrap()
        .incompressible("bin/kubelet", 6_000_000, 7)
        .unwrap();
    desk.gantry("build -t demo:v1 context").unwrap().ok().unwrap();
    desk.sh("mkdir tree && cp -a context/. tree/ && rm tree/Kubefile")
        .unwrap();
    desk
}

fn must(desk: &ImageDesk, words: &str) -> String {
    desk.gantry(words).unwrap().ok().unwrap()
}

/// The image `name` in the store `root` has the tree it was built of.
fn has_the_tree(desk: &ImageDesk, root: &str, name: &str) {
    let merged = desk.merged(root, name).unwrap();
    let same = format!("diff --recursive context {merged} && echo same");
    assert_eq!(desk.sh(&same).unwrap().trim(), "same", "{root}");
}

#[test]
fn what_gantry_saved_skopeo_and_podman_read() {
    let desk = desk_with_image();
    must(&desk, "tag demo:v1 registry.example/team/demo:v1");
    let digest = must(&desk, "inspect -f {{.Digest}} demo:v1");
    let saved = desk.gantry("save -o demo.tar demo:v1").unwrap();
    assert!(saved.stderr.contains("1 image saved, 6."), "{saved}");
    must(&desk, "save --format oci-dir -o layout demo:v1");
    // Into the same folder once more: the other image is added.
    must(
        &desk,
        "save --format oci-dir -o layout registry.example/team/demo:v1",
    );
    for place in [
        "oci-archive:demo.tar",
        "oci:layout:demo:v1",
        "oci:layout:registry.example/team/demo:v1",
    ] {
        let seen = desk.sh(&format!("skopeo inspect --format '{{{{.Digest}}}}' {place}"));
        assert_eq!(seen.unwrap(), digest, "{place}");
    }

    must(
        &desk,
        "save --format docker-archive -o docker.tar demo:v1 registry.example/team/demo:v1",
    );
    desk.sh("skopeo inspect docker-archive:docker.tar").unwrap();
    let podman = "podman --root $PWD/podman --runroot $PWD/podman-run --storage-driver vfs";
    let same = format!(
        "{podman} load --quiet -i docker.tar >/dev/null\n\
         folder=$({podman} image mount registry.example/team/demo:v1)\n\
         diff --recursive context $folder && echo same\n\
         {podman} image unmount --all >/dev/null"
    );
    assert_eq!(desk.sh(&same).unwrap().trim(), "same");
    must(&desk, "save --format docker-dir -o folder demo:v1");
    desk.sh("skopeo copy --quiet dir:folder oci:copied:demo:v1")
        .unwrap();
    must(&desk, "load -t copied:v1 copied");
    has_the_tree(&desk, "root", "copied:v1");
    // The same images give the same bytes.
    must(&desk, "save --quiet -o again.tar demo:v1");
    desk.sh("cmp demo.tar again.tar").unwrap();

    let refused = desk.gantry("save --format oci-dir -o context demo:v1").unwrap();
    assert_eq!(refused.status, Some(2), "{refused}");
    assert!(refused.stderr.contains("no OCI layout"), "{refused}");
}

#[test]
fn what_others_wrote_gantry_loads() {
    let desk = desk_with_image();
    must(&desk, "save -o demo.tar demo:v1");
    // In two steps: skopeo 1.9 does not decompress zstd and compress again at once.
    desk.sh("skopeo copy --quiet --dest-decompress oci-archive:demo.tar dir:plain")
        .unwrap();
    let podman = "podman --root $PWD/podman --runroot $PWD/podman-run --storage-driver vfs";
    desk.sh(&format!(
        "skopeo copy --quiet dir:plain oci-archive:gzip.tar:demo:v1\n\
         skopeo copy --quiet dir:plain oci:layout:demo:v1\n\
         skopeo copy --quiet dir:plain docker-archive:docker.tar:demo:v1\n\
         {podman} load --quiet -i docker.tar >/dev/null\n\
         {podman} save --quiet --format docker-archive -o podman.tar demo:v1\n\
         {podman} save --quiet --format oci-archive -o podman-oci.tar demo:v1\n\
         gzip --keep docker.tar && zstd -q demo.tar"
    ))
    .unwrap();
    for archive in [
        "gzip.tar",
        "layout",
        "docker.tar",
        "podman.tar",
        "podman-oci.tar",
        "docker.tar.gz",
        "demo.tar.zst",
    ] {
        let root = format!("root-{archive}");
        let loaded = desk.gantry_in(&root, &format!("load {archive}")).unwrap();
        assert!(loaded.stderr.contains("1 image loaded"), "{loaded}");
        let printed = loaded.ok().unwrap();
        let (name, _) = printed.split_once('@').unwrap();
        assert!(name.ends_with("demo:v1"), "{archive}: {printed}");
        has_the_tree(&desk, &root, name);
    }
    // skopeo's folder does not say how its image is called.
    must(&desk, "load -t plain:v1 plain");
    has_the_tree(&desk, "root", "plain:v1");
    // By a pipe from one store to another, without a file between them.
    let piped = desk.sh(
        "gantry save -o - demo:v1 | GANTRY_ROOT=$PWD/root-pipe gantry load -\n\
         gantry save --format docker-archive -o - demo:v1 | gzip | GANTRY_ROOT=$PWD/root-pipe gantry load -t other:v1 -",
    );
    assert!(piped.unwrap().contains("other:v1@sha256:"));
    has_the_tree(&desk, "root-pipe", "demo:v1");
    has_the_tree(&desk, "root-pipe", "other:v1");
}

#[test]
fn a_damaged_archive_changes_nothing() {
    let desk = desk_with_image();
    must(&desk, "save -o demo.tar demo:v1");
    // Three archives: one byte of the layer is another, the end is missing, and it is something else.
    desk.sh(
        "cp demo.tar flipped.tar && printf X | dd of=flipped.tar bs=1 seek=3000000 conv=notrunc status=none\n\
         head --bytes=3000000 demo.tar >short.tar\n\
         seq 100000 >numbers.txt",
    )
    .unwrap();
    for (archive, status, reason) in [
        ("flipped.tar", 6, "does not match its digest"),
        ("short.tar", 6, "ends inside an entry"),
        ("numbers.txt", 2, "no tar archive"),
        ("missing.tar", 2, "cannot open missing.tar"),
    ] {
        let refused = desk.gantry_in("other", &format!("load {archive}")).unwrap();
        assert_eq!(refused.status, Some(status), "{refused}");
        assert!(refused.stderr.contains(reason), "{refused}");
        assert!(refused.stderr.contains(archive), "{refused}");
    }
    let left = desk.sh("find other/store -type f -size +1k");
    assert_eq!(left.unwrap(), "", "nothing of them is kept");
}

#[test]
fn parts_travel_one_by_one_and_go_on_where_they_were_cut_off() {
    let desk = desk_with_image();
    desk.sh("mkdir stick").unwrap();
    let save = "save --part-size 1500kB -o stick/demo.tar demo:v1";
    let saved = desk.gantry(save).unwrap();
    assert!(saved.stderr.contains("5 of 5 parts written"), "{saved}");
    // A part is lost, another was being written when the power went.
    desk.sh("rm stick/demo.tar.part-0002 && echo half >stick/demo.tar.part-0004.partial")
        .unwrap();
    let again = desk.gantry(save).unwrap();
    assert!(
        again.stderr.contains("1 of 5 parts written, 4 were there before"),
        "{again}"
    );
    // Whoever has nothing but coreutils and skopeo reads them as well.
    desk.sh("cat stick/demo.tar.part-* >together.tar && skopeo inspect oci-archive:together.tar")
        .unwrap();

    // Today a part from the middle, then one that is damaged, then a killed command, then the rest.
    let today = desk.gantry_in("there", "load stick/demo.tar.part-0003").unwrap();
    assert_eq!(today.status, Some(0), "{today}");
    assert!(today.stderr.contains("1 of 5 parts are here"), "{today}");
    for part in ["part-0001", "part-0002", "part-0004", "part-0005"] {
        assert!(today.stderr.contains(part), "{today}");
    }
    desk.sh("cp stick/demo.tar.part-0002 whole && printf X | dd of=stick/demo.tar.part-0002 bs=1 seek=9000 conv=notrunc status=none")
        .unwrap();
    let damaged = desk.gantry_in("there", "load stick/demo.tar.part-0002").unwrap();
    assert_eq!(damaged.status, Some(6), "{damaged}");
    assert!(damaged.stderr.contains("stick/demo.tar.part-0002"), "{damaged}");
    let none = desk.gantry_in("there", "images -o json").unwrap().ok().unwrap();
    assert_eq!(none.trim(), "[]");
    // Without its index a part is nothing, unless an earlier one brought it.
    desk.sh("mkdir other && cp stick/demo.tar.part-0001 other/")
        .unwrap();
    let alone = desk
        .gantry_in("elsewhere", "load other/demo.tar.part-0001")
        .unwrap();
    assert_eq!(alone.status, Some(2), "{alone}");
    assert!(alone.stderr.contains("demo.tar.parts.json"), "{alone}");
    desk.gantry_in("there", "load other/demo.tar.part-0001")
        .unwrap()
        .ok()
        .unwrap();
    desk.sh("mv whole stick/demo.tar.part-0002\n\
         sed 's/demo.tar/pipe/' stick/demo.tar.parts.json >pipe.parts.json\n\
         mkfifo pipe.part-0004\n\
         exec 3<>pipe.part-0004\n\
         GANTRY_ROOT=$PWD/there gantry load pipe.part-0004 & loader=$!\n\
         head --bytes=500000 stick/demo.tar.part-0004 >&3\n\
         kill -KILL $loader\n\
         wait $loader || true")
        .unwrap();
    let last = desk.gantry_in("there", "load stick/demo.tar.parts.json").unwrap();
    assert!(last.stderr.contains("1 image loaded"), "{last}");
    assert!(
        last.stderr.contains("stick/demo.tar.part-0003: was here before"),
        "{last}"
    );
    assert!(!last.stderr.contains("part-0004: was here before"), "{last}");
    has_the_tree(&desk, "there", "demo:v1");
    assert_eq!(
        desk.sh("ls there/store/parts").unwrap(),
        "",
        "nothing stays behind"
    );
}
