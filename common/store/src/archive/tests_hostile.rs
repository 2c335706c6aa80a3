//! Archives made by hand, by somebody who means harm: each ends in an error that says why, and the store is as before.

use std::fs;
use std::io::{self, Read};
use std::sync::LazyLock;

use gantry_model::{Digest, ExitCode};
use proptest::prelude::*;

use super::blob_path;
use super::tests::{image, name, saved};
use crate::limits::{MAX_ARCHIVE_ENTRIES, MAX_TAR_HEADER_LEN, MAX_TAR_LEN};
use crate::manifest::{MEDIA_TYPE_CONFIG, MEDIA_TYPE_INDEX, MEDIA_TYPE_LAYER_ZSTD, MEDIA_TYPE_MANIFEST};
use crate::testing::{self, TestStore};
use crate::{Store, StoreError};

/// A header of a tar stream, as wrong as it has to be.
fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, content.len() as u64);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(name, b'0', content)
}

fn blob(content: &[u8]) -> Vec<u8> {
    file(&blob_path(&Digest::of(content)), content)
}

fn link(name: &str, kind: u8, target: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    gnu.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    let (digest, size) = (Digest::of(bytes), bytes.len());
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

fn index(entries: &[String]) -> Vec<u8> {
    let entries = entries.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{MEDIA_TYPE_INDEX}","manifests":[{entries}]}}"#).into_bytes()
}

fn manifest(config: &str, layers: &[String]) -> Vec<u8> {
    let layers = layers.join(",");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MEDIA_TYPE_MANIFEST}","config":{config},"layers":[{layers}]}}"#
    )
    .into_bytes()
}

fn config(diff_ids: &[Digest]) -> Vec<u8> {
    let diff_ids: Vec<String> = diff_ids.iter().map(|digest| format!("\"{digest}\"")).collect();
    let diff_ids = diff_ids.join(",");
    format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{diff_ids}]}}}}"#)
        .into_bytes()
}

/// A store with one image in it, and what it looks like.
struct Guarded {
    test: TestStore,
    before: Vec<Digest>,
}

impl Guarded {
    fn new() -> Self {
        let test = testing::store();
        image(&test.store, "here:1", "was here before");
        let before = test.store.blobs().list().unwrap();
        Self { test, before }
    }

    fn load(&self, stream: impl Read) -> Result<(), StoreError> {
        let store = &self.test.store;
        let loaded = store.load_stream(stream, "bad.tar", Some(&name("here:1")), None, &mut |_| {});
        loaded.map(drop)
    }

    /// The archive is refused, with an exit code that blames it, and nothing has changed.
    fn refuses(&self, stream: impl Read) -> String {
        let error = self.load(stream).unwrap_err();
        self.is_as_before();
        let code = error.exit_code();
        assert!(
            matches!(code, ExitCode::Input | ExitCode::Verification),
            "{code:?}: {error}"
        );
        error.to_string()
    }

    /// Taken for container images, which are not looked into, the archive is refused or harms nothing.
    fn bears_as_container_images(&self, bytes: &[u8]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.tar");
        fs::write(&path, bytes).unwrap();
        let store = &self.test.store;
        match store.take_container_images(&path) {
            Ok(images) => {
                for (_, target) in images.named {
                    // Whoever wants one of them is told what is wrong with it, or it is whole.
                    let image = store.archived_image(&target.digest, &crate::Platform::host());
                    for blob in image.ok().flatten().into_iter().flat_map(|image| image.blobs) {
                        assert_eq!(store.blobs().verify(&blob.digest, "blob").unwrap(), blob.size);
                    }
                }
            }
            Err(error) => {
                let code = error.exit_code();
                assert!(
                    matches!(code, ExitCode::Input | ExitCode::Verification),
                    "{code:?}: {error}"
                );
            }
        }
        // The build that asked for it does that, however it ends.
        store.sweep([]).unwrap();
        self.is_as_before();
    }

    fn is_as_before(&self) {
        let store = &self.test.store;
        assert_eq!(store.blobs().list().unwrap(), self.before);
        assert!(store.check().unwrap().damage.is_empty());
        assert!(store.image(&name("here:1")).is_ok());
        assert_eq!(left_overs(store), 0);
    }
}

fn left_overs(store: &Store) -> usize {
    fs::read_dir(store.tmp_dir()).map_or(0, Iterator::count)
}

#[test]
fn entries_that_trick_readers_are_refused() {
    let guarded = Guarded::new();
    let mut wrong_sum = file("index.json", b"{}");
    wrong_sum[148] ^= 1;
    let mut cut = file("index.json", b"{}");
    cut.truncate(513);
    let mut sparse_pax = entry("pax", b'x', b"22 GNU.sparse.major=1\n");
    sparse_pax.extend(file("index.json", b"{}"));
    let mut far_size = entry("pax", b'x', b"29 size=18446744073709551615\n");
    far_size.extend(file("index.json", b"{}"));
    let mut outside = entry("pax", b'x', b"19 path=../../etc\n\n");
    outside.extend(file("index.json", b"{}"));
    let mut two_names = entry("name", b'L', b"one\0");
    two_names.extend(entry("name", b'L', b"two\0"));
    let mut twice = file("index.json", b"{}");
    twice.extend(file("./index.json", b"[]"));
    let mut two_layers = file("layer.tar", b"one");
    two_layers.extend(file("layer.tar", b"two"));
    let mut unseen_magic = vec![0xfd];
    unseen_magic.extend(b"7zXZ\0");
    for (bytes, reason) in [
        (Vec::new(), "neither an OCI archive"),
        (b"no archive at all".repeat(64), "no tar archive"),
        (unseen_magic, "compressed with xz"),
        (wrong_sum, "no tar archive"),
        (cut, "ends inside an entry"),
        (file("../../etc/passwd", b"x"), "leads outside"),
        (file("/etc/passwd", b"x"), "leads outside"),
        (outside, "leads outside"),
        (link("layer.tar", b'2', "../../etc/shadow"), "leads outside"),
        (link("a/layer.tar", b'1', "../etc/shadow"), "leads outside"),
        (entry("index.json", b'S', b"{}"), "sparse"),
        (sparse_pax, "sparse"),
        (far_size, "the size of entry"),
        (
            header("blobs/sha256/x", b'0', MAX_TAR_LEN + 1),
            "the size of entry",
        ),
        (header("name", b'L', MAX_TAR_HEADER_LEN + 1), "a header is longer"),
        (header("pax", b'x', u64::MAX >> 8), "a header is longer"),
        (
            [entry("pax", b'x', b"99 path=x\n"), file("x", b"")].concat(),
            "does not add up",
        ),
        (two_names, "two headers of the same kind"),
        (twice, "index.json is in it twice"),
        (two_layers, "in it twice, with different content"),
        (entry("name", b'L', &[b'a'; 1025]), "neither an OCI archive"),
        (file("Metadata", b"{}"), "save file of sealer"),
    ] {
        let said = guarded.refuses(&bytes[..]);
        assert!(said.contains(reason), "{said} does not say {reason:?}");
        guarded.bears_as_container_images(&bytes);
    }
    let mut long = entry("name", b'L', &[b'a'; 1025]);
    long.extend(file("x", b""));
    let said = guarded.refuses(&long[..]);
    assert!(said.contains("longer than 1,024 bytes"), "{said}");
}

#[test]
fn images_that_contradict_themselves_are_refused() {
    let guarded = Guarded::new();
    let layer = b"no tar stream".as_slice();
    let layer_digest = Digest::of(layer);
    let config_one = config(&[layer_digest]);
    let said_config = descriptor(MEDIA_TYPE_CONFIG, &config_one);
    let said_layer = descriptor(MEDIA_TYPE_LAYER_ZSTD, layer);
    let whole = manifest(&said_config, std::slice::from_ref(&said_layer));
    let top = |bytes: &[u8]| file("index.json", &index(&[descriptor(MEDIA_TYPE_MANIFEST, bytes)]));
    let two_layers = manifest(&said_config, &[said_layer.clone(), said_layer.clone()]);
    let short = format!(r#"{{"mediaType":"{MEDIA_TYPE_LAYER_ZSTD}","digest":"{layer_digest}","size":3}}"#);
    let short = manifest(&said_config, &[short]);
    // As compact as it can be said, 100,000 layers of one blob are more than a manifest may have bytes.
    let many = vec![said_layer.clone(); 100_000];
    let many = manifest(&said_config, &many);
    let few = vec![said_layer; 200];
    let few = manifest(&said_config, &few);
    let config_few = config(&[layer_digest; 200]);
    let few = String::from_utf8(few)
        .unwrap()
        .replace(&said_config, &descriptor(MEDIA_TYPE_CONFIG, &config_few));
    // Indexes in indexes, as deep as an archive has room for.
    let mut nested = vec![(MEDIA_TYPE_MANIFEST, whole.clone())];
    for _ in 0..50 {
        let (media_type, inner) = nested.last().unwrap();
        let entry = descriptor(media_type, inner);
        nested.push((MEDIA_TYPE_INDEX, index(&[entry.clone(), entry])));
    }
    let (_, outermost) = nested.last().unwrap();
    let mut chain = file("index.json", &index(&[descriptor(MEDIA_TYPE_INDEX, outermost)]));
    nested.iter().for_each(|(_, bytes)| chain.extend(blob(bytes)));
    let long = format!(
        r#"{{"mediaType":"{MEDIA_TYPE_LAYER_ZSTD}","digest":"{layer_digest}","size":{}}}"#,
        layer.len() + 1
    );
    let long = manifest(&said_config, &[long]);
    // No index can have its own digest in it: whoever writes one that names itself has to lie about it.
    let lie = |names: &Digest| {
        let entry = format!(r#"{{"mediaType":"{MEDIA_TYPE_INDEX}","digest":"{names}","size":1}}"#);
        index(&[entry])
    };
    let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
    let itself = [file("index.json", &lie(&one)), file(&blob_path(&one), &lie(&one))].concat();
    let each_other = [
        file("index.json", &lie(&one)),
        file(&blob_path(&one), &lie(&other)),
        file(&blob_path(&other), &lie(&one)),
    ];
    let top_itself = file("index.json", &lie(&one));
    let docker = |layers: usize, diff_ids: usize| {
        let config = config(&vec![layer_digest; diff_ids]);
        let layers = vec!["\"l.tar\""; layers].join(",");
        let manifest = format!(r#"[{{"Config":"c.json","RepoTags":["x:1"],"Layers":[{layers}]}}]"#);
        [
            file("manifest.json", manifest.as_bytes()),
            file("c.json", &config),
            file("l.tar", layer),
        ]
        .concat()
    };
    let loop_of_links = [
        link("l.tar", b'2', "m.tar"),
        link("m.tar", b'2', "l.tar"),
        file("c.json", &config_one),
        file("manifest.json", br#"[{"Config":"c.json","Layers":["l.tar"]}]"#),
    ];
    let renamed = [
        file(&format!("{}.json", Digest::of(b"another").hex()), &config_one),
        file("l.tar", layer),
        file(
            "manifest.json",
            format!(
                r#"[{{"Config":"{}.json","Layers":["l.tar"]}}]"#,
                Digest::of(b"another").hex()
            )
            .as_bytes(),
        ),
    ];
    for (bytes, reason) in [
        // Cut exactly where an entry ends.
        (top(&whole), "is missing; nothing of it was kept, copy it again"),
        (
            [top(&whole), blob(&whole)].concat(),
            "is missing; nothing of it was kept, copy it again",
        ),
        (
            [top(&whole), blob(&whole), blob(&config_one)].concat(),
            "is missing; nothing of it was kept, copy it again",
        ),
        (
            [top(&whole), blob(&whole), blob(&config_one), blob(layer)].concat(),
            "layer",
        ),
        (
            [
                top(&two_layers),
                blob(&two_layers),
                blob(&config_one),
                blob(layer),
            ]
            .concat(),
            "2 layers, its config 1",
        ),
        (
            [top(&short), blob(&short), blob(&config_one), blob(layer)].concat(),
            "announced size of 3 bytes",
        ),
        (
            [top(&many), blob(&many), blob(&config_one), blob(layer)].concat(),
            "larger than",
        ),
        (
            [
                top(few.as_bytes()),
                blob(few.as_bytes()),
                blob(&config_few),
                blob(layer),
            ]
            .concat(),
            "200 layers, more than",
        ),
        (
            [top(&long), blob(&long), blob(&config_one), blob(layer)].concat(),
            "announced size of",
        ),
        (chain, "another index in it"),
        (itself, "does not match its digest"),
        (each_other.concat(), "does not match its digest"),
        (top_itself, "is missing"),
        (docker(1, 2), "1 layers, its config 2"),
        (docker(200, 200), "200 layers, more than"),
        (docker(100_000, 1), "100000 layers, its config 1"),
        (loop_of_links.concat(), "is missing"),
        (renamed.concat(), "does not match its digest"),
        (
            file(
                "manifest.json",
                format!("[{}]", vec!["{\"Config\":\"c\",\"Layers\":[]}"; 2000].join(",")).as_bytes(),
            ),
            "2000 images",
        ),
        (
            file(&blob_path(&Digest::of(b"a")), b"b"),
            "does not match its digest",
        ),
    ] {
        let said = guarded.refuses(&bytes[..]);
        assert!(said.contains(reason), "{said} does not say {reason:?}");
        guarded.bears_as_container_images(&bytes);
    }
}

/// The same bytes again and again.
struct Endless {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.bytes.len() - self.at);
        buffer[..len].copy_from_slice(&self.bytes[self.at..][..len]);
        self.at = (self.at + len) % self.bytes.len();
        Ok(len)
    }
}

#[test]
fn what_has_no_end_is_ended() {
    let guarded = Guarded::new();
    let endless = |bytes: Vec<u8>| Endless { bytes, at: 0 };
    let said = guarded.refuses(endless(file("VERSION", b"1.0")));
    assert!(
        said.contains(&format!("more than {MAX_ARCHIVE_ENTRIES} entries")),
        "{said}"
    );
    let said = guarded.refuses(endless(entry("pax", b'g', b"13 comment=x\n")));
    assert!(
        said.contains(&format!("more than {MAX_ARCHIVE_ENTRIES} entries")),
        "{said}"
    );
    // Zeros behind the end: a writer of a pipe is listened to for a while, not for ever.
    let said = guarded.refuses(file("readme", b"").chain(io::repeat(0)));
    assert!(said.contains("neither an OCI archive"), "{said}");
    // A few bytes that decompress to more than anybody has.
    let zeros = zstd::encode_all(io::repeat(b'x').take(6 << 20), 1).unwrap();
    let document = header("index.json", b'0', 6 << 20);
    let bomb = [zstd::encode_all(&document[..], 1).unwrap(), zeros].concat();
    let said = guarded.refuses(&bomb[..]);
    assert!(said.contains("larger than"), "{said}");
}

#[test]
fn a_folder_with_a_pipe_in_it_does_not_hang() {
    let (guarded, dir) = (Guarded::new(), tempfile::tempdir().unwrap());
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("index.json"), 0o644.into()).unwrap();
    fs::write(dir.path().join("oci-layout"), "{}").unwrap();
    let error = guarded
        .test
        .store
        .load(dir.path(), None, &mut |_| {})
        .unwrap_err();
    assert!(error.to_string().contains("no regular file"), "{error}");
    guarded.is_as_before();
}

/// One image in every form.
static WHOLE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let (here, dir) = (testing::store(), tempfile::tempdir().unwrap());
    image(&here.store, "demo:1", "content");
    let oci = fs::read(saved(&here.store, &["demo:1"], dir.path())).unwrap();
    let mut docker = Vec::new();
    here.store
        .save_docker(&[name("demo:1")], None, &mut docker, &mut |_| {})
        .unwrap();
    vec![zstd::encode_all(&oci[..], 1).unwrap(), oci, docker]
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damage_is_named_or_did_not_matter(
        which in 0_usize..3,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = WHOLE[which].clone();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= byte | 1;
        }
        let test = testing::store();
        image(&test.store, "here:1", "was here before");
        let before = test.store.blobs().list().unwrap();
        match test.store.load_stream(&bytes[..], "bad.tar", None, None, &mut |_| {}) {
            Ok(loaded) => prop_assert!(!loaded.is_empty()),
            Err(error) => {
                let code = error.exit_code();
                prop_assert!(matches!(code, ExitCode::Input | ExitCode::Verification), "{:?}: {}", code, error);
                prop_assert_eq!(test.store.blobs().list().unwrap(), before);
            }
        }
        prop_assert!(test.store.check().unwrap().damage.is_empty());
    }
}
