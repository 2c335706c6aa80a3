//! Archives: layers, and images on their way without a registry.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use gantry::commands::load::read_yaml;
use gantry_model::{Digest, ImageReference};
use gantry_store::{LoadedImage, PartsIndex, Platform, Store, StoreError, layer_from_tar};
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

/// What sealer saved before 0.9: layers as trees, and documents of its own. What is refused leaves nothing behind.
pub(crate) const SEALER_ARCHIVE: Target = Target {
    name: "sealer-archive",
    seeds: || {
        let (base, upper) = ("a".repeat(64), "b".repeat(64));
        let at = |layer: &str, path: &str| format!("{layer}/{path}");
        let image = format!(
            "kind: Image\nmetadata: {{name: 'kubernetes:v1', annotations: {{a: b}}}}\nspec:\n  id: {}\n  sealer_version: v0.5.2\n  layers:\n  \
             - {{id: 'sha256:{base}', type: COPY, value: . .}}\n  - {{id: 'sha256:{upper}', type: RUN, value: rm a}}\n  \
             - {{id: null, type: CMD, value: kubectl apply}}\n  platform: {{architecture: amd64, os: linux}}\n",
            "e".repeat(64)
        );
        let metadata = format!(
            "{{\"name\":\"kubernetes:v1\",\"id\":\"{}\",\"created\":\"2021-09-01T10:00:00Z\",\"size\":1}}",
            "e".repeat(64)
        );
        vec![tar(&[
            (&at(&base, ""), EntryType::Directory, b"", ""),
            (&at(&base, "etc/a"), EntryType::Regular, b"a", ""),
            (&at(&base, "bin/link"), EntryType::Symlink, b"", "../etc/a"),
            (&at(&base, "bin/hard"), EntryType::Link, b"", &at(&base, "etc/a")),
            (&at(&upper, ""), EntryType::Directory, b"", ""),
            (&at(&upper, "etc/a"), EntryType::Char, b"", ""),
            ("image_metadata.yaml", EntryType::Regular, image.as_bytes(), ""),
            ("Metadata", EntryType::Regular, metadata.as_bytes(), ""),
        ])]
    },
    run: |data| {
        let folder = folder();
        let store = Store::open(folder.path()).expect("a store can be made");
        if load_sealer(&store, data).is_err() {
            let left = size(folder.path());
            assert!(
                left <= EMPTY,
                "{left} bytes are left of an archive that was refused"
            );
        } else {
            let report = store.check().expect("it can be read");
            assert!(report.damage.is_empty(), "{report:?}");
        }
    },
};

fn load_sealer(store: &Store, data: &[u8]) -> Result<Vec<LoadedImage>, StoreError> {
    let name: Option<ImageReference> = "some:name".parse().ok();
    store.load_stream(data, "archive", name.as_ref(), Some(read_yaml), &mut |_| {})
}

/// The index of an archive in parts. What adds up says every part, and all of the archive.
pub(crate) const PARTS_INDEX: Target = Target {
    name: "parts-index",
    seeds: || {
        let digest = Digest::of(b"");
        let extent = |offset: u64, size: u64| {
            format!("{{\"digest\":\"{digest}\",\"offset\":{offset},\"size\":{size}}}")
        };
        let index = format!(
            "{{\"version\":1,\"archive\":\"a.tar\",\"size\":100352,\"part_size\":65536,\"parts\":[\
             {{\"name\":\"a.tar.part-0001\",\"size\":65536,\"digest\":\"{digest}\"}},\
             {{\"name\":\"a.tar.part-0002\",\"size\":34816}}],\"index\":{},\"blobs\":[{},{}]}}",
            extent(512, 100),
            extent(1536, 1000),
            extent(4096, 90_000)
        );
        vec![index.into_bytes()]
    },
    run: |data| {
        let folder = folder();
        let Ok(index) = PartsIndex::read(&written(folder.path(), data)) else {
            return;
        };
        assert!(index.count() > 0 && index.is_like(&index));
        for number in 1..=index.count() {
            let name = index.part_name(number);
            assert_eq!(
                PartsIndex::archive_of_part(&name),
                Some((index.archive(), number))
            );
            assert!(index.part_size(number) > 0, "part {number} is empty");
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
        if kind.is_character_special() {
            // Device 0:0 is what overlayfs has in the place of a file that was removed.
            header.set_device_major(0).expect("the header has a place for it");
            header.set_device_minor(0).expect("the header has a place for it");
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_whole() {
        let folder = folder();
        let store = Store::open(folder.path()).unwrap();
        for seed in (ARCHIVE.seeds)() {
            let name: ImageReference = "some:name".parse().unwrap();
            store
                .load_stream(&seed[..], "archive", Some(&name), None, &mut |_| {})
                .unwrap();
        }
        load_sealer(&store, &(SEALER_ARCHIVE.seeds)()[0]).unwrap();
        for seed in (PARTS_INDEX.seeds)() {
            assert_eq!(
                PartsIndex::read(&written(folder.path(), &seed)).unwrap().count(),
                2
            );
        }
    }
}
