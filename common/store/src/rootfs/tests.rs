//! Layers on layers, and what a host sees of them.

use gantry_model::Digest;

use super::*;
use crate::manifest::RootFs;
use crate::testing::{self, TestStore};
use crate::{Descriptor, ImageConfig, LayerOptions, NewImage, Platform, layer_from_tar, layer_from_tree};

/// Files of a layer: path and content. `-> TARGET` is a symbolic link, `= TARGET` a hard link, a path that ends with `/` a folder.
type Files<'f> = &'f [(&'f str, &'f str)];

fn layer(test: &TestStore, files: Files<'_>) -> LayerDescriptor {
    // A tar stream, so that whiteouts and links are what they are in images of others.
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        if let Some(target) = content.strip_prefix("-> ") {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, path, target).unwrap();
        } else if let Some(target) = content.strip_prefix("= ") {
            header.set_entry_type(tar::EntryType::Link);
            tar.append_link(&mut header, path, target).unwrap();
        } else if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, path, &[][..]).unwrap();
        } else {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
    }
    layer_from_tar(&test.store, &tar.into_inner().unwrap()[..]).unwrap()
}

fn image_of(test: &TestStore, layers: &[LayerDescriptor]) -> Image {
    let image = NewImage {
        config: ImageConfig {
            architecture: Platform::host().architecture,
            os: "linux".into(),
            rootfs: RootFs {
                kind: "layers".into(),
                diff_ids: layers.iter().map(|layer| layer.diff_id).collect(),
            },
            ..ImageConfig::default()
        },
        layers: layers.iter().map(Descriptor::of_chunked_layer).collect(),
        annotations: BTreeMap::new(),
    };
    let held = test.store.share().unwrap();
    test.store
        .add_image(held, &"a:1".parse().unwrap(), &image)
        .unwrap()
}

fn rootfs(test: &TestStore, layers: &[Files<'_>]) -> Rootfs {
    let layers: Vec<_> = layers.iter().map(|files| layer(test, files)).collect();
    Rootfs::read(&test.store, &image_of(test, &layers)).unwrap()
}

fn text(rootfs: &Rootfs, path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let found = rootfs.copy_file(path, &mut bytes).unwrap();
    found.then(|| String::from_utf8(bytes).unwrap())
}

fn paths(rootfs: &Rootfs) -> Vec<&str> {
    rootfs.iter().map(|(path, _)| path).collect()
}

#[test]
fn upper_layers_hide_what_is_below_them() {
    let test = testing::store();
    let rootfs = rootfs(
        &test,
        &[
            &[
                ("etc/a", "old"),
                ("etc/b", "b"),
                ("dir/x", "x"),
                ("dir-y", "y"),
                ("gone/deep/z", "z"),
            ],
            &[
                ("etc/a", "new"),
                ("etc/.wh.b", ""),
                ("dir", "a file now"),
                (".wh.gone", ""),
            ],
            // What was hidden once does not come back with a folder of the same name.
            &[("dir/", ""), ("gone/new", "")],
        ],
    );
    assert_eq!(
        paths(&rootfs),
        ["", "dir", "dir-y", "etc", "etc/a", "gone", "gone/new"]
    );
    assert_eq!(text(&rootfs, "etc/a").as_deref(), Some("new"));
    assert_eq!(text(&rootfs, "etc/b"), None);
    assert_eq!(text(&rootfs, "dir"), None, "a folder has no content");
}

#[test]
fn an_opaque_folder_hides_all_of_its_namesake_and_nothing_of_its_own() {
    let test = testing::store();
    let rootfs = rootfs(
        &test,
        &[
            &[("etc/a", ""), ("etc/deep/b", ""), ("etcetera", "")],
            &[("etc/mine", ""), ("etc/.wh..wh..opq", "")],
        ],
    );
    assert_eq!(paths(&rootfs), ["", "etc", "etc/mine", "etcetera"]);
    let all_new = self::rootfs(
        &test,
        &[&[("a/b", ""), ("c", "")], &[(".wh..wh..opq", ""), ("d", "")]],
    );
    assert_eq!(paths(&all_new), ["", "d"]);
}

#[test]
fn a_hard_link_stays_what_it_was_when_its_other_name_changes() {
    let test = testing::store();
    let rootfs = rootfs(
        &test,
        &[
            &[("bin/kubeadm", "one"), ("bin/kubelet", "= bin/kubeadm")],
            &[("bin/kubeadm", "two")],
        ],
    );
    assert_eq!(text(&rootfs, "bin/kubelet").as_deref(), Some("one"));
    assert_eq!(text(&rootfs, "bin/kubeadm").as_deref(), Some("two"));
    let gone = self::rootfs(
        &test,
        &[
            &[("bin/kubeadm", "one"), ("bin/kubelet", "= bin/kubeadm")],
            &[("bin/.wh.kubeadm", "")],
        ],
    );
    assert_eq!(text(&gone, "bin/kubelet").as_deref(), Some("one"));
    assert!(matches!(
        gone.get("bin/kubelet").unwrap().kind,
        EntryKind::File { size: 3, .. }
    ));
}

#[test]
fn symbolic_links_are_followed_across_layers_and_never_out_of_the_rootfs() {
    let test = testing::store();
    let rootfs = rootfs(
        &test,
        &[
            &[("usr/lib/y", "y"), ("lib", "-> usr/lib"), ("etc/a", "a")],
            &[
                ("etc/c", "-> ../lib/y"),
                ("etc/host", "-> /../../../etc/a"),
                ("etc/nowhere", "-> none"),
                ("etc/self", "-> ."),
                ("x", "-> y"),
                ("y", "-> /x"),
            ],
        ],
    );
    for (path, leads_to) in [
        ("/", Some("")),
        ("/etc/./c", Some("usr/lib/y")),
        ("etc/../../lib/y", Some("usr/lib/y")),
        ("lib/..", Some("usr")),
        ("etc/host", Some("etc/a")),
        ("etc/self/self/a", Some("etc/a")),
        ("etc/nowhere", None),
        ("etc/a/x", None),
        ("etc/a/..", None),
        ("x", None),
    ] {
        assert_eq!(rootfs.resolve(path).as_deref(), leads_to, "{path}");
    }
    for (path, lies_at) in [
        ("etc/nowhere", Some("etc/nowhere")),
        ("lib", Some("lib")),
        ("lib/y", Some("usr/lib/y")),
        ("etc/none", None),
        ("lib/..", Some("usr")),
        ("/", Some("")),
    ] {
        assert_eq!(rootfs.locate(path).as_deref(), lies_at, "{path}");
    }
}

#[test]
fn a_file_whose_content_is_there_is_not_sent() {
    let test = testing::store();
    let noise: String = testing::noise(1, 200_000)
        .iter()
        .map(|byte| char::from(byte % 64 + 32))
        .collect();
    let old = rootfs(
        &test,
        &[&[("base", &noise)], &[("etc/a", &noise[1..]), ("etc/b", "b")]],
    );
    let new = rootfs(
        &test,
        &[&[("base", &noise)], &[("opt/a", &noise[1..]), ("etc/b", "other")]],
    );
    assert_eq!(new.bytes_to_send(&new), 0);
    let toc = new.layers[1].toc_bytes().len() as u64;
    let sent = new.bytes_to_send(&old) - toc;
    assert!(sent > 0 && sent < 100, "{sent} bytes of content are sent");
    assert!(new.bytes_to_send(&Rootfs::default()) > 200_000);
    assert!(new.has_same_content(&old, "base").unwrap());
    assert!(!new.has_same_content(&old, "etc/b").unwrap());
    assert!(
        !new.has_same_content(&old, "etc/a").unwrap(),
        "it is in one of them"
    );
}

/// `layer` with another word in its table of contents, of the same length.
fn rewritten(test: &TestStore, layer: &LayerDescriptor, word: &str, other: &str) -> LayerDescriptor {
    let mut blob = std::fs::read(test.store.blobs().path(&layer.digest)).unwrap();
    let at = layer.toc.offset as usize;
    let rest = blob.split_off(at);
    let (toc, footer) = rest.split_at(layer.toc.compressed_len as usize);
    let json = String::from_utf8(zstd::decode_all(toc).unwrap()).unwrap();
    assert!(json.contains(word) && word.len() == other.len());
    let toc = zstd::encode_all(json.replace(word, other).as_bytes(), 0).unwrap();
    let mut footer = footer.to_vec();
    footer[16..24].copy_from_slice(&(toc.len() as u64).to_le_bytes());
    blob.extend(&toc);
    blob.extend(footer);
    let mut rewritten = layer.clone();
    rewritten.toc.digest = Digest::of(&toc);
    rewritten.toc.compressed_len = toc.len() as u64;
    rewritten.digest = test.store.blobs().put_bytes(&blob).unwrap();
    rewritten.size = blob.len() as u64;
    rewritten
}

/// What a maker states about a whole file is not believed: here its chunks say otherwise.
#[test]
fn files_with_one_stated_digest_and_other_chunks_are_read() {
    let test = testing::store();
    let _nothing_vanishes = test.store.share().unwrap();
    // A chunk states its own digest where it is not the whole file.
    let genuine = "genuine".repeat(200_000);
    let forgery = "forgery".repeat(200_000);
    let old = layer(&test, &[("a", &genuine)]);
    let new = layer(&test, &[("a", &forgery)]);
    let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
    let new = rewritten(&test, &new, &digest(&forgery), &digest(&genuine));
    let read = |layer| Rootfs::read(&test.store, &image_of(&test, &[layer])).unwrap();
    let (old, new) = (read(old), read(new));
    let stated = |rootfs: &Rootfs| match rootfs.get("a").unwrap().kind {
        EntryKind::File { digest, .. } => digest,
        _ => panic!("it is a file"),
    };
    assert_eq!(stated(&old), stated(&new));
    assert!(!new.has_same_content(&old, "a").unwrap());
}

#[test]
fn a_table_of_contents_that_is_not_the_images_is_refused() {
    let test = testing::store();
    let dir = tempfile::tempdir().unwrap();
    testing::write(dir.path(), "etc/a", "a", 0o644);
    let genuine = layer_from_tree(&test.store, dir.path(), &LayerOptions::default()).unwrap();
    let mut image = image_of(&test, std::slice::from_ref(&genuine));
    image.layers[0].toc.digest = Digest::of(b"another");
    let error = Rootfs::read(&test.store, &image).unwrap_err();
    assert_eq!(error.exit_code(), gantry_model::ExitCode::Verification);
}
