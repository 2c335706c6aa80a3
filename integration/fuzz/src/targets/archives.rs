//! Archives: layers, and images on their way without a registry.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use gantry_model::{Digest, ImageReference};
use gantry_store::{Platform, Store, layer_from_tar};
use tar::{EntryType, Header};
use tempfile::TempDir;

use crate::Target;

/// In memory, where there is such a place: stores sync what they write.
const MEMORY: &str = "/dev/shm";
/// Most bytes that a store holds after an input was refused: its own folders and locks.
const EMPTY: u64 = 64 << 10;

/// A layer of an image that others built.
pub(crate) const LAYER: Target = Target {
    name: "layer",
    seeds: || {
        let plain = tar(&[
            ("a/", EntryType::Directory, b"", ""),
            ("a/b", EntryType::Regular, b"some content", ""),
            ("a/c", EntryType::Symlink, b"", "../a/b"),
            ("d", EntryType::Link, b"", "a/b"),
            ("a/.wh.e", EntryType::Regular, b"", ""),
        ]);
        let pax = tar(&[
            (
                "x",
                EntryType::XHeader,
                b"22 path=a/long/name\n30 SCHILY.xattr.user.a=value\n",
                "",
            ),
            ("short", EntryType::Regular, b"", ""),
            ("long", EntryType::GNULongName, b"a/very/long/name\0", ""),
            ("b", EntryType::Regular, b"1", ""),
        ]);
        let zstd = zstd::encode_all(plain.as_slice(), 1).expect("memory can be written to");
        vec![plain, pax, zstd]
    },
    run: |data| {
        let folder = folder();
        let store = Store::open(folder.path()).expect("a store can be made");
        if let Ok(layer) = layer_from_tar(&store, Cursor::new(data)) {
            assert!(layer.size > 0);
        }
    },
};

/// An archive of images. What is refused leaves nothing behind.
pub(crate) const ARCHIVE: Target = Target {
    name: "archive",
    seeds: archives,
    run: |data| {
        let folder = folder();
        let store = Store::open(&folder.path().join("store")).expect("a store can be made");
        let name: Option<ImageReference> = "some:name".parse().ok();
        let archive = written(folder.path(), data);
        if store.load(&archive, name.as_ref(), &mut |_| {}).is_err() {
            let left = size(&folder.path().join("store"));
            assert!(
                left <= EMPTY,
                "{left} bytes are left of an archive that was refused"
            );
        }
    },
};

/// An archive of container images, taken as they are. What an image consists of is there, whole.
pub(crate) const CONTAINER_ARCHIVE: Target = Target {
    name: "container-archive",
    seeds: archives,
    run: |data| {
        let folder = folder();
        let store = Store::open(&folder.path().join("store")).expect("a store can be made");
        let Ok(images) = store.take_container_images(&written(folder.path(), data)) else {
            return;
        };
        for (_, target) in images.named {
            let image = store.archived_image(&target.digest, &Platform::host());
            for blob in image.ok().flatten().into_iter().flat_map(|image| image.blobs) {
                let size = store.blobs().verify(&blob.digest, "blob").expect("it is whole");
                assert_eq!(size, blob.size);
            }
        }
    },
};

fn archives() -> Vec<Vec<u8>> {
    let layer = tar(&[("a", EntryType::Regular, b"content", "")]);
    let config = format!(
        "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"{}\"]}}}}",
        Digest::of(&layer)
    );
    let described = |media: &str, blob: &[u8]| {
        format!(
            "{{\"mediaType\":\"application/vnd.oci.image.{media}\",\"digest\":\"{}\",\"size\":{}}}",
            Digest::of(blob),
            blob.len()
        )
    };
    let manifest = format!(
        "{{\"schemaVersion\":2,\"config\":{},\"layers\":[{}]}}",
        described("config.v1+json", config.as_bytes()),
        described("layer.v1.tar", &layer)
    );
    let index = format!(
        "{{\"schemaVersion\":2,\"manifests\":[{}]}}",
        described("manifest.v1+json", manifest.as_bytes())
    );
    let place = |blob: &[u8]| format!("blobs/{}", Digest::of(blob).to_string().replace(':', "/"));
    let oci = tar(&[
        (
            "oci-layout",
            EntryType::Regular,
            b"{\"imageLayoutVersion\":\"1.0.0\"}",
            "",
        ),
        ("index.json", EntryType::Regular, index.as_bytes(), ""),
        (
            &place(manifest.as_bytes()),
            EntryType::Regular,
            manifest.as_bytes(),
            "",
        ),
        (
            &place(config.as_bytes()),
            EntryType::Regular,
            config.as_bytes(),
            "",
        ),
        (&place(&layer), EntryType::Regular, &layer, ""),
    ]);
    let docker = tar(&[
        ("layer.tar", EntryType::Regular, &layer, ""),
        ("config.json", EntryType::Regular, config.as_bytes(), ""),
        (
            "manifest.json",
            EntryType::Regular,
            b"[{\"Config\":\"config.json\",\"RepoTags\":[\"a:b\"],\"Layers\":[\"layer.tar\"]}]",
            "",
        ),
    ]);
    vec![oci, docker]
}

/// The archive that an input is, as a file.
fn written(folder: &Path, data: &[u8]) -> PathBuf {
    let archive = folder.join("archive");
    let written = fs::File::create(&archive).and_then(|mut file| file.write_all(data));
    written.expect("an archive can be written");
    archive
}

pub(super) fn folder() -> TempDir {
    let made = if Path::new(MEMORY).is_dir() {
        TempDir::new_in(MEMORY)
    } else {
        TempDir::new()
    };
    made.expect("a folder can be made")
}

/// Bytes of the files below `folder`.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// A tar of these members: name, kind, content, where it leads.
fn tar(members: &[(&str, EntryType, &[u8], &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content, target) in members {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(0);
        header.set_path(name).expect("the name is short");
        if !target.is_empty() {
            header.set_link_name(target).expect("the target is short");
        }
        header.set_cksum();
        builder
            .append(&header, *content)
            .expect("memory can be written to");
    }
    builder.into_inner().expect("memory can be written to")
}
