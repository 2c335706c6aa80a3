//! Save files of sealer, made here after its description: no real ones of before 0.9 are at hand.

use std::error::Error as _;

use gantry_model::ExitCode;
use serde_json::json;

use super::document::Metadata;
use crate::archive::tests::{image_for, name};
use crate::testing::{self, TestStore};
use crate::{LoadedImage, Platform, Rootfs, StoreError};

/// An archive in the making.
struct SaveFile {
    tar: tar::Builder<Vec<u8>>,
}

impl SaveFile {
    fn new() -> Self {
        Self {
            tar: tar::Builder::new(Vec::new()),
        }
    }

    fn entry(&mut self, path: &str, kind: tar::EntryType, link: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o640 });
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        if kind == tar::EntryType::Char {
            header.set_device_major(0).unwrap();
            header.set_device_minor(0).unwrap();
        }
        if link.is_empty() {
            self.tar.append_data(&mut header, path, content).unwrap();
        } else {
            self.tar.append_link(&mut header, path, link).unwrap();
        }
    }

    fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(path, tar::EntryType::Regular, "", content.as_ref());
        self
    }

    fn folder(mut self, path: &str) -> Self {
        self.entry(path, tar::EntryType::Directory, "", b"");
        self
    }

    fn link(mut self, path: &str, kind: tar::EntryType, target: &str) -> Self {
        self.entry(path, kind, target, b"");
        self
    }

    fn removed(mut self, path: &str) -> Self {
        self.entry(path, tar::EntryType::Char, "", b"");
        self
    }

    /// The next entry has this extended attribute.
    fn xattr(mut self, key: &str, value: &[u8]) -> Self {
        self.tar.append_pax_extensions([(key, value)]).unwrap();
        self
    }

    fn document(self, path: &str, value: &serde_json::Value) -> Self {
        // JSON is YAML.
        self.file(path, value.to_string())
    }

    fn load(self, test: &TestStore) -> Result<Vec<LoadedImage>, StoreError> {
        let bytes = self.tar.into_inner().unwrap();
        let read_yaml = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
        test.store
            .load_stream(&bytes[..], "sealer.tar", None, Some(read_yaml), &mut |_| {})
    }

    fn refused(self, test: &TestStore) -> StoreError {
        let error = self.load(test).unwrap_err();
        assert_eq!(test.store.blobs().list().unwrap(), []);
        assert!(
            matches!(error.exit_code(), ExitCode::Input | ExitCode::Verification),
            "{error}"
        );
        error
    }
}

fn hex(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// Two layers: the second removes a file of the first, and hides what was in a folder.
fn with_layers() -> SaveFile {
    let (base, upper, long) = (hex('a'), hex('b'), "deep/".repeat(30));
    SaveFile::new()
        .folder(&base)
        .folder(&format!("{base}/etc"))
        .file(&format!("{base}/etc/daemon.json"), "{}")
        .file(&format!("{base}/etc/old.conf"), "old")
        .file(&format!("{base}/scripts/init.sh"), "#!/bin/sh\n")
        .link(
            &format!("{base}/scripts/start"),
            tar::EntryType::Symlink,
            "init.sh",
        )
        .link(
            &format!("{base}/bin/sh"),
            tar::EntryType::Link,
            &format!("{base}/scripts/init.sh"),
        )
        .file(&format!("{base}/{long}file"), testing::noise(1, 5000))
        .file(&format!("{base}/charts/one/Chart.yaml"), "name: one")
        .folder(&upper)
        .removed(&format!("{upper}/etc/old.conf"))
        .xattr("SCHILY.xattr.trusted.overlay.opaque", b"y")
        .folder(&format!("{upper}/charts"))
        .file(&format!("{upper}/charts/two"), "2")
}

fn contents(rootfs: &Rootfs, path: &str) -> Option<Vec<u8>> {
    let (found, mut bytes) = (rootfs.resolve(path)?, Vec::new());
    rootfs.copy_file(&found, &mut bytes).unwrap().then_some(bytes)
}

#[test]
fn an_image_that_sealer_saved_before_0_7_is_an_image() {
    let test = testing::store();
    let loaded = with_layers()
        .folder(&hex('c'))
        .document(
            "image_metadata.yaml",
            &json!({
                "kind": "Image",
                "metadata": {"name": "kubernetes:v1.19.8", "annotations": {"sea.aliyun.com/ClusterFile": "kind: Cluster"}},
                "spec": {
                    "id": hex('e'),
                    "sealer_version": "v0.5.2",
                    "layers": [
                        {"id": format!("sha256:{}", hex('a')), "type": "COPY", "value": ". ."},
                        {"id": format!("sha256:{}", hex('b')), "type": "RUN", "value": "rm etc/old.conf"},
                        {"id": format!("sha256:{}", hex('c')), "type": "BASE", "value": "registry cache"},
                        {"id": null, "type": "CMD", "value": "kubectl apply -f manifests/one.yaml"},
                        {"id": "", "type": "CMD", "value": "kubectl get nodes"},
                    ],
                    "platform": null,
                },
            }),
        )
        .document(
            "Metadata",
            &json!({"name": "kubernetes:v1.19.8", "id": hex('e'), "created": "2021-09-01T10:00:00Z", "size": 1}),
        )
        .load(&test)
        .unwrap();
    assert_eq!(loaded.len(), 1);
    let amd64 = Platform {
        architecture: "amd64".into(),
        os: "linux".into(),
        variant: None,
    };
    let image = test.store.image_for(&name("kubernetes:v1.19.8"), &amd64).unwrap();
    assert_eq!(image.layers.len(), 3);
    assert_eq!(
        image.commands().unwrap(),
        ["kubectl apply -f manifests/one.yaml", "kubectl get nodes"]
    );
    assert_eq!(image.config.created.as_deref(), Some("2021-09-01T10:00:00Z"));
    assert_eq!(image.config.history.len(), 5);
    assert_eq!(image.config.history[1].created_by, "RUN rm etc/old.conf");
    let manifest = image.manifest().unwrap();
    assert_eq!(
        manifest.annotations["sea.aliyun.com/ClusterFile"],
        "kind: Cluster"
    );
    assert_eq!(
        image.extension().unwrap().unwrap().build_client.sealer_version,
        "v0.5.2"
    );

    let rootfs = Rootfs::read(&test.store, &image).unwrap();
    assert_eq!(contents(&rootfs, "etc/daemon.json").unwrap(), b"{}");
    assert_eq!(
        contents(&rootfs, "etc/old.conf"),
        None,
        "the second layer removed it"
    );
    assert_eq!(
        contents(&rootfs, "scripts/start").unwrap(),
        b"#!/bin/sh\n",
        "links lead on"
    );
    assert_eq!(contents(&rootfs, "bin/sh").unwrap(), b"#!/bin/sh\n");
    let long = format!("{}file", "deep/".repeat(30));
    assert_eq!(contents(&rootfs, &long).unwrap(), testing::noise(1, 5000));
    assert_eq!(
        contents(&rootfs, "charts/one/Chart.yaml"),
        None,
        "the folder was replaced"
    );
    assert_eq!(contents(&rootfs, "charts/two").unwrap(), b"2");
    let init = rootfs.get("scripts/init.sh").unwrap();
    assert_eq!((init.mode, init.mtime.seconds), (0o640, 1_600_000_000));
    assert!(test.store.check().unwrap().damage.is_empty());
}

fn application(architecture: &str) -> serde_json::Value {
    json!({
        "kind": "Image",
        "spec": {
            "layers": [{"id": format!("sha256:{}", hex('b')), "type": "COPY", "value": "charts charts"}],
            "platform": {"architecture": architecture, "os": "linux", "variant": ""},
            "image_config": {
                "image_type": "application",
                "cmd": {"parent": ["echo base"], "current": ["helm install two charts/two --set n=${N}"]},
                "args": {"parent": {"N": "1", "M": "1"}, "current": {"N": "2"}},
                "labels": {"owner": "shop"},
            },
        },
    })
}

#[test]
fn an_image_of_0_8_for_two_platforms_is_an_index() {
    let test = testing::store();
    let entry = |digit, architecture: &str| json!({"id": hex(digit), "platform": {"architecture": architecture, "os": "linux"}});
    let save_file = || {
        with_layers()
            .document(
                "Metadata",
                &json!({"shop:v1": {"manifests": [entry('1', "amd64"), entry('2', "arm64")]}}),
            )
            .document(&format!("{}.yaml", hex('1')), &application("amd64"))
    };
    let error = save_file().refused(&test).to_string();
    assert!(
        error.contains(&format!("{}.yaml is missing", hex('2'))),
        "{error}"
    );
    let loaded = save_file()
        .document(&format!("{}.yaml", hex('2')), &application("arm64"))
        .load(&test)
        .unwrap();
    assert_eq!(loaded.len(), 1);
    for architecture in ["amd64", "arm64"] {
        let platform = Platform {
            architecture: architecture.into(),
            os: "linux".into(),
            variant: None,
        };
        let image = test.store.image_for(&name("shop:v1"), &platform).unwrap();
        assert_eq!(image.config.architecture, architecture);
        assert_eq!(
            image.commands().unwrap(),
            ["echo base", "helm install two charts/two --set n=${N}"]
        );
        assert_eq!(
            image.env(),
            [("M".to_owned(), "1".to_owned()), ("N".to_owned(), "2".to_owned())]
        );
        assert_eq!(image.config.config.labels["owner"], "shop");
        assert_eq!(image.extension().unwrap().unwrap().kind, "app-installer");
    }
}

#[test]
fn a_list_of_0_9_is_archives_in_an_archive() {
    let (here, test) = (testing::store(), testing::store());
    let archive = |architecture: &str| {
        let text = format!("demo:{architecture}");
        image_for(&here.store, &text, architecture, architecture);
        let mut bytes = Vec::new();
        here.store
            .save(&[name(&text)], None, &mut bytes, &mut |_| {})
            .unwrap();
        bytes
    };
    let loaded = SaveFile::new()
        .file(&format!("{}.tar", hex('1')), archive("amd64"))
        .file(&format!("{}.tar", hex('2')), archive("arm64"))
        .file("Metadata", "shop:v2\n")
        .load(&test)
        .unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].reference, name("shop:v2"));
    for architecture in ["amd64", "arm64"] {
        let platform = Platform {
            architecture: architecture.into(),
            os: "linux".into(),
            variant: None,
        };
        let image = test.store.image_for(&name("shop:v2"), &platform).unwrap();
        assert_eq!(image.config.architecture, architecture);
    }
    // Index, two manifests, two configs, two layers: the archives are gone.
    assert_eq!(test.store.blobs().list().unwrap().len(), 7);
    let nothing = testing::store();
    let error = SaveFile::new()
        .file("Metadata", "shop:v2")
        .refused(&nothing)
        .to_string();
    assert!(error.contains("no image is there"), "{error}");
}

#[test]
fn save_files_that_do_not_add_up_are_refused() {
    let test = testing::store();
    let one = json!({"name": "x:1"});
    let of = |layers: serde_json::Value| json!({"spec": {"layers": layers}});
    let layer = |id: String| json!([{"id": id, "type": "COPY", "value": ". ."}]);
    for (save_file, reason) in [
        (
            SaveFile::new().document("Metadata", &one),
            "image_metadata.yaml is missing",
        ),
        (
            SaveFile::new().document("Metadata", &json!({"name": "No Name"})),
            "image_metadata.yaml is missing",
        ),
        (
            SaveFile::new().document("Metadata", &json!({"x:1": 3})),
            "Metadata of sealer.tar",
        ),
        (SaveFile::new().file("Metadata", "{"), "Metadata of sealer.tar"),
        (SaveFile::new().file("Metadata", [0xff]), "no text"),
        (
            SaveFile::new().document("Metadata", &json!({"x:1": {"manifests": []}})),
            "no image",
        ),
        (
            with_layers()
                .document("Metadata", &one)
                .document("image_metadata.yaml", &of(layer(hex('d')))),
            "layer dddd",
        ),
        (
            with_layers()
                .document("Metadata", &one)
                .document("image_metadata.yaml", &of(layer("../../etc".into()))),
            "no id of a layer",
        ),
        (
            with_layers()
                .document("Metadata", &one)
                .document("image_metadata.yaml", &json!([3])),
            "image_metadata.yaml of sealer.tar",
        ),
        (
            with_layers()
                .document("Metadata", &json!({"name": "No Name"}))
                .document("image_metadata.yaml", &of(layer(hex('a')))),
            "its image name",
        ),
        (
            with_layers().document("Metadata", &one).document(
                "image_metadata.yaml",
                &of(json!(vec![json!({"id": hex('a'), "type": "COPY"}); 200])),
            ),
            "200 layers, more than",
        ),
        (
            with_layers()
                .file(&format!("{}/again", hex('a')), "x")
                .document("Metadata", &one),
            "its tree is in two places",
        ),
        (
            SaveFile::new()
                .link(&format!("{}/x", hex('a')), tar::EntryType::Fifo, "")
                .document("Metadata", &one),
            "FIFO",
        ),
    ] {
        let error = save_file.refused(&test);
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        let said = format!("{error}: {cause}");
        assert!(said.contains(reason), "{said} does not say {reason:?}");
    }
}

#[test]
fn metadata_of_every_version_is_told_apart() {
    for (text, named) in [
        (r#"{"name":"x","id":"y"}"#, "one"),
        (r#"{"x":{"manifests":[{"id":"y"}]}}"#, "named"),
        (r#"{"name":{"manifests":[]}}"#, "named"),
        ("docker.io/library/x:1\n", "list"),
    ] {
        let found = match Metadata::read(text.as_bytes()).unwrap() {
            Metadata::One(_) => "one",
            Metadata::Named(_) => "named",
            Metadata::List(list) => {
                assert_eq!(list, "docker.io/library/x:1");
                "list"
            }
        };
        assert_eq!(found, named, "{text}");
    }
}
