//! Archives that are right travel; archives that lie leave nothing behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use gantry_model::{Digest, ImageReference};

use super::blob_path;
use crate::manifest::{History, MEDIA_TYPE_CONFIG, MEDIA_TYPE_MANIFEST, Manifest, RootFs};
use crate::testing::{self, TestStore};
use crate::{
    Descriptor, Image, ImageConfig, LayerOptions, NewImage, Platform, SaveEvent, Store, StoreError,
    layer_from_tree,
};

pub(crate) fn name(text: &str) -> ImageReference {
    text.parse().unwrap()
}

/// An image with one layer that holds `content`.
pub(super) fn image(store: &Store, reference: &str, content: &str) -> Image {
    image_for(store, reference, content, &Platform::host().architecture)
}

pub(crate) fn image_for(store: &Store, reference: &str, content: &str, architecture: &str) -> Image {
    let dir = tempfile::tempdir().unwrap();
    testing::write(dir.path(), "etc/daemon.json", content, 0o644);
    let layer = layer_from_tree(store, dir.path(), &LayerOptions::default()).unwrap();
    let config = ImageConfig {
        architecture: architecture.into(),
        os: "linux".into(),
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: vec![layer.diff_id],
        },
        history: vec![History::default()],
        ..ImageConfig::default()
    };
    let image = NewImage {
        config,
        layers: vec![Descriptor::of_chunked_layer(&layer)],
        annotations: BTreeMap::new(),
    };
    store
        .add_image(store.share().unwrap(), &name(reference), &image)
        .unwrap()
}

pub(crate) fn saved(store: &Store, references: &[&str], dir: &Path) -> PathBuf {
    let path = dir.join("image.tar");
    let names: Vec<_> = references.iter().map(|text| name(text)).collect();
    store
        .save(&names, None, fs::File::create(&path).unwrap(), &mut |_| {})
        .unwrap();
    path
}

/// A tar archive of these entries.
pub(super) fn archive(dir: &Path, entries: &[(&str, &[u8])]) -> PathBuf {
    let path = dir.join("made.tar");
    let mut tar = tar::Builder::new(fs::File::create(&path).unwrap());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap();
    path
}

fn refused(test: &TestStore, path: &Path) -> StoreError {
    let error = test.store.load(path, None, &mut |_| {}).unwrap_err();
    assert_eq!(
        test.store.blobs().list().unwrap(),
        [],
        "nothing of a refused archive is kept"
    );
    assert!(test.store.images().unwrap().is_empty());
    error
}

#[test]
fn an_image_travels_in_an_archive_and_stays_the_same() {
    let (here, there, dir) = (testing::store(), testing::store(), tempfile::tempdir().unwrap());
    let image = image(&here.store, "kubernetes:v1.19.8", "{}");
    here.store.tag(&name("kubernetes:v1.19.8"), &name("k8s")).unwrap();
    let path = saved(&here.store, &["kubernetes:v1.19.8", "k8s"], dir.path());
    let again = dir.path().join("again.tar");
    here.store
        .save(
            &[name("kubernetes:v1.19.8"), name("k8s")],
            None,
            fs::File::create(&again).unwrap(),
            &mut |_| {},
        )
        .unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(&again).unwrap());

    let loaded = there
        .store
        .load(&path, None, &mut |_| panic!("its layers are chunked"))
        .unwrap();
    assert_eq!(loaded.len(), 2);
    let arrived = there.store.image(&name("k8s")).unwrap();
    assert_eq!(arrived.manifest_bytes, image.manifest_bytes);
    assert_eq!(arrived.layers, image.layers);
    assert!(there.store.check().unwrap().damage.is_empty());
}

#[test]
fn an_archive_may_be_compressed_or_a_folder() {
    let (here, dir) = (testing::store(), tempfile::tempdir().unwrap());
    image(&here.store, "kubernetes:v1.19.8", "{}");
    let plain = saved(&here.store, &["kubernetes:v1.19.8"], dir.path());
    let bytes = fs::read(&plain).unwrap();
    let gzip = dir.path().join("image.tar.gz");
    let mut encoder =
        flate2::write::GzEncoder::new(fs::File::create(&gzip).unwrap(), flate2::Compression::fast());
    encoder.write_all(&bytes).unwrap();
    encoder.finish().unwrap();
    let zstd = dir.path().join("image.tar.zst");
    fs::write(&zstd, zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
    let folder = dir.path().join("layout");
    tar::Archive::new(&bytes[..]).unpack(&folder).unwrap();
    for path in [gzip, zstd, folder] {
        let there = testing::store();
        there
            .store
            .load(&path, Some(&name("other:1")), &mut |_| {})
            .unwrap();
        assert!(there.store.image(&name("other:1")).is_ok(), "{}", path.display());
    }
}

#[test]
fn a_docker_archive_holds_plain_layers_and_every_name() {
    let (here, there, dir) = (testing::store(), testing::store(), tempfile::tempdir().unwrap());
    let first = image(&here.store, "kubernetes:v1.19.8", "{}");
    here.store.tag(&name("kubernetes:v1.19.8"), &name("k8s")).unwrap();
    let second = image(&here.store, "other:1", "{\"other\": true}");
    let path = dir.path().join("docker.tar");
    let names = ["kubernetes:v1.19.8", "k8s", "other:1"].map(name);
    let (mut planned, mut written) = (0, 0);
    let mut count = |event| match event {
        SaveEvent::Planned { total } => planned = total,
        SaveEvent::Written { len } => written += len,
        SaveEvent::Measuring { .. } => {}
    };
    here.store
        .save_docker(&names, None, fs::File::create(&path).unwrap(), &mut count)
        .unwrap();
    assert_eq!(planned, fs::metadata(&path).unwrap().len());
    // Small pieces between the contents are not worth a word.
    assert!(
        written <= planned && written > planned / 2,
        "{written} of {planned}"
    );

    let mut listed = Vec::new();
    for entry in tar::Archive::new(fs::File::open(&path).unwrap())
        .entries()
        .unwrap()
    {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        if let Some(hex) = name.strip_suffix(".tar") {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert_eq!(Digest::of(&bytes).hex(), hex, "a layer is its plain tar stream");
        }
        listed.push(name);
    }
    assert_eq!(
        listed.len(),
        5,
        "two configs, two layers, one manifest: {listed:?}"
    );
    let loaded = there.store.load(&path, None, &mut |_| {}).unwrap();
    assert_eq!(loaded.len(), 3);
    for (name_there, image) in [("k8s", &first), ("other:1", &second)] {
        let arrived = there.store.image(&name(name_there)).unwrap();
        assert_eq!(arrived.config_bytes, image.config_bytes);
        assert_eq!(arrived.layers, image.layers, "the same tar gives the same chunks");
    }
}

#[test]
fn a_folder_takes_more_images_and_goes_on_where_it_was_cut_off() {
    let (here, dir) = (testing::store(), tempfile::tempdir().unwrap());
    let first = image(&here.store, "first:1", "1");
    image(&here.store, "second:1", "2");
    let layout = dir.path().join("layout");
    let save = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|text| name(text)).collect();
        here.store.save_folder(&names, None, &layout, &mut |_| {})
    };
    save(&["first:1"]).unwrap();
    // What a killed run left, and what a bad disk did.
    let layer = layout.join(blob_path(&first.layers[0].digest));
    fs::write(layer.with_extension("partial"), "half").unwrap();
    let whole = fs::read(&layer).unwrap();
    fs::write(&layer, vec![0; whole.len()]).unwrap();
    save(&["first:1", "second:1"]).unwrap();
    assert_eq!(fs::read(&layer).unwrap(), whole, "a damaged blob is written anew");
    save(&["second:1"]).unwrap();

    let there = testing::store();
    let loaded = there.store.load(&layout, None, &mut |_| {}).unwrap();
    assert_eq!(loaded.len(), 2, "each name is in the index once: {loaded:?}");
    assert!(there.store.check().unwrap().damage.is_empty());

    let strange = dir.path().join("documents");
    testing::write(&strange, "letter.txt", "dear", 0o644);
    let error = here
        .store
        .save_folder(&[name("first:1")], None, &strange, &mut |_| {})
        .unwrap_err();
    assert!(error.to_string().contains("no OCI layout"), "{error}");
    assert_eq!(fs::read_dir(&strange).unwrap().count(), 1);
}

#[test]
fn a_gzip_layer_keeps_its_blob_and_gets_a_chunked_form() {
    let (test, dir) = (testing::store(), tempfile::tempdir().unwrap());
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", &b"hello"[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&tar).unwrap();
    let gzip = encoder.finish().unwrap();
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Env":null}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Platform::host().architecture,
        Digest::of(&tar)
    );
    let descriptor = |media_type: &str, bytes: &[u8]| Descriptor {
        media_type: media_type.into(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: MEDIA_TYPE_MANIFEST.into(),
        config: descriptor(MEDIA_TYPE_CONFIG, config.as_bytes()),
        layers: vec![descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &gzip)],
        annotations: BTreeMap::new(),
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{MEDIA_TYPE_MANIFEST}","digest":"{}","size":{}}}]}}"#,
        Digest::of(&manifest),
        manifest.len()
    );
    let path = archive(
        dir.path(),
        &[
            (&blob_path(&Digest::of(&gzip)), &gzip),
            (&blob_path(&Digest::of(config.as_bytes())), config.as_bytes()),
            (&blob_path(&Digest::of(&manifest)), &manifest),
            ("index.json", index.as_bytes()),
        ],
    );
    let error = refused(&test, &path).to_string();
    assert!(error.contains("does not say how its image is called"), "{error}");
    let mut chunked = 0;
    test.store
        .load(&path, Some(&name("foreign:1")), &mut |_| chunked += 1)
        .unwrap();
    assert_eq!(chunked, 1);
    let image = test.store.image(&name("foreign:1")).unwrap();
    assert_ne!(image.layers[0].digest, Digest::of(&gzip));
    assert_eq!(image.layers[0].diff_id, Digest::of(&tar));
    assert!(
        test.store.blobs().exists(&Digest::of(&gzip)),
        "the original stays for pushing"
    );
    // The second time nothing has to be cut.
    test.store
        .load(&path, Some(&name("foreign:2")), &mut |_| {
            panic!("it has a chunked form")
        })
        .unwrap();
    test.store.remove_image(&name("foreign:1")).unwrap();
    assert!(test.store.image(&name("foreign:2")).is_ok());
    test.store.remove_image(&name("foreign:2")).unwrap();
    assert_eq!(test.store.blobs().list().unwrap(), []);
}

#[test]
fn archives_that_lie_are_refused_and_leave_nothing() {
    let (here, dir) = (testing::store(), tempfile::tempdir().unwrap());
    image(&here.store, "kubernetes:v1.19.8", "{}");
    let whole = fs::read(saved(&here.store, &["kubernetes:v1.19.8"], dir.path())).unwrap();
    let path = dir.path().join("broken.tar");
    let test = testing::store();

    // A flipped byte in the last blob, the layer.
    let mut flipped = whole.clone();
    let last = flipped.iter().rposition(|byte| *byte != 0).unwrap();
    flipped[last] ^= 1;
    fs::write(&path, &flipped).unwrap();
    let error = refused(&test, &path);
    assert!(matches!(error, StoreError::WrongDigest { .. }), "{error}");

    // Cut short inside of a blob, between entries, inside of a header, and to nothing.
    for len in [last, 512 * 4, 700, 0] {
        fs::write(&path, &whole[..len]).unwrap();
        let error = refused(&test, &path);
        assert_ne!(error.exit_code(), gantry_model::ExitCode::Internal, "{error}");
    }
    for (entries, reason) in [
        (&[("../../etc/passwd", &b"x"[..])][..], "leads outside"),
        (&[("/etc/passwd", b"x")], "leads outside"),
        (&[("blobs/sha256/../../x", b"x")], "leads outside"),
        (&[("readme.txt", b"x")], "neither an OCI archive"),
        (&[("index.json", b"{")], "index.json"),
        (
            &[("index.json", br#"{"schemaVersion":2,"manifests":[]}"#)],
            "no image",
        ),
        (
            &[("manifest.json", br#"[{"Config":"../x","Layers":[]}]"#)],
            "is missing from it",
        ),
        (&[("manifest.json", br#"{"a":1}"#)], "manifest.json"),
    ] {
        let error = refused(&test, &archive(dir.path(), entries)).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let nested = [b"{\"x\":".to_vec(), b"[".repeat(1 << 20)].concat();
    let error = refused(&test, &archive(dir.path(), &[("index.json", &nested)])).to_string();
    assert!(error.contains("index.json"), "{error}");
    let long = vec![b' '; 5 << 20];
    let error = refused(&test, &archive(dir.path(), &[("index.json", &long)]));
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
}

#[test]
fn a_removed_image_takes_along_what_only_it_needed() {
    let test = testing::store();
    let store = &test.store;
    let first = image(store, "first", "1");
    let second = image(store, "second", "2");
    store.tag(&name("first"), &name("other")).unwrap();
    for layer in first.layers.iter().chain(&second.layers) {
        store.unpack_layer(layer).unwrap();
    }
    store.remove_image(&name("first")).unwrap();
    assert!(
        store.has_layer(&first.layers[0].digest),
        "another name leads to it"
    );
    let generation = store.root().join("data/demo/generations/1");
    fs::create_dir_all(&generation).unwrap();
    let layers = serde_json::to_string(&[second.layers[0].digest]).unwrap();
    let text = format!(
        r#"{{"id":1,"cluster":"demo","image":"{}","layers":{layers}}}"#,
        second.manifest_digest
    );
    fs::write(generation.join("generation.json"), text).unwrap();
    let removal = store.remove_image(&name("second")).unwrap();
    assert_eq!(
        (removal.blobs.len(), removal.layers.len()),
        (3, 0),
        "a generation is made of the layer"
    );
    let in_use = store.share().unwrap();
    let removal = store.remove_image(&name("other")).unwrap();
    assert!(removal.postponed.is_some() && store.has_layer(&first.layers[0].digest));
    drop(in_use);
    image(store, "third", "3");
    let removal = store.remove_image(&name("third")).unwrap();
    assert!(removal.postponed.is_none());
    assert_eq!(
        store.blobs().list().unwrap(),
        [],
        "the postponed removal is made up for"
    );
    let error = store.remove_image(&name("third")).unwrap_err();
    assert!(matches!(error, StoreError::NoSuchImage { .. }), "{error}");
}

#[test]
fn building_again_under_a_name_removes_what_it_led_to() {
    let test = testing::store();
    let old = image(&test.store, "kubernetes:v1", "old");
    let new = image(&test.store, "kubernetes:v1", "new");
    assert!(!test.store.blobs().exists(&old.manifest_digest));
    assert!(test.store.blobs().exists(&new.manifest_digest));
}

#[test]
fn a_check_names_every_damaged_object_and_who_needs_it() {
    let test = testing::store();
    let store = &test.store;
    let image = image(store, "kubernetes:v1", "content of the file");
    store.unpack_layer(&image.layers[0]).unwrap();
    assert!(store.check().unwrap().damage.is_empty());
    let blob = store.blobs().path(&image.layers[0].digest);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[9] ^= 0x40;
    fs::write(&blob, bytes).unwrap();
    let file = store.layer_dir(&image.layers[0].digest).join("etc/daemon.json");
    fs::write(&file, "c0ntent of the file").unwrap();
    fs::remove_file(store.blobs().path(&image.config_digest)).unwrap();
    let report = store.check().unwrap();
    let damaged: Vec<_> = report.damage.iter().map(|damage| damage.path.clone()).collect();
    for path in [blob, file, store.blobs().path(&image.config_digest)] {
        assert!(
            damaged.contains(&path),
            "{} is not among {damaged:?}",
            path.display()
        );
    }
    assert!(
        report
            .damage
            .iter()
            .any(|damage| damage.images == ["kubernetes:v1"])
    );
    store.remove_image(&name("kubernetes:v1")).unwrap();
}
