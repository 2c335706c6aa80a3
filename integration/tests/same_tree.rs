//! Gantry, skopeo with tar, and podman make the same tree of one image.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use gantry_integration::tree_list::{TREE_LIST, assert_same_tree};
use gantry_integration::{ImageTree, Operator, Testbed};

#[test]
fn skopeo_and_podman_see_the_tree_gantry_assembles() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    build_two_layers(operator);
    operator.clusterfile("odd:v2", &[host]).unwrap();
    operator.apply().unwrap().ok().unwrap();
    let gantry = host
        .must(&format!("cd /var/lib/gantry/data/demo/rootfs && {TREE_LIST}"))
        .unwrap();
    for expected in [
        "links=2",
        "user.colour",
        "security.capability",
        "4755",
        "same file:",
        "other way/out",
        "dir/new",
    ] {
        assert!(gantry.contains(expected), "the tree lacks {expected}:\n{gantry}");
    }
    assert!(
        !gantry.contains("etc/removed") && !gantry.contains("dir/old"),
        "what was removed is there:\n{gantry}"
    );

    operator.must("save -o image.tar odd:v2").unwrap();
    let desk = operator.desk();
    sh(desk, "skopeo inspect oci-archive:image.tar >/dev/null");
    assert_same_tree(&gantry, &with_skopeo_and_tar(desk), "skopeo and tar");
    assert_same_tree(&gantry, &with_podman(desk), "podman");
}

/// An image with everything a filesystem can have, and a second layer that changes, adds and removes.
fn build_two_layers(operator: &Operator) {
    let folder = operator.desk().join("image");
    let tree = ImageTree::with_scripts(&folder).unwrap();
    let tree = tree
        .file("etc/removed", "soon gone")
        .unwrap()
        .file("dir/old", "hidden later")
        .unwrap();
    tree.file("empty", "")
        .unwrap()
        .incompressible("cri/big", 3 << 20, 5)
        .unwrap();
    sh(
        &folder,
        "cp /bin/true setuid && chmod 4755 setuid && chmod 600 etc/daemon.json && mkdir -m 1777 sticky
         ln cri/big cri/same-as-big && ln -s cri/big link && ln -s /absolute/target absolute && mkdir way && ln -s ../.. way/out
         ln -s nowhere dangling && truncate --size=5M sparse && printf x | dd of=sparse bs=1 seek=3000000 conv=notrunc status=none
         setfattr -n user.colour -v blue empty
         setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 setuid
         mkdir 'a folder' && touch 'a folder/naïve name' && touch \"$(printf 'n%.0s' $(seq 200))\"",
    );
    operator.must("build -t odd:v1 image").unwrap();

    std::fs::create_dir(operator.desk().join("second")).unwrap();
    let kubefile =
        "FROM odd:v1\nCOPY daemon.json etc/\nRUN rm -r etc/removed dir && mkdir dir && echo new >dir/new\n";
    std::fs::write(operator.desk().join("second/Kubefile"), kubefile).unwrap();
    std::fs::write(operator.desk().join("second/daemon.json"), "{\"second\": true}\n").unwrap();
    operator.must("build -t odd:v2 second").unwrap();
}

/// What the OCI specification says about layers, done with tar.
fn with_skopeo_and_tar(desk: &Path) -> String {
    let script = r#"
        # In two steps: skopeo 1.9 does not decompress zstd and change to Docker's format at once.
        skopeo copy --quiet --dest-decompress oci-archive:image.tar dir:plain
        skopeo copy --quiet dir:plain docker-archive:docker.tar:odd:v2
        mkdir docker tree && tar -xf docker.tar -C docker
        for layer in $(grep -o '"Layers":\[[^]]*\]' docker/manifest.json | grep -o '[^"]*\.tar'); do
            tar -tf "docker/$layer" | { grep -E '(^|/)\.wh\.' || true; } | while read -r mark; do
                folder=tree/$(dirname "$mark") name=$(basename "$mark")
                if [ "$name" = .wh..wh..opq ]; then
                    find "$folder" -mindepth 1 -delete 2>/dev/null || true
                else
                    rm -rf "$folder/${name#.wh.}"
                fi
            done
            tar -x --same-permissions --same-owner --xattrs --xattrs-include='*' --exclude='.wh.*' -f "docker/$layer" -C tree
        done
        cd tree
    "#;
    sh(desk, &format!("{script}\n{TREE_LIST}"))
}

fn with_podman(desk: &Path) -> String {
    let script = "
        podman=\"podman --root $PWD/podman --runroot $PWD/podman-run --storage-driver vfs\"
        id=$($podman pull --quiet oci-archive:image.tar)
        cd \"$($podman image mount $id)\"
    ";
    sh(
        desk,
        &format!("{script}\n{TREE_LIST}\ncd /; $podman image unmount --all >/dev/null"),
    )
}

/// Runs shell words on this machine; they have to succeed.
fn sh(folder: &Path, script: &str) -> String {
    let mut shell = std::process::Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", script]).current_dir(folder);
    gantry_integration::command::run(&mut shell)
        .unwrap()
        .ok()
        .unwrap()
}
