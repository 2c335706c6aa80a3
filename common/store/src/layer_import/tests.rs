//! Layers of others: what an extractor that keeps inside the layer would make of them, and what is refused.

use std::io::{Read as _, Write as _};

use gantry_model::Digest;
use proptest::prelude::*;

use crate::testing::{self, TestStore, look, noise};
use crate::{ChunkSource, EntryKind, LayerError, layer_from_tar};

/// A tar stream in the making, with any name in it.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(mut self, name: &str, kind: tar::EntryType, mode: u32, link: &str, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        let bytes = header.as_mut_bytes();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_600_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn dir(self, name: &str) -> Self {
        self.add(name, tar::EntryType::Directory, 0o755, "", b"")
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.add(name, tar::EntryType::Regular, 0o644, "", content.as_ref())
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.add(name, tar::EntryType::Symlink, 0o777, target, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.add(name, tar::EntryType::Link, 0o644, target, b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// What the tree in a tar stream looks like when it is unpacked.
fn unpacked(tar: &[u8]) -> (TestStore, std::collections::BTreeMap<String, String>) {
    let here = testing::store();
    let layer = layer_from_tar(&here.store, tar).unwrap();
    assert_eq!(layer.diff_id, Digest::of(tar), "the stream is kept byte for byte");
    here.store.unpack_layer(&layer).unwrap();
    assert_eq!(here.store.check_layer(&layer.digest).unwrap(), []);
    let seen = look(&here.store.layer_dir(&layer.digest));
    (here, seen)
}

fn refused(tar: &[u8], words: &[&str]) {
    let here = testing::store();
    let error = layer_from_tar(&here.store, tar).unwrap_err();
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert_eq!(here.store.blobs().list().unwrap(), [], "nothing is left");
}

#[test]
fn every_compression_gives_the_same_layer() {
    let tar = Tar::new()
        .dir("etc/")
        .file("etc/big", noise(4, 3 << 20))
        .file("etc/small", "x")
        .bytes();
    let here = testing::store();
    let plain = layer_from_tar(&here.store, &tar[..]).unwrap();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let several_members = [gzip(&tar[..1000]), gzip(&tar[1000..])].concat();
    let several_frames = [
        zstd::encode_all(&tar[..1000], 1).unwrap(),
        zstd::encode_all(&tar[1000..], 1).unwrap(),
    ]
    .concat();
    for compressed in [gzip(&tar), several_members, several_frames] {
        assert_eq!(layer_from_tar(&here.store, &compressed[..]).unwrap(), plain);
    }
    // Ours, read as any zstd layer.
    let blob = std::fs::File::open(here.store.blobs().path(&plain.digest)).unwrap();
    assert_eq!(layer_from_tar(&here.store, blob).unwrap(), plain);
}

#[test]
fn a_layer_of_a_merged_usr_unpacks() {
    let tar = Tar::new()
        .dir("usr/")
        .dir("usr/bin/")
        .symlink("bin", "usr/bin")
        .file("bin/sh", "shell")
        .symlink("lib", "/usr/lib")
        .file("lib/libc.so", "library")
        .hard_link("usr/bin/dash", "/bin/sh")
        .bytes();
    let (_here, seen) = unpacked(&tar);
    assert_eq!(seen["bin"], "link to usr/bin");
    assert_eq!(seen["lib"], "link to /usr/lib");
    assert!(seen["usr/lib/libc.so"].starts_with("file 0644 7"), "{seen:?}");
    assert!(seen["usr/bin/sh"].contains("same as usr/bin/dash"), "{seen:?}");
}

#[test]
fn later_members_replace_earlier_ones() {
    let tar = Tar::new()
        .dir("a/")
        .file("a/x", "first")
        .hard_link("y", "a/x")
        .file("a/x", "second, longer")
        .dir("d/")
        .file("d/below", "gone")
        .file("d", "a file now")
        .file("f", "a folder next")
        .dir("f/")
        .bytes();
    let (_here, seen) = unpacked(&tar);
    assert!(seen["a/x"].starts_with("file 0644 14"), "{seen:?}");
    assert!(
        seen["y"].starts_with("file 0644 5"),
        "the link keeps the first content: {seen:?}"
    );
    assert!(
        seen["d"].starts_with("file 0644 10") && !seen.contains_key("d/below"),
        "{seen:?}"
    );
    assert_eq!(seen["f"], "folder 0755");
}

#[test]
fn whiteouts_are_kept_and_do_not_hide_what_the_layer_brings() {
    let tar = Tar::new()
        .dir("etc/")
        .file("etc/.wh.gone", "")
        .dir("opt/")
        .file("opt/.wh..wh..opq", "")
        .file("opt/new", "new")
        .file(".wh.var", "")
        .dir("var/")
        .file("var/here", "here")
        .file("here", "x")
        .file(".wh.here", "")
        .dir(".wh..wh.plnk/")
        .file(".wh..wh.plnk/1", "aufs")
        .bytes();
    let here = testing::store();
    let layer = layer_from_tar(&here.store, &tar[..]).unwrap();
    let toc = ChunkSource::open(&here.store, &layer.digest)
        .unwrap()
        .toc()
        .clone();
    assert_eq!(toc.entry("etc/gone").unwrap().kind, EntryKind::Whiteout);
    let opaque = EntryKind::Directory { opaque: true };
    assert_eq!(toc.entry("opt").unwrap().kind, opaque);
    assert_eq!(toc.entry("var").unwrap().kind, opaque, "hidden, then made anew");
    assert!(matches!(toc.entry("here").unwrap().kind, EntryKind::File { .. }));
    assert!(toc.entries().iter().all(|entry| !entry.path.contains("plnk")));
}

#[test]
fn pax_and_gnu_headers_are_understood() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let tar = Tar::new()
        .pax(&[
            ("path", long.as_bytes()),
            ("mtime", b"1600000000.25"),
            ("uid", b"7"),
            ("SCHILY.xattr.user.note", b"a\nb"),
        ])
        .file("short", "content")
        .bytes();
    let here = testing::store();
    let layer = layer_from_tar(&here.store, &tar[..]).unwrap();
    let toc = ChunkSource::open(&here.store, &layer.digest)
        .unwrap()
        .toc()
        .clone();
    let entry = toc.entry(&long).unwrap();
    assert_eq!(
        (entry.uid, entry.mtime.seconds, entry.mtime.nanoseconds),
        (7, 1_600_000_000, 250_000_000)
    );
    assert_eq!(entry.xattrs, [("user.note".to_owned(), b"a\nb".to_vec())]);
    let mut gnu = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_mode(0o777);
    gnu.append_link(&mut header, &long, "t".repeat(200)).unwrap();
    let (_here, seen) = unpacked(&gnu.into_inner().unwrap());
    assert_eq!(seen[&long], format!("link to {}", "t".repeat(200)));
}

#[test]
fn a_root_that_umoci_wrote_is_the_root() {
    let tar = Tar::new().dir("/").dir("a/").file("a/b", "content").bytes();
    let (_here, seen) = unpacked(&tar);
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["a", "a/b"]);
}

#[test]
fn what_leads_out_of_the_layer_is_refused() {
    refused(&Tar::new().file("../escape", "x").bytes(), &["../escape", ".."]);
    refused(&Tar::new().file("a/../../escape", "x").bytes(), &[".."]);
    refused(
        &Tar::new().file("/etc/passwd", "x").bytes(),
        &["/etc/passwd", "absolute"],
    );
    refused(
        &Tar::new()
            .symlink("out", "../../etc")
            .file("out/passwd", "x")
            .bytes(),
        &["out/passwd", "leads out"],
    );
    refused(
        &Tar::new().hard_link("link", "../../etc/passwd").bytes(),
        &["link", ".."],
    );
    refused(
        &Tar::new().hard_link("link", "/etc/shadow").bytes(),
        &["link", "no file before it"],
    );
    refused(
        &Tar::new()
            .symlink("a", "b")
            .symlink("b", "a")
            .file("a/x", "x")
            .bytes(),
        &["too many symbolic links"],
    );
    refused(
        &Tar::new().file("a", "x").file("a/b", "x").bytes(),
        &["a/b", "no folder"],
    );
    let long = "x/".repeat(2500) + "y";
    let tar = Tar::new()
        .pax(&[("path", long.as_bytes())])
        .file("short", "x")
        .bytes();
    refused(&tar, &["5001 bytes"]);
    // As data, a symbolic link may say anything.
    let (_here, seen) = unpacked(&Tar::new().symlink("out", "../../../etc/passwd").bytes());
    assert_eq!(seen["out"], "link to ../../../etc/passwd");
}

#[test]
fn devices_fifos_and_sparse_members_are_refused_and_setuid_is_kept() {
    for (kind, word) in [
        (tar::EntryType::Char, "device"),
        (tar::EntryType::Block, "device"),
        (tar::EntryType::Fifo, "FIFO"),
        (tar::EntryType::GNUSparse, "sparse"),
        (tar::EntryType::new(b'Z'), "type"),
    ] {
        refused(
            &Tar::new().add("dev/thing", kind, 0o644, "", b"").bytes(),
            &["dev/thing", word],
        );
    }
    let tar = Tar::new()
        .pax(&[("GNU.sparse.major", b"1")])
        .file("sparse", "x")
        .bytes();
    refused(&tar, &["sparse"]);
    let (_here, seen) = unpacked(
        &Tar::new()
            .add("su", tar::EntryType::Regular, 0o6755, "", b"x")
            .bytes(),
    );
    assert!(seen["su"].starts_with("file 6755"), "{seen:?}");
}

#[test]
fn damaged_streams_are_refused_with_a_reason() {
    let good = Tar::new().file("a", noise(1, 5000)).file("b", "x").bytes();
    refused(&good[..3000], &["ends inside \"a\""]);
    refused(&good[..100], &["ends inside a header"]);
    let mut flipped = good.clone();
    flipped[3] ^= 1;
    refused(&flipped, &["checksum"]);
    let mut trailing = good.clone();
    trailing.extend(b"something else");
    refused(&trailing, &["behind its end"]);
    refused(
        &Tar::new()
            .pax(&[("size", b"99999999999999999999")])
            .file("a", "x")
            .bytes(),
        &["size"],
    );
    refused(
        &Tar::new()
            .add("d/", tar::EntryType::Directory, 0o755, "", b"content")
            .bytes(),
        &["has content"],
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&good).unwrap();
    let gzip = gzip.finish().unwrap();
    refused(&gzip[..gzip.len() / 2], &["damaged"]);
    refused(b"BZh91AY&SY", &["bzip2"]);
    let here = testing::store();
    assert!(matches!(
        layer_from_tar(&here.store, &b"\0"[..]),
        Ok(_) | Err(LayerError::Tar { .. })
    ));
}

#[test]
fn huge_headers_are_refused_before_they_are_read() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let endless = header.as_bytes().chain(std::io::repeat(b'x'));
    let here = testing::store();
    let error = layer_from_tar(&here.store, endless).unwrap_err();
    assert!(error.to_string().contains("1099511627776 bytes"), "{error}");
}

#[test]
fn mutated_streams_never_do_more_than_fail() {
    let good = Tar::new()
        .dir("a/")
        .file("a/file", noise(2, 3000))
        .symlink("s", "a")
        .hard_link("h", "a/file")
        .pax(&[("path", b"a/long"), ("SCHILY.xattr.user.x", b"1")])
        .file("p", "content")
        .file(".wh.gone", "")
        .bytes();
    let seed = 0x6761_6e74_7279_u64;
    println!("seed {seed:#x}");
    let dice = noise(seed, 1 << 16);
    let mut dice = dice
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes) as usize);
    let here = testing::store();
    for round in 0..200 {
        let mut tar = good.clone();
        for _ in 0..1 + dice.next().unwrap() % 4 {
            let at = dice.next().unwrap() % tar.len();
            tar[at] = dice.next().unwrap() as u8;
        }
        // Without this nearly every mutation ends at the checksum.
        for block in tar.as_chunks_mut::<512>().0 {
            if block[257..262] == *b"ustar" {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        if let Ok(layer) = layer_from_tar(&here.store, &tar[..]) {
            here.store
                .unpack_layer(&layer)
                .unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert_eq!(
                here.store.check_layer(&layer.digest).unwrap(),
                [],
                "round {round}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn damage_of_a_tar_stream_is_named_or_stays_inside(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        sums in any::<bool>(),
    ) {
        let mut bytes = Tar::new()
            .dir("etc/")
            .file("etc/small", "x")
            .symlink("etc/link", "small")
            .pax(&[("path", b"etc/a long name"), ("SCHILY.xattr.user.a", b"value")])
            .file("etc/short", noise(3, 1000))
            .hard_link("etc/hard", "etc/small")
            .file("etc/.wh.old", "")
            .bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if sums {
            // A checksum keeps nobody out: who changes a header changes it, too.
            for block in bytes.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let here = testing::store();
        match layer_from_tar(&here.store, &bytes[..]) {
            Err(_) => prop_assert_eq!(here.store.blobs().list().unwrap(), []),
            Ok(layer) => {
                here.store.unpack_layer(&layer).unwrap();
                prop_assert_eq!(here.store.check_layer(&layer.digest).unwrap(), []);
            }
        }
    }
}
