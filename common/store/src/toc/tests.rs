//! Tables of contents that are sound, and every way they can lie.

use gantry_model::{Digest, TocLocation};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{EntryKind, Toc, TocError};
use crate::testing::noise;

/// Content ends here in the blobs of these tests.
const CONTENT_END: u64 = 10_000_000;

fn compressed(json: &[u8]) -> (Vec<u8>, TocLocation) {
    let bytes = zstd::bulk::compress(json, 1).unwrap();
    let location = TocLocation {
        offset: CONTENT_END,
        compressed_len: bytes.len() as u64,
        len: json.len() as u64,
        digest: Digest::of(&bytes),
    };
    (bytes, location)
}

fn parse(entries: &Value) -> Result<Toc, TocError> {
    let json = json!({ "version": 1, "entries": entries }).to_string();
    let (bytes, location) = compressed(json.as_bytes());
    Toc::parse(&bytes, &location)
}

#[track_caller]
fn refused(entries: &Value, words: &[&str]) {
    let text = parse(entries).unwrap_err().to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

fn digest(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

fn file(name: &str, offset: u64) -> Value {
    json!({ "type": "reg", "name": name, "mode": 0o644, "size": 3, "digest": digest("abc"), "offset": offset, "endOffset": offset + 12 })
}

/// A file of a chunk of data, a hole, and a chunk of data.
fn chunked(name: &str) -> Vec<Value> {
    vec![
        json!({ "type": "reg", "name": name, "size": 300_000, "digest": digest("all"), "offset": 100, "endOffset": 400, "chunkSize": 100_000, "chunkDigest": digest("1") }),
        json!({ "type": "chunk", "name": name, "offset": 200, "chunkOffset": 100_000, "chunkSize": 100_000, "chunkDigest": digest("2"), "chunkType": "zeros" }),
        json!({ "type": "chunk", "name": name, "offset": 300, "chunkOffset": 200_000, "chunkSize": 100_000, "chunkDigest": digest("3") }),
    ]
}

#[test]
fn a_table_as_others_write_it_is_read() {
    let mut entries = vec![
        json!({ "type": "dir", "name": "./usr/", "mode": 0o40755, "modtime": "2026-11-23T10:00:00.5Z", "devMajor": 0 }),
        json!({ "type": "symlink", "name": "bin", "linkName": "usr/bin", "mode": 0o777 }),
        json!({ "type": "hardlink", "name": "usr/link", "linkName": "/usr/file" }),
        json!({ "type": "reg", "name": "opt/.wh.old" }),
        json!({ "type": "reg", "name": "opt/.wh..wh..opq" }),
        json!({ "type": "reg", "name": "usr/file", "mode": 0o104755, "size": 3, "uid": 7, "digest": digest("abc"), "offset": 50, "endOffset": 62,
                "xattrs": { "user.a": "YQ==", "security.selinux": "YQ==", "security.capability": "AQ==" }, "unknown": [1, 2] }),
        json!({ "type": "reg", "name": "empty", "accesstime": "0001-01-01T00:00:00Z", "modtime": "0001-01-01T00:00:00Z" }),
    ];
    entries.extend(chunked("big"));
    let toc = parse(&Value::Array(entries)).unwrap();
    let usr = toc.entry("usr").unwrap();
    assert_eq!((usr.mode, usr.mtime.nanoseconds), (0o755, 500_000_000));
    let file = toc.entry("usr/file").unwrap();
    assert_eq!((file.mode, file.uid), (0o4755, 7), "setuid is kept");
    assert_eq!(
        file.xattrs,
        [
            ("security.capability".into(), vec![1]),
            ("user.a".into(), b"a".to_vec())
        ]
    );
    let EntryKind::HardLink { target } = toc.entry("usr/link").unwrap().kind else {
        panic!()
    };
    assert_eq!(toc.entries()[target as usize].path, "usr/file");
    assert_eq!(toc.entry("opt/old").unwrap().kind, EntryKind::Whiteout);
    assert_eq!(
        toc.entry("opt").unwrap().kind,
        EntryKind::Directory { opaque: true }
    );
    assert_eq!(toc.content_len(), 300_003);
    let chunks: Vec<_> = toc
        .chunks()
        .iter()
        .map(|chunk| (chunk.blob_offset, chunk.compressed_len, chunk.zeros))
        .collect();
    assert_eq!(
        chunks,
        [
            (50, 12, false),
            (100, 100, false),
            (200, 100, true),
            (300, 100, false)
        ]
    );
    assert_eq!(toc.compressed_len(), 212);
    assert!(toc.by_path().map(|entry| &entry.path).is_sorted());
}

#[test]
fn the_digest_is_looked_at_before_anything_else() {
    let (bytes, location) = compressed(b"no JSON at all");
    let other = TocLocation {
        digest: Digest::of(b"other"),
        ..location.clone()
    };
    assert!(matches!(
        Toc::parse(&bytes, &other),
        Err(TocError::WrongDigest { .. })
    ));
    assert!(
        Toc::parse(&bytes, &location)
            .unwrap_err()
            .to_string()
            .contains("JSON")
    );
}

#[test]
fn lengths_that_lie_and_bombs_are_refused() {
    let (bytes, location) = compressed(br#"{"version":1,"entries":[]}"#);
    Toc::parse(&bytes, &location).unwrap();
    for (len, compressed_len) in [
        (25, location.compressed_len),
        (27, location.compressed_len),
        (26, 5),
    ] {
        let lying = TocLocation {
            len,
            compressed_len,
            ..location.clone()
        };
        assert!(
            matches!(Toc::parse(&bytes, &lying), Err(TocError::Malformed { .. })),
            "{len} {compressed_len}"
        );
    }
    let huge = TocLocation {
        len: 1 << 40,
        ..location
    };
    assert!(
        Toc::parse(&bytes, &huge)
            .unwrap_err()
            .to_string()
            .contains("at most")
    );
    // 200 MB in a few KB, announced as 1,000 bytes.
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(b' '), 200 << 20), 1).unwrap();
    let announced = TocLocation {
        offset: CONTENT_END,
        compressed_len: bomb.len() as u64,
        len: 1000,
        digest: Digest::of(&bomb),
    };
    assert!(
        Toc::parse(&bomb, &announced)
            .unwrap_err()
            .to_string()
            .contains("1000 bytes")
    );
}

#[test]
fn documents_of_another_shape_are_refused() {
    for json in [
        "[]",
        "{}",
        r#"{"version":2,"entries":[]}"#,
        r#"{"entries":[]}"#,
        r#"{"version":1}"#,
        r#"{"version":1,"entries":[],"entries":[]}"#,
        r#"{"version":1,"entries":{}}"#,
        r#"{"version":1,"entries":[{"name":"a"}]}"#,
        r#"{"version":1,"entries":[{"type":"dir","name":"a","name":"b"}]}"#,
        r#"{"version":1,"entries":[]} more"#,
    ] {
        let (bytes, location) = compressed(json.as_bytes());
        assert!(Toc::parse(&bytes, &location).is_err(), "{json}");
    }
    let deep = format!(
        r#"{{"version":1,"x":{}1{},"entries":[]}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let (bytes, location) = compressed(deep.as_bytes());
    // Unknown fields are passed over without recursion.
    Toc::parse(&bytes, &location).unwrap();
    let deep = format!(
        r#"{{"version":1,"entries":{}1{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let (bytes, location) = compressed(deep.as_bytes());
    assert!(Toc::parse(&bytes, &location).is_err());
}

#[test]
fn paths_that_lead_out_are_refused_by_name() {
    let dir = |name: &str| json!([{ "type": "dir", "name": name }]);
    refused(&dir("../etc"), &["../etc", ".."]);
    refused(&dir("a/../../b"), &[".."]);
    refused(&dir("/etc"), &["absolute"]);
    refused(&dir("a\0b"), &["NUL"]);
    refused(&dir(&"x/".repeat(2500)), &["5000 bytes"]);
    refused(&dir(&"n".repeat(256)), &["256 bytes"]);
    refused(&dir("a//b"), &["empty part"]);
    refused(
        &json!([file("a", 50), { "type": "dir", "name": "a/b" }]),
        &["a/b", "no folder"],
    );
    refused(
        &json!([{ "type": "symlink", "name": "s", "linkName": "/etc" }, file("s/passwd", 50)]),
        &["s/passwd", "no folder"],
    );
    refused(
        &json!([file("s/x", 50), { "type": "symlink", "name": "s", "linkName": "/etc" }]),
        &["s/x", "no folder"],
    );
    refused(&json!([file("a", 50), file("./a", 90)]), &["twice"]);
    refused(
        &json!([file("a", 50), { "type": "reg", "name": ".wh.a" }]),
        &["twice"],
    );
    refused(&json!([file("", 50)]), &["root"]);
}

#[test]
fn things_layers_may_not_have_are_refused_by_name() {
    let entry = |kind: &str| json!([{ "type": kind, "name": "dev/thing", "devMajor": 8 }]);
    refused(&entry("block"), &["dev/thing", "device node"]);
    refused(&entry("char"), &["dev/thing", "device node"]);
    refused(&entry("fifo"), &["dev/thing", "FIFO"]);
    refused(&entry("socket"), &["dev/thing", "type"]);
    refused(&entry("chunk"), &["dev/thing", "chunk"]);
    refused(&json!([{ "type": "reg", "name": ".wh..wh.plnk" }]), &["reserved"]);
    refused(&json!([{ "type": "dir", "name": ".wh.a" }]), &["whiteout"]);
    refused(&json!([{ "type": "symlink", "name": "s" }]), &["target"]);
    refused(
        &json!([{ "type": "symlink", "name": "s", "linkName": "x".repeat(4096) }]),
        &["target"],
    );
    refused(&json!([{ "type": "dir", "name": "d", "uid": -1 }]), &["owner"]);
    refused(
        &json!([{ "type": "dir", "name": "d", "gid": u32::MAX }]),
        &["group"],
    );
    refused(&json!([{ "type": "dir", "name": "d", "mode": -1 }]), &["mode"]);
    refused(
        &json!([{ "type": "dir", "name": "d", "modtime": "yesterday" }]),
        &["time"],
    );
    refused(
        &json!([{ "type": "dir", "name": "d", "xattrs": { "user.a": "!" } }]),
        &["base64"],
    );
    let many: serde_json::Map<_, _> = (0..65).map(|n| (format!("user.{n}"), json!(""))).collect();
    refused(
        &json!([{ "type": "dir", "name": "d", "xattrs": many }]),
        &["extended attributes"],
    );
}

#[test]
fn hard_links_lead_to_files_of_the_layer_only() {
    let link = |name: &str, target: &str| json!({ "type": "hardlink", "name": name, "linkName": target });
    refused(&json!([link("a", "../../etc/passwd")]), &["a", ".."]);
    refused(&json!([link("a", "etc/passwd")]), &["no regular file"]);
    refused(&json!([link("a", "b"), link("b", "a")]), &["no regular file"]);
    refused(&json!([link("a", "a")]), &["no regular file"]);
    refused(
        &json!([{ "type": "dir", "name": "d" }, link("a", "d")]),
        &["no regular file"],
    );
    refused(
        &json!([{ "type": "symlink", "name": "s", "linkName": "f" }, file("f", 50), link("a", "s")]),
        &["no regular"],
    );
    let toc = parse(&json!([link("a", "b"), link("b", "f"), file("f", 50)])).unwrap();
    assert_eq!(toc.entry("a").unwrap().kind, toc.entry("b").unwrap().kind);
}

#[test]
fn chunks_that_do_not_add_up_are_refused() {
    let changed = |at: usize, key: &str, value: Value| {
        let mut entries = chunked("big");
        entries[at][key] = value;
        Value::Array(entries)
    };
    parse(&Value::Array(chunked("big"))).unwrap();
    refused(&changed(0, "size", json!(300_001)), &["big", "in all"]);
    refused(&changed(0, "size", json!(-1)), &["size"]);
    refused(&changed(0, "size", json!(1_u64 << 50)), &["size"]);
    refused(&changed(0, "chunkSize", json!(0)), &["big", "chunk 0"]);
    refused(&changed(0, "chunkSize", json!(-5)), &["chunk 0"]);
    refused(&changed(1, "chunkSize", json!(200_001)), &["chunk 1"]);
    refused(
        &changed(1, "chunkOffset", json!(50)),
        &["chunk 1", "starts at 50"],
    );
    refused(&changed(1, "chunkType", json!("rolling")), &["chunk type"]);
    refused(&changed(2, "chunkDigest", json!("")), &["no digest"]);
    refused(&changed(2, "chunkDigest", json!("md5:00")), &["digest"]);
    refused(&changed(2, "io.gantry.blake3", json!("af13")), &["digest"]);
    refused(&changed(0, "digest", json!("")), &["digest"]);
    refused(&changed(1, "offset", json!(90)), &["chunk 0", "blob"]);
    refused(&changed(2, "offset", json!(5_000)), &["blob"]);
    refused(&changed(0, "offset", json!(-1)), &["blob"]);
    refused(
        &changed(0, "endOffset", json!(CONTENT_END + 1)),
        &["ends at byte"],
    );
    refused(&changed(0, "endOffset", json!(i64::MIN)), &["big"]);
    refused(
        &changed(2, "endOffset", json!(1_000_000)),
        &["ends after the file"],
    );
    refused(&changed(2, "name", json!("other")), &["another file"]);
    let large = json!([{ "type": "reg", "name": "f", "size": (1 << 20) + 1, "digest": digest("x"), "offset": 1, "endOffset": 9 }]);
    refused(&large, &["at most 1048576"]);
    let mismatch = json!([{ "type": "reg", "name": "f", "size": 3, "digest": digest("x"), "chunkDigest": digest("y"), "offset": 1, "endOffset": 9 }]);
    refused(&mismatch, &["another digest"]);
}

#[test]
fn no_byte_of_the_blob_belongs_to_two_files() {
    refused(&json!([file("a", 50), file("b", 55)]), &["b", "overlap", "a"]);
    refused(
        &json!([file("a", 100), file("b", 50), file("c", 61)]),
        &["overlap"],
    );
    parse(&json!([file("a", 100), file("b", 50)])).unwrap();
}

#[test]
fn totals_are_bounded() {
    let hole = |name: usize| {
        json!({ "type": "reg", "name": format!("f{name}"), "size": 1_u64 << 39, "digest": digest("x"),
                "offset": name * 10 + 1, "endOffset": name * 10 + 9, "chunkType": "zeros" })
    };
    parse(&json!([hole(0), hole(1)])).unwrap();
    refused(&json!([hole(0), hole(1), hole(2)]), &["content"]);
}

#[test]
fn mutated_tables_never_do_more_than_fail() {
    let mut entries = vec![
        json!({ "type": "dir", "name": "usr/", "mode": 0o755 }),
        json!({ "type": "symlink", "name": "bin", "linkName": "usr/bin" }),
        json!({ "type": "hardlink", "name": "usr/link", "linkName": "usr/file" }),
        json!({ "type": "reg", "name": ".wh.old" }),
        file("usr/file", 50),
    ];
    entries.extend(chunked("big"));
    let good = json!({ "version": 1, "entries": entries })
        .to_string()
        .into_bytes();
    let seed = 0x746f_635f_u64;
    println!("seed {seed:#x}");
    let dice = noise(seed, 1 << 18);
    let mut dice = dice
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes) as usize);
    // Digits and punctuation: what changes meaning rather than only breaking JSON.
    let alphabet = b"0123456789-./\"{}[],:aez\0";
    let mut sound = 0;
    for _ in 0..4_000 {
        let mut json = good.clone();
        for _ in 0..1 + dice.next().unwrap() % 3 {
            let at = dice.next().unwrap() % json.len();
            json[at] = alphabet[dice.next().unwrap() % alphabet.len()];
        }
        let (bytes, location) = compressed(&json);
        if let Ok(toc) = Toc::parse(&bytes, &location) {
            sound += 1;
            for entry in toc.entries() {
                assert!(!entry.path.starts_with('/') && entry.path.split('/').all(|part| part != ".."));
            }
            for chunk in toc.chunks() {
                assert!(chunk.blob_offset + u64::from(chunk.compressed_len) <= CONTENT_END);
                assert!(chunk.zeros || chunk.len <= 1 << 20);
            }
        }
    }
    assert!(
        sound > 100,
        "the mutations reach the checks behind the JSON: {sound}"
    );
}

proptest! {
    #[test]
    fn any_sound_table_is_read_and_no_damage_leads_outside(
        names in prop::collection::btree_set("[a-z]{1,8}(/[a-z]{1,8}){0,3}", 1..20),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        // Behind another letter nothing is a folder here and a file there.
        let names: Vec<String> = names.iter().map(|name| format!("{}/f", name.replace('/', "/d"))).collect();
        let entries: Vec<Value> = names
            .iter()
            .enumerate()
            .map(|(index, name)| file(name, 100 * (index as u64 + 1)))
            .collect();
        let mut json = json!({ "version": 1, "entries": entries }).to_string().into_bytes();
        let (bytes, location) = compressed(&json);
        let toc = Toc::parse(&bytes, &location).unwrap();
        for name in &names {
            prop_assert!(matches!(toc.entry(name).unwrap().kind, EntryKind::File { size: 3, .. }), "{}", name);
        }
        for (at, byte) in changes {
            let at = at.index(json.len());
            json[at] = byte;
        }
        // Whoever damages a table can make its digest fit.
        let (bytes, location) = compressed(&json);
        if let Ok(toc) = Toc::parse(&bytes, &location) {
            for entry in toc.entries() {
                let is_plain = |part: &str| !matches!(part, "" | "." | "..");
                prop_assert!(entry.path.split('/').all(is_plain) || entry.path.is_empty(), "{:?}", entry);
            }
            for chunk in toc.chunks().iter().filter(|chunk| !chunk.zeros) {
                let end = chunk.blob_offset.checked_add(chunk.compressed_len.into());
                prop_assert!(end.is_some_and(|end| end <= CONTENT_END), "{:?}", chunk);
            }
        }
        // With the digest that it had, it is not even read.
        let (mut bytes, location) = compressed(&json);
        bytes[0] ^= 1;
        prop_assert!(Toc::parse(&bytes, &location).is_err());
    }
}
