//! Layers as others see them: the blob is a zstd stream of a tar stream, the same for the same tree.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;

use gantry_model::Digest;

use crate::testing::{self, layer_of, noise, sample_tree, write};
use crate::{ChunkSource, EntryKind, LayerError, LayerOptions, LayerWriter, Metadata, layer_from_tree};

/// The tar stream in a blob, by a decoder that knows nothing of chunks.
fn tar_of(store: &crate::Store, blob: &Digest) -> Vec<u8> {
    zstd::stream::decode_all(fs::File::open(store.blobs().path(blob)).unwrap()).unwrap()
}

#[test]
fn any_reader_of_zstd_and_tar_sees_the_same_tree() {
    let there = testing::store();
    let tree = tempfile::tempdir().unwrap();
    sample_tree(tree.path());
    let layer = layer_of(&there.store, tree.path());
    let tar = tar_of(&there.store, &layer.digest);
    assert_eq!(Digest::of(&tar), layer.diff_id);
    let blob = fs::read(there.store.blobs().path(&layer.digest)).unwrap();
    assert_eq!((Digest::of(&blob), blob.len() as u64), (layer.digest, layer.size));
    let mut seen = BTreeMap::new();
    for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let header = entry.header().clone();
        assert_eq!(
            (
                header.uid().unwrap(),
                header.gid().unwrap(),
                header.mtime().unwrap()
            ),
            (0, 0, 0),
            "{path}"
        );
        let link = entry
            .link_name_bytes()
            .map(|link| String::from_utf8(link.into_owned()).unwrap());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        seen.insert(path, (header.entry_type(), header.mode().unwrap(), link, content));
    }
    let on_disk = |path: &str| fs::read(tree.path().join(path)).unwrap();
    assert_eq!(
        seen["bin/kubelet"],
        (tar::EntryType::Regular, 0o755, None, on_disk("bin/kubelet"))
    );
    assert_eq!(seen["bin/sudo"].1, 0o4755);
    assert_eq!(seen["etc/private/"].1, 0o1700);
    assert_eq!(seen["bin/zz-kubelet"].0, tar::EntryType::Link);
    assert_eq!(seen["bin/zz-kubelet"].2.as_deref(), Some("bin/kubelet"));
    assert_eq!(seen["absolute"].2.as_deref(), Some("/etc/absolute"));
    assert_eq!(
        seen["images.db"].3,
        on_disk("images.db"),
        "holes are real zeros to others"
    );
    assert_eq!(seen["etc/empty"].3, b"");
}

#[test]
fn the_same_tree_gives_the_same_layer_whoever_made_it_and_whenever() {
    let (a, b) = (testing::store(), testing::store());
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sample_tree(first.path());
    sample_tree(second.path());
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::open(second.path().join("etc/empty"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    assert_eq!(
        layer_of(&a.store, first.path()),
        layer_of(&b.store, second.path())
    );
    let later = LayerOptions {
        mtime: 7,
        ..LayerOptions::default()
    };
    let dated = layer_from_tree(&a.store, first.path(), &later).unwrap();
    assert_ne!(dated.diff_id, layer_of(&a.store, first.path()).diff_id);
}

#[test]
fn every_chunk_is_a_frame_of_its_own_and_holes_are_marked() {
    let there = testing::store();
    let tree = tempfile::tempdir().unwrap();
    sample_tree(tree.path());
    write(tree.path(), "zeros", vec![0; 100_000], 0o644);
    let layer = layer_of(&there.store, tree.path());
    let source = ChunkSource::open(&there.store, &layer.digest).unwrap();
    assert_eq!(source.toc_location(), &layer.toc);
    let toc = source.toc();
    for (index, chunk) in toc.chunks().iter().enumerate() {
        let mut frame = vec![0; chunk.compressed_len as usize];
        source.read_at(chunk.blob_offset, &mut frame).unwrap();
        let content = zstd::bulk::decompress(&frame, chunk.len as usize).unwrap();
        assert_eq!(content.len() as u64, chunk.len, "chunk {index}");
        assert!(chunk.digest.is_of(&content), "chunk {index}");
        assert_eq!(
            chunk.zeros,
            content.iter().all(|byte| *byte == 0),
            "chunk {index}"
        );
    }
    let file = |path: &str| match &toc.entry(path).unwrap().kind {
        EntryKind::File { size, digest, chunks } => (*size, *digest, chunks.clone()),
        other => panic!("{path} is {other:?}"),
    };
    for path in [
        "bin/kubelet",
        "images.db",
        "etc/daemon.json",
        "etc/empty",
        "zeros",
    ] {
        let content = fs::read(tree.path().join(path)).unwrap();
        let (size, digest, chunks) = file(path);
        assert_eq!(
            (size, digest),
            (content.len() as u64, Digest::of(&content)),
            "{path}"
        );
        let chunks = &toc.chunks()[chunks.start as usize..chunks.end as usize];
        let sum: u64 = chunks.iter().map(|chunk| chunk.len).sum();
        assert_eq!(sum, size, "{path}");
    }
    let holes: u64 = toc
        .chunks()
        .iter()
        .filter(|chunk| chunk.zeros)
        .map(|chunk| chunk.len)
        .sum();
    assert_eq!(holes, (5 << 20) - 4096 + 100_000);
    assert_eq!(
        source
            .span(0..toc.chunks().len() as u32)
            .unwrap()
            .iter()
            .map(|(_, len)| len)
            .sum::<u64>(),
        toc.compressed_len()
    );
    assert_eq!(source.span(0..u32::MAX), None);
}

#[test]
fn long_names_large_owners_and_many_headers_survive() {
    let there = testing::store();
    let mut writer = LayerWriter::new(&there.store).unwrap();
    let folder = "d".repeat(200);
    let metadata = Metadata {
        mode: 0o640,
        uid: 4_000_000,
        gid: 5_000_000,
        mtime: -1,
        xattrs: vec![("user.a".into(), vec![0, 255])],
    };
    writer
        .directory(
            &folder,
            &Metadata {
                mode: 0o755,
                ..Metadata::default()
            },
        )
        .unwrap();
    let path = format!("{folder}/{}", "ф".repeat(100));
    writer.file(&path, &metadata, 3, &mut &b"abc"[..]).unwrap();
    for number in 0..3000 {
        writer
            .symlink(&format!("link-{number}"), &Metadata::default(), "x")
            .unwrap();
    }
    let layer = writer.finish().unwrap();
    let source = ChunkSource::open(&there.store, &layer.digest).unwrap();
    let entry = source.toc().entry(&path).unwrap();
    assert_eq!((entry.mode, entry.uid, entry.gid), (0o640, 4_000_000, 5_000_000));
    assert_eq!(entry.mtime.seconds, -1);
    assert_eq!(entry.xattrs, metadata.xattrs);
    let tar = tar_of(&there.store, &layer.digest);
    let mut archive = tar::Archive::new(&tar[..]);
    let paths: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path_bytes().into_owned())
        .collect();
    assert_eq!(paths.len(), 3002);
    assert_eq!(paths[1], path.as_bytes());
}

#[test]
fn what_layers_may_not_have_is_refused_by_name() {
    let there = testing::store();
    let refused = |tree: &std::path::Path, words: &[&str]| {
        let error = layer_from_tree(&there.store, tree, &LayerOptions::default()).unwrap_err();
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    let tree = tempfile::tempdir().unwrap();
    let fifo = tree.path().join("run/pipe");
    fs::create_dir(tree.path().join("run")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    refused(tree.path(), &["run/pipe", "FIFO"]);
    let tree = tempfile::tempdir().unwrap();
    write(tree.path(), "a/.wh.b", "", 0o644);
    refused(tree.path(), &["a/.wh.b", "reserved"]);
    let tree = tempfile::tempdir().unwrap();
    let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"caf\xe9");
    fs::write(tree.path().join(name), "").unwrap();
    refused(tree.path(), &["UTF-8"]);
}

#[test]
fn a_writer_refuses_paths_that_lead_out_and_paths_it_has() {
    let there = testing::store();
    let mut writer = LayerWriter::new(&there.store).unwrap();
    let plain = Metadata::default();
    for path in ["../x", "/etc/passwd", "a/../../b", "", "x\0y"] {
        assert!(
            matches!(writer.directory(path, &plain), Err(LayerError::Entry { .. })),
            "{path:?}"
        );
    }
    writer.directory("a", &plain).unwrap();
    assert!(writer.symlink("a", &plain, "b").is_err());
    assert!(
        writer.hard_link("b", "a").is_err(),
        "folders have no second names"
    );
    assert!(writer.file("c", &plain, 10, &mut &b"short"[..]).is_err());
}

#[test]
fn overlays_own_marks_become_whiteouts() {
    let there = testing::store();
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("etc")).unwrap();
    let gone = tree.path().join("etc/gone");
    let device = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, &gone, device, rustix::fs::Mode::empty(), 0).unwrap();
    let etc = tree.path().join("etc");
    let marked = rustix::fs::setxattr(
        &etc,
        "trusted.overlay.opaque",
        b"y",
        rustix::fs::XattrFlags::empty(),
    )
    .is_ok();
    symlink("x", tree.path().join("link")).unwrap();
    let layer = layer_of(&there.store, tree.path());
    let source = ChunkSource::open(&there.store, &layer.digest).unwrap();
    assert_eq!(source.toc().entry("etc/gone").unwrap().kind, EntryKind::Whiteout);
    assert_eq!(
        source.toc().entry("etc").unwrap().kind,
        EntryKind::Directory { opaque: marked }
    );
    let tar = tar_of(&there.store, &layer.digest);
    let mut archive = tar::Archive::new(&tar[..]);
    let paths: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap())
        .collect();
    assert!(paths.contains(&"etc/.wh.gone".to_owned()), "{paths:?}");
    assert_eq!(
        paths.contains(&"etc/.wh..wh..opq".to_owned()),
        marked,
        "{paths:?}"
    );
}

#[test]
fn incompressible_content_costs_next_to_nothing_more() {
    let there = testing::store();
    let tree = tempfile::tempdir().unwrap();
    write(tree.path(), "image.tar", noise(9, 8 << 20), 0o644);
    let layer = layer_of(&there.store, tree.path());
    assert!(layer.size < (8 << 20) + 4096, "{}", layer.size);
}
