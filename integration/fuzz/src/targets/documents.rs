//! The documents that images consist of.

use gantry_model::{Digest, TocLocation};
use gantry_store::manifest::{Index, MEDIA_TYPE_MANIFEST, Manifest};
use gantry_store::{Descriptor, Extension, ImageConfig, Toc, early_sealer, launch_lines};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::texts;
use crate::Target;

/// More than a table of contents may be long.
const LEN: u64 = 1 << 24;
/// Blobs begin with their chunks; the table lies behind them.
const OFFSET: u64 = 1 << 40;

/// Manifests, indexes and configs, also those of sealer before 0.9, and what they say about applications.
pub(crate) const IMAGE_DOCUMENTS: Target = Target {
    name: "image-documents",
    seeds: || {
        let digest = Digest::of(b"");
        let layer = format!(
            "{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+zstd\",\"digest\":\"{digest}\",\"size\":3,\"annotations\":\
             {{\"io.github.containers.zstd-chunked.manifest-position\":\"1:2:3:1\",\
             \"io.github.containers.zstd-chunked.manifest-checksum\":\"{digest}\"}}}}"
        );
        let extension = "{\\\"version\\\":\\\"v1\\\",\\\"type\\\":\\\"kube-installer\\\",\\\"applications\\\":[],\
                         \\\"launch\\\":{\\\"cmds\\\":[\\\"a\\\"],\\\"app_names\\\":[]}}";
        texts(&[
            &format!(
                "{{\"schemaVersion\":2,\"config\":{layer},\"layers\":[{layer}],\
                 \"annotations\":{{\"sealer.image.extension\":\"{extension}\"}}}}"
            ),
            &format!("{{\"schemaVersion\":2,\"manifests\":[{layer}]}}"),
            &format!(
                "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{\"Env\":[\"A=1\"],\"Cmd\":[\"a\"],\
                 \"Labels\":{{\"io.gantry.commands\":\"[]\"}}}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{digest}\"]}},\
                 \"history\":[{{\"created_by\":\"COPY\"}}]}}"
            ),
            // As sealer 0.8 pushes it in the place of a config.
            &format!(
                "{{\"kind\":\"Image\",\"apiVersion\":\"sealer.cloud/v2\",\"metadata\":{{\"name\":\"demo:v1\",\"creationTimestamp\":null,\
                 \"annotations\":{{\"a\":\"b\"}}}},\"spec\":{{\"id\":\"1\",\"layers\":[{{\"id\":\"{digest}\",\"type\":\"COPY\",\
                 \"value\":\"kubeadm bin\"}},{{\"type\":\"CMD\",\"value\":\"kubectl get nodes\"}}],\"sealer_version\":\"0.8.6\",\
                 \"platform\":{{\"architecture\":\"arm64\",\"os\":\"linux\",\"variant\":\"v8\"}},\"image_config\":{{\"image_type\":\
                 \"application\",\"cmd\":{{\"parent\":[\"a\"],\"current\":null}},\"args\":{{\"current\":{{\"A\":\"1\"}}}},\
                 \"labels\":{{\"l\":\"m\"}}}}}},\"status\":{{}}}}"
            ),
        ])
    },
    run: |data| {
        early_sealer_document(data);
        let config = read_twice::<ImageConfig>(data).unwrap_or_default();
        read_twice::<Index>(data);
        let Some(manifest) = read_twice::<Manifest>(data) else {
            return;
        };
        for layer in &manifest.layers {
            let _ = layer.chunked_layer(Digest::of(b"diff"));
        }
        let _ = launch_lines(&manifest, &config);
        if let Ok(Some(extension)) = Extension::of(&manifest) {
            let _ = extension.lines(&extension.launched());
            let mut again = manifest;
            let name = "sealer.image.extension".to_owned();
            again.annotations.insert(name, extension.to_annotation());
            assert_eq!(Extension::of(&again), Ok(Some(extension)));
        }
    },
};

/// What a registry may send in the place of a config, and what becomes of it here.
fn early_sealer_document(data: &[u8]) {
    if !early_sealer::is_document(data) {
        return;
    }
    // What nobody looks at may be no text.
    let Ok(document) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let directives = document["spec"]["layers"].as_array();
    let directives = directives.map_or(&[][..], Vec::as_slice);
    // Whatever reads objects reads lists of their values, too.
    if !document.is_object() || !directives.iter().all(Value::is_object) {
        return;
    }
    let is_layer = |directive: &&Value| directive["id"].as_str().is_some_and(|id| !id.is_empty());
    let count = directives.iter().filter(is_layer).count();
    let digest = Digest::of(b"layer");
    let image = |count: usize| {
        let layers = vec![(Descriptor::of_blob(&digest, 5), digest); count];
        early_sealer::image_from_document(data, layers, None, "demo")
    };
    assert!(
        image(count + 1).is_err(),
        "its layers are not those that it names"
    );
    let Ok(image) = image(count) else {
        return;
    };
    assert_eq!(image.config.rootfs.diff_ids.len(), count);
    assert_eq!(
        image
            .config
            .history
            .iter()
            .filter(|entry| !entry.empty_layer)
            .count(),
        count
    );
    assert!(!image.config.architecture.is_empty() && !image.config.os.is_empty());
    let config = serde_json::to_vec(&image.config).expect("a config is plain data");
    assert!(!early_sealer::is_document(&config), "it would be made anew again");
    let config = read_twice::<ImageConfig>(&config).expect("what was made is a config");
    let manifest = Manifest {
        schema_version: 2,
        media_type: MEDIA_TYPE_MANIFEST.to_owned(),
        config: Descriptor::of_blob(&digest, 5),
        layers: image.layers,
        annotations: image.annotations,
    };
    let _ = launch_lines(&manifest, &config);
}

/// What was read, if it reads the same once it was written.
fn read_twice<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) -> Option<T> {
    let document: T = serde_json::from_slice(data).ok()?;
    let text = serde_json::to_vec(&document).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<T>(&text).ok().as_ref(), Some(&document));
    Some(document)
}

/// The table of contents of a layer: the input is its JSON, for behind a digest that holds anything may stand.
pub(crate) const TABLE_OF_CONTENTS: Target = Target {
    name: "table-of-contents",
    seeds: || {
        let digest = Digest::of(b"");
        texts(&[
            &format!(
                "{{\"version\":1,\"entries\":[{{\"type\":\"dir\",\"name\":\"a/\",\"mode\":493}},\
                 {{\"type\":\"reg\",\"name\":\"a/b\",\"mode\":420,\"size\":5,\"digest\":\"{digest}\",\"offset\":10,\"endOffset\":20,\
                 \"chunkDigest\":\"{digest}\"}},{{\"type\":\"symlink\",\"name\":\"c\",\"linkName\":\"a/b\"}},\
                 {{\"type\":\"hardlink\",\"name\":\"d\",\"linkName\":\"a/b\"}}]}}"
            ),
            "{\"version\":1,\"entries\":[{\"type\":\"reg\",\"name\":\"a/.wh.b\",\"size\":0},\
             {\"type\":\"reg\",\"name\":\"x/.wh..wh..opq\",\"size\":0,\"xattrs\":{\"user.a\":\"YQ==\"},\
             \"modtime\":\"2020-01-01T00:00:00Z\"}]}",
        ])
    },
    run: |data| {
        let compressed = zstd::encode_all(data, 1).expect("memory can be written to");
        let location = TocLocation {
            offset: OFFSET,
            compressed_len: compressed.len() as u64,
            len: data.len() as u64,
            digest: Digest::of(&compressed),
        };
        if location.len > LEN {
            return;
        }
        let Ok(toc) = Toc::parse(&compressed, &location) else {
            return;
        };
        for entry in toc.entries() {
            assert!(
                !entry.path.starts_with('/') && entry.path.split('/').all(|name| !matches!(name, ".." | ".")),
                "{entry:?} leaves its root"
            );
            assert!(toc.entry(&entry.path).is_some(), "{entry:?} cannot be found");
        }
        for chunk in toc.chunks().iter().filter(|chunk| !chunk.zeros) {
            let end = chunk.blob_offset.checked_add(chunk.compressed_len.into());
            assert!(end.is_some_and(|end| end <= OFFSET), "{chunk:?} lies outside");
        }
        assert!(toc.chunks().iter().map(|chunk| chunk.len).sum::<u64>() <= toc.content_len());
    },
};
