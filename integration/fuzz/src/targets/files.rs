//! Files of an image that say what it holds: the tree of its registry, databases of packages, programs.

use gantry::completeness::RegistryContents;
use gantry::sbom;
use gantry_model::{Digest, ImageReference};
use gantry_store::{Descriptor, Image, ImageConfig, NewImage, Platform, Rootfs, Store, layer_from_tar};

use super::archives::folder;
use crate::Target;

/// Stands before a file of an input; its path follows, a line feed, and its content.
const FILE: &[u8] = b"\n==> ";
/// Where the tree of a registry lies.
const REGISTRY: &str = "registry/docker/registry/v2";
/// Most files of an input: each is a file on disk.
const MAX_FILES: usize = 64;

/// The tree of a registry in an image. What counts as whole has everything that it names.
pub(crate) const REGISTRY_TREE: Target = Target {
    name: "registry-tree",
    seeds: || {
        let layer = b"a layer".to_vec();
        let config = b"{}".to_vec();
        let blob = |bytes: &[u8]| {
            format!(
                "{{\"digest\":\"{}\",\"size\":{}}}",
                Digest::of(bytes),
                bytes.len()
            )
        };
        let manifest = format!(
            "{{\"schemaVersion\":2,\"config\":{},\"layers\":[{}]}}",
            blob(&config),
            blob(&layer)
        );
        let list = format!(
            "{{\"schemaVersion\":2,\"manifests\":[{{\"digest\":\"{}\",\"size\":{},\"platform\":{{\"os\":\"linux\",\
             \"architecture\":\"amd64\"}}}}]}}",
            Digest::of(manifest.as_bytes()),
            manifest.len()
        );
        let mut files = Vec::new();
        for bytes in [&layer, &config, manifest.as_bytes(), list.as_bytes()] as [&[u8]; 4] {
            let hex = Digest::of(bytes).hex();
            files.push((
                format!("{REGISTRY}/blobs/sha256/{}/{hex}/data", &hex[..2]),
                bytes.to_vec(),
            ));
        }
        let mut link = |place: String, digest: Digest| {
            let path = format!("{REGISTRY}/repositories/library/a/{place}/link");
            files.push((path, digest.to_string().into_bytes()));
        };
        for bytes in [manifest.as_bytes(), list.as_bytes()] {
            let digest = Digest::of(bytes);
            link(format!("_manifests/revisions/sha256/{}", digest.hex()), digest);
        }
        for bytes in [&layer, &config] {
            let digest = Digest::of(bytes);
            link(format!("_layers/sha256/{}", digest.hex()), digest);
        }
        link(
            "_manifests/tags/1/current".into(),
            Digest::of(manifest.as_bytes()),
        );
        link("_manifests/tags/all/current".into(), Digest::of(list.as_bytes()));
        vec![input(&files)]
    },
    run: |data| {
        with_image(data, |rootfs, _| {
            let contents = RegistryContents::read(rootfs).expect("every file is whole");
            for (name, repository, digest) in contents.tagged() {
                let flaw = contents.flaw(repository, &digest, &Platform::host());
                if flaw.expect("every file is whole").is_none() {
                    let hex = digest.hex();
                    let data = format!("{REGISTRY}/blobs/sha256/{}/{hex}/data", &hex[..2]);
                    assert!(
                        rootfs.get(&data).is_some(),
                        "{name} is whole without its manifest"
                    );
                }
            }
            let name: ImageReference = "a:1".parse().expect("it is a name");
            let _ = contents.find(&name);
        });
    },
};

/// What an SBOM is made of.
pub(crate) const PACKAGES: Target = Target {
    name: "packages",
    seeds: || {
        let text = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
        // Go's `debug/buildinfo`: at a multiple of 16 bytes, two texts with their lengths before them.
        let lines = "path\ta.test/b\nmod\ta.test/b\tv1.2.3\ndep\tc.test/d\tv0.1.0\n=>\te.test/f\tv0.2.0\n\
                     build\t-ldflags=\"-X k8s.io/component-base/version.gitVersion=v1.31.4\"\n";
        let mut program = b"\x7fELF".to_vec();
        program.resize(64, 0);
        program.extend(b"\xff Go buildinf:\x08\x02");
        program.resize(96, 0);
        program.extend(b"\x06go1.22");
        program.extend([
            ((lines.len() + 32) & 0x7f) as u8 | 0x80,
            ((lines.len() + 32) >> 7) as u8,
        ]);
        program.extend([&[1; 16], lines.as_bytes(), &[2; 16]].concat());
        vec![
            input(&[("bin/kubelet".to_owned(), program)]),
            input(&[
                text(
                    "var/lib/dpkg/status",
                    "Package: a\nStatus: install ok installed\nVersion: 1:2\nArchitecture: amd64\n\nPackage: b\nVersion: 3\n",
                ),
                text("charts/c/Chart.yaml", "name: c\nversion: 1.0.0\n"),
                text("debs/d_1%3a2_all.deb", ""),
                text("rpms/e-1.0-2.el9.x86_64.rpm", ""),
                text(
                    "registry/docker/registry/v2/repositories/a/b/_manifests/tags/1/current/link",
                    &Digest::of(b"").to_string(),
                ),
            ]),
        ]
    },
    run: |data| {
        with_image(data, |rootfs, image| {
            let document = sbom::document(image, rootfs, 0).expect("every file is whole");
            let written = serde_json::to_string(&document).expect("it is plain data");
            let again = sbom::document(image, rootfs, 0).expect("every file is whole");
            assert_eq!(serde_json::to_string(&again).ok(), Some(written));
        });
    },
};

/// An input of these files.
fn input(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut input = Vec::new();
    for (path, content) in files {
        input.extend([FILE, path.as_bytes(), b"\n", content].concat());
    }
    input
}

/// Calls `read` with the image that the input is, unless no image could have its paths.
fn with_image(data: &[u8], read: impl FnOnce(&Rootfs, &Image)) {
    let Some(tar) = tar(data) else {
        return;
    };
    let folder = folder();
    let store = Store::open(folder.path()).expect("a store can be made");
    let Ok(layer) = layer_from_tar(&store, tar.as_slice()) else {
        return;
    };
    let mut config = ImageConfig {
        architecture: Platform::host().architecture,
        os: "linux".into(),
        ..ImageConfig::default()
    };
    config.rootfs.kind = "layers".into();
    config.rootfs.diff_ids = vec![layer.diff_id];
    let image = NewImage {
        config,
        layers: vec![Descriptor::of_chunked_layer(&layer)],
        annotations: Default::default(),
    };
    let name = "an:image".parse().expect("it is a name");
    let alone = store.share().expect("nobody else has the store");
    let image = store.add_image(alone, &name, &image).expect("it is an image");
    let rootfs = Rootfs::read(&store, &image).expect("its layer was just written");
    read(&rootfs, &image);
}

/// The input as a tar; none when it has a path that no tar has.
fn tar(data: &[u8]) -> Option<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in pieces(data).into_iter().take(MAX_FILES) {
        let end = file.iter().position(|byte| *byte == b'\n')?;
        let path = std::str::from_utf8(&file[..end]).ok()?;
        let content = &file[end + 1..];
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        builder.append_data(&mut header, path, content).ok()?;
    }
    builder.into_inner().ok()
}

/// What stands behind each [`FILE`].
fn pieces(data: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = data
        .windows(FILE.len())
        .enumerate()
        .filter(|(_, window)| *window == FILE)
        .map(|(at, _)| at)
        .collect();
    starts.push(data.len());
    starts
        .windows(2)
        .filter_map(|two| data.get(two[0] + FILE.len()..two[1]))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_image_with_a_blob_that_was_changed_is_not_whole(
            which in 0_usize..4,
            at: prop::sample::Index,
            change in 1..=u8::MAX,
        ) {
            let mut input = (REGISTRY_TREE.seeds)().remove(0);
            // Layer, config, manifest and list, each behind its path.
            let mut begins = (5..input.len()).filter(|at| input[..*at].ends_with(b"/data\n"));
            let begin = begins.nth(which).unwrap();
            let len = input[begin..].windows(FILE.len()).position(|part| part == FILE).unwrap();
            input[begin + at.index(len)] ^= change;
            with_image(&input, |rootfs, _| {
                let contents = RegistryContents::read(rootfs).unwrap();
                let flawed: Vec<String> = contents
                    .tagged()
                    .filter(|(_, repository, digest)| {
                        contents.flaw(repository, digest, &Platform::host()).unwrap().is_some()
                    })
                    .map(|(name, ..)| name)
                    .collect();
                // The list names the image; the image knows nothing of the list.
                let expected = if which == 3 { &["library/a:all"][..] } else { &["library/a:1", "library/a:all"] };
                assert_eq!(flawed, expected, "blob {which}");
            });
        }
    }

    #[test]
    fn seeds_hold_what_is_looked_for() {
        let mut whole = 0;
        with_image(&(REGISTRY_TREE.seeds)()[0], |rootfs, _| {
            let contents = RegistryContents::read(rootfs).unwrap();
            for (_, repository, digest) in contents.tagged() {
                let flaw = contents.flaw(repository, &digest, &Platform::host()).unwrap();
                whole += usize::from(flaw.is_none());
            }
        });
        assert_eq!(whole, 2);
        let mut documents = String::new();
        for seed in (PACKAGES.seeds)() {
            with_image(&seed, |rootfs, image| {
                let document = sbom::document(image, rootfs, 0).unwrap();
                documents.push_str(&serde_json::to_string(&document).unwrap());
            });
        }
        for package in [
            "pkg:golang/a.test/b@v1.2.3",
            "pkg:golang/e.test/f@v0.2.0",
            "pkg:deb/debian/a@1:2",
            "pkg:deb/debian/d@1:2",
            "pkg:rpm/e@1.0-2.el9",
            "pkg:helm/c@1.0.0",
            "pkg:oci/b@",
        ] {
            assert!(
                documents.replace("%3A", ":").contains(package),
                "{package}: {documents}"
            );
        }
    }
}
