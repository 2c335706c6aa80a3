//! Layers that arrive: whole, interrupted, reused, and lied about.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use gantry_model::LayerDescriptor;

use crate::testing::{
    self, TestStore, chunk_bytes, layer_of, look, noise, sample_tree, send, send_all, write,
};
use crate::{ChunkDigest, ChunkSource, LayerReceiver, ReceiveError, Scratch};

struct Journey {
    _from: TestStore,
    to: TestStore,
    tree: tempfile::TempDir,
    layer: LayerDescriptor,
    source: ChunkSource,
}

/// A layer of the sample tree in one store, and another store that has nothing.
fn journey() -> Journey {
    let (from, to) = (testing::store(), testing::store());
    let tree = tempfile::tempdir().unwrap();
    sample_tree(tree.path());
    let layer = layer_of(&from.store, tree.path());
    let source = ChunkSource::open(&from.store, &layer.digest).unwrap();
    Journey {
        _from: from,
        to,
        tree,
        layer,
        source,
    }
}

impl Journey {
    fn begin(&self) -> LayerReceiver {
        LayerReceiver::begin(&self.to.store, &self.layer, self.source.toc_bytes()).unwrap()
    }

    /// A power cut, as far as the records go: the marks of another boot count for nothing.
    fn host_goes_down(&self) {
        let partial = self.to.store.partial_dir().join(self.layer.digest.hex());
        fs::remove_file(partial.join("marks")).unwrap();
    }
}

#[test]
fn a_layer_arrives_as_it_was() {
    let journey = journey();
    let receiver = journey.begin();
    let dir = journey.to.store.layer_dir(&journey.layer.digest);
    send_all(&journey.source, &receiver);
    assert!(!dir.exists(), "nothing is visible before the end");
    let counters = receiver.counters();
    assert_eq!((counters.reused, counters.written), (0, counters.total));
    receiver.finish().unwrap();
    assert_eq!(look(&dir), look(journey.tree.path()));
    let found = fs::metadata(dir.join("images.db")).unwrap();
    assert!(found.blocks() * 512 < 1 << 20, "holes stay holes");
    assert_eq!(found.mtime(), 0);
    assert_eq!(journey.to.store.layers().unwrap(), [journey.layer.digest]);
    assert_eq!(
        journey.to.store.layer_descriptor(&journey.layer.digest).unwrap(),
        journey.layer
    );
    assert_eq!(
        &journey.to.store.layer_toc(&journey.layer.digest).unwrap(),
        journey.source.toc()
    );
    assert_eq!(journey.to.store.partial_layers().unwrap(), []);
    assert_eq!(journey.to.store.check_layer(&journey.layer.digest).unwrap(), []);
    let again = LayerReceiver::begin(&journey.to.store, &journey.layer, journey.source.toc_bytes());
    assert!(matches!(again, Err(ReceiveError::AlreadyPresent { .. })));
}

#[test]
fn a_layer_unpacks_from_its_own_store() {
    let there = testing::store();
    let tree = tempfile::tempdir().unwrap();
    sample_tree(tree.path());
    let layer = layer_of(&there.store, tree.path());
    there.store.unpack_layer(&layer).unwrap();
    there.store.unpack_layer(&layer).unwrap();
    assert_eq!(look(&there.store.layer_dir(&layer.digest)), look(tree.path()));
    there.store.remove_layer(&layer.digest).unwrap();
    there.store.remove_layer(&layer.digest).unwrap();
    assert!(!there.store.has_layer(&layer.digest));
    assert!(!there.store.layer_dir(&layer.digest).exists());
}

#[test]
fn an_interrupted_transfer_asks_for_exactly_the_rest() {
    let journey = journey();
    let all: Vec<u32> = journey.begin().missing().into_iter().flatten().collect();
    assert!(all.len() > 5);
    let receiver = journey.begin();
    let first = send(&journey.source, &receiver, all[..2].iter().copied());
    receiver.checkpoint().unwrap();
    let durable = receiver.counters();
    // After the checkpoint: not durable, so it travels again when the host went down.
    send(&journey.source, &receiver, [all[3]]);
    drop(receiver);
    let partial = journey.to.store.partial_layers().unwrap();
    assert_eq!(partial, [(journey.layer.digest, durable.written)]);
    journey.host_goes_down();
    let receiver = journey.begin();
    assert_eq!(receiver.counters(), durable);
    let missing: Vec<u32> = receiver.missing().into_iter().flatten().collect();
    assert_eq!(missing, all[2..]);
    let rest = send_all(&journey.source, &receiver);
    assert_eq!(
        first + rest,
        journey.source.toc().compressed_len(),
        "no byte travels twice"
    );
    receiver.finish().unwrap();
    assert_eq!(
        look(&journey.to.store.layer_dir(&journey.layer.digest)),
        look(journey.tree.path())
    );
}

#[test]
fn a_killed_program_loses_nothing_it_accepted() {
    let journey = journey();
    let all: Vec<u32> = journey.begin().missing().into_iter().flatten().collect();
    let receiver = journey.begin();
    let first = send(&journey.source, &receiver, all[..4].iter().copied());
    drop(receiver);
    let receiver = journey.begin();
    let missing: Vec<u32> = receiver.missing().into_iter().flatten().collect();
    assert_eq!(
        missing,
        all[4..],
        "no checkpoint was made, and nothing is asked for twice"
    );
    drop(receiver);
    // What was only marked is durable now.
    journey.host_goes_down();
    let receiver = journey.begin();
    let rest = send_all(&journey.source, &receiver);
    assert_eq!(first + rest, journey.source.toc().compressed_len());
    receiver.finish().unwrap();
    assert_eq!(journey.to.store.check_layer(&journey.layer.digest).unwrap(), []);
}

#[test]
fn what_is_said_of_a_lost_file_does_not_speak_for_the_new_one() {
    let journey = journey();
    let receiver = journey.begin();
    send_all(&journey.source, &receiver);
    receiver.checkpoint().unwrap();
    drop(receiver);
    let partial = journey.to.store.partial_dir().join(journey.layer.digest.hex());
    fs::remove_file(partial.join("tree/bin/kubelet")).unwrap();
    let receiver = journey.begin();
    let lost: Vec<u32> = receiver.missing().into_iter().flatten().collect();
    send(&journey.source, &receiver, [lost[0]]);
    drop(receiver);
    let receiver = journey.begin();
    let missing: Vec<u32> = receiver.missing().into_iter().flatten().collect();
    assert_eq!(missing, lost[1..]);
    send_all(&journey.source, &receiver);
    receiver.finish().unwrap();
    assert_eq!(journey.to.store.check_layer(&journey.layer.digest).unwrap(), []);
}

#[test]
fn a_crash_before_the_rename_is_continued_without_any_transfer() {
    let journey = journey();
    let receiver = journey.begin();
    send_all(&journey.source, &receiver);
    receiver.checkpoint().unwrap();
    // As far as finish comes without its rename.
    receiver.complete_tree().unwrap();
    drop(receiver);
    assert!(!journey.to.store.has_layer(&journey.layer.digest));
    let receiver = journey.begin();
    assert_eq!(receiver.missing(), []);
    receiver.finish().unwrap();
    assert_eq!(
        look(&journey.to.store.layer_dir(&journey.layer.digest)),
        look(journey.tree.path())
    );
    assert_eq!(journey.to.store.check_layer(&journey.layer.digest).unwrap(), []);
}

#[test]
fn a_damaged_record_or_a_lost_file_only_costs_a_new_transfer() {
    let journey = journey();
    let receiver = journey.begin();
    send_all(&journey.source, &receiver);
    receiver.checkpoint().unwrap();
    let all = receiver
        .toc()
        .chunks()
        .iter()
        .filter(|chunk| !chunk.zeros)
        .count();
    drop(receiver);
    let partial = journey.to.store.partial_dir().join(journey.layer.digest.hex());
    fs::remove_file(partial.join("tree/bin/kubelet")).unwrap();
    let missing = journey.begin().missing().into_iter().flatten().count();
    assert_eq!(missing, 3, "the three chunks of the lost file");
    let record = partial.join("received");
    let mut bytes = fs::read(&record).unwrap();
    bytes[60] ^= 1;
    fs::write(&record, bytes).unwrap();
    journey.host_goes_down();
    let receiver = journey.begin();
    assert_eq!(receiver.missing().into_iter().flatten().count(), all);
    send_all(&journey.source, &receiver);
    receiver.finish().unwrap();
    assert_eq!(
        look(&journey.to.store.layer_dir(&journey.layer.digest)),
        look(journey.tree.path())
    );
}

#[test]
fn a_layer_is_received_by_one_at_a_time() {
    let journey = journey();
    let receiver = journey.begin();
    let second = LayerReceiver::begin(&journey.to.store, &journey.layer, journey.source.toc_bytes());
    assert!(matches!(second, Err(ReceiveError::Busy { .. })));
    assert!(journey.to.store.remove_layer(&journey.layer.digest).is_err());
    drop(receiver);
    journey.begin();
}

#[test]
fn a_layer_with_chunks_missing_is_not_finished() {
    let journey = journey();
    let receiver = journey.begin();
    let count = receiver.missing().into_iter().flatten().count() as u64;
    assert!(matches!(receiver.finish(), Err(ReceiveError::Incomplete { missing, .. }) if missing == count));
}

#[test]
fn large_chunks_are_held_to_their_blake3_stored_or_compressed() {
    let (from, to, tree) = (testing::store(), testing::store(), tempfile::tempdir().unwrap());
    write(tree.path(), "noise", noise(1, 300_000), 0o644);
    write(tree.path(), "text", "a line of text\n".repeat(20_000), 0o644);
    let layer = layer_of(&from.store, tree.path());
    let source = ChunkSource::open(&from.store, &layer.digest).unwrap();
    let receiver = LayerReceiver::begin(&to.store, &layer, source.toc_bytes()).unwrap();
    for (index, chunk) in (0..).zip(receiver.toc().chunks()) {
        assert!(matches!(chunk.digest, ChunkDigest::Blake3(_)), "chunk {index}");
        let mut frame = chunk_bytes(&source, index);
        let middle = frame.len() / 2;
        frame[middle] ^= 0x10;
        let refused = receiver.accept(index, &frame, &mut Scratch::new()).unwrap_err();
        assert!(refused.is_peers_fault(), "{refused}");
    }
    assert_eq!(receiver.counters().written, 0);
    send_all(&source, &receiver);
    receiver.finish().unwrap();
    assert_eq!(look(&to.store.layer_dir(&layer.digest)), look(tree.path()));
    assert!(to.store.check_layer(&layer.digest).unwrap().is_empty());
}

#[test]
fn chunks_that_lie_are_refused_and_nothing_of_them_is_written() {
    let journey = journey();
    let receiver = journey.begin();
    let (index, chunk) = (0..)
        .zip(receiver.toc().chunks())
        .find(|(_, chunk)| receiver.toc().entries()[chunk.entry as usize].path == "etc/daemon.json")
        .unwrap();
    let good = chunk_bytes(&journey.source, index);
    let mut scratch = Scratch::new();
    let mut refuse = |chunk: u32, bytes: &[u8], word: &str| {
        let error = receiver.accept(chunk, bytes, &mut scratch).unwrap_err();
        assert!(error.is_peers_fault(), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(word) && text.contains(&journey.layer.digest.to_string()),
            "{text}"
        );
    };
    // A digest that lies: well-formed, as long as announced, other bytes.
    let mut other = zstd::bulk::compress(&vec![b'x'; chunk.len as usize], 3).unwrap();
    refuse(index, &other, "bytes came where");
    let mut skippable = vec![0x50, 0x2a, 0x4d, 0x18];
    skippable.extend((good.len() as u32 - other.len() as u32 - 8).to_le_bytes());
    skippable.resize(good.len() - other.len(), 0);
    other.splice(0..0, skippable);
    assert_eq!(other.len(), good.len());
    refuse(index, &other, "digest");
    // A bomb: much more than announced.
    let mut bomb = zstd::bulk::compress(&vec![0; 8 << 20], 3).unwrap();
    assert!(
        bomb.len() > good.len() || {
            bomb.resize(good.len(), 0);
            true
        }
    );
    bomb.truncate(good.len());
    refuse(index, &bomb, "decompress");
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    refuse(index, &flipped, "etc/daemon.json");
    refuse(index, &good[..good.len() - 1], "bytes came where");
    refuse(index, &[], "bytes came where");
    refuse(u32::MAX, &good, "only");
    let hole = receiver
        .toc()
        .chunks()
        .iter()
        .position(|chunk| chunk.zeros)
        .unwrap() as u32;
    let hole_entry = receiver.toc().chunks()[hole as usize];
    assert!(
        hole_entry.zeros && receiver.accept(hole, &good, &mut Scratch::new()).is_ok(),
        "it is here already"
    );
    let file = journey
        .to
        .store
        .partial_dir()
        .join(journey.layer.digest.hex())
        .join("tree/etc/daemon.json");
    assert!(!file.exists(), "nothing was written");
    send_all(&journey.source, &receiver);
    receiver.finish().unwrap();
}

#[test]
fn files_of_other_layers_do_not_travel() {
    let journey = journey();
    let receiver = journey.begin();
    send_all(&journey.source, &receiver);
    receiver.finish().unwrap();
    // The next version of the tree: one file changed, one with another mode, the rest as before.
    let next = tempfile::tempdir().unwrap();
    sample_tree(next.path());
    write(next.path(), "etc/daemon.json", "{}", 0o644);
    write(
        next.path(),
        "scripts/init.sh",
        fs::read(next.path().join("scripts/init.sh")).unwrap(),
        0o700,
    );
    let other = testing::store();
    let layer = layer_of(&other.store, next.path());
    let source = ChunkSource::open(&other.store, &layer.digest).unwrap();
    let receiver = LayerReceiver::begin(&journey.to.store, &layer, source.toc_bytes()).unwrap();
    let missing: Vec<&str> = receiver
        .missing()
        .into_iter()
        .flatten()
        .map(|chunk| source.toc().chunks()[chunk as usize].entry)
        .map(|entry| source.toc().entries()[entry as usize].path.as_str())
        .collect();
    assert_eq!(missing, ["etc/daemon.json"]);
    let counters = receiver.counters();
    assert_eq!(counters.reused + counters.written + 2, counters.total);
    send_all(&source, &receiver);
    receiver.finish().unwrap();
    let (old, new) = (
        journey.to.store.layer_dir(&journey.layer.digest),
        journey.to.store.layer_dir(&layer.digest),
    );
    let inode = |path: std::path::PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(
        inode(old.join("bin/kubelet")),
        inode(new.join("bin/kubelet")),
        "a hard link"
    );
    assert_ne!(
        inode(old.join("scripts/init.sh")),
        inode(new.join("scripts/init.sh")),
        "another mode: a copy"
    );
    for digest in [journey.layer.digest, layer.digest] {
        assert_eq!(journey.to.store.check_layer(&digest).unwrap(), []);
    }
    assert_eq!(
        fs::metadata(new.join("scripts/init.sh")).unwrap().mode() & 0o7777,
        0o700
    );
    assert_eq!(
        fs::metadata(old.join("scripts/init.sh")).unwrap().mode() & 0o7777,
        0o755
    );
}

#[test]
fn two_files_of_one_layer_do_not_become_one() {
    let here = testing::store();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(one.path(), "a", noise(3, 5000), 0o644);
    write(two.path(), "b", noise(3, 5000), 0o644);
    write(two.path(), "c", noise(3, 5000), 0o644);
    let (first, second) = (
        layer_of(&here.store, one.path()),
        layer_of(&here.store, two.path()),
    );
    here.store.unpack_layer(&first).unwrap();
    here.store.unpack_layer(&second).unwrap();
    assert_eq!(here.store.check_layer(&second.digest).unwrap(), []);
    let dir = here.store.layer_dir(&second.digest);
    assert_ne!(
        fs::metadata(dir.join("b")).unwrap().ino(),
        fs::metadata(dir.join("c")).unwrap().ino()
    );
}

#[test]
fn a_file_that_another_layer_shares_is_never_written_to() {
    let here = testing::store();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(one.path(), "a", noise(3, 3 << 20), 0o644);
    write(two.path(), "b", noise(3, 3 << 20), 0o644);
    write(two.path(), "new", "new", 0o644);
    let (first, second) = (
        layer_of(&here.store, one.path()),
        layer_of(&here.store, two.path()),
    );
    here.store.unpack_layer(&first).unwrap();
    let source = ChunkSource::open(&here.store, &second.digest).unwrap();
    drop(LayerReceiver::begin(&here.store, &second, source.toc_bytes()).unwrap());
    // A crash between the link and the record: the file is there, the record does not know it.
    let partial = here.store.partial_dir().join(second.digest.hex());
    fs::remove_file(partial.join("received")).unwrap();
    let shared = fs::metadata(partial.join("tree/b")).unwrap();
    assert_eq!(shared.nlink(), 2);
    here.store.remove_layer(&first.digest).unwrap();
    here.store.unpack_layer(&second).unwrap();
    assert_eq!(here.store.check_layer(&second.digest).unwrap(), []);
}

#[test]
fn a_damaged_source_file_is_not_reused_by_copy() {
    let here = testing::store();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(one.path(), "a", noise(3, 3 << 20), 0o644);
    write(two.path(), "b", noise(3, 3 << 20), 0o600);
    let (first, second) = (
        layer_of(&here.store, one.path()),
        layer_of(&here.store, two.path()),
    );
    here.store.unpack_layer(&first).unwrap();
    let file = here.store.layer_dir(&first.digest).join("a");
    let mut bytes = fs::read(&file).unwrap();
    bytes[2 << 20] ^= 1;
    fs::write(&file, bytes).unwrap();
    let source = ChunkSource::open(&here.store, &second.digest).unwrap();
    let receiver = LayerReceiver::begin(&here.store, &second, source.toc_bytes()).unwrap();
    let missing: Vec<u32> = receiver.missing().into_iter().flatten().collect();
    assert_eq!(missing, [2], "only the damaged chunk travels");
}

#[test]
fn whiteouts_become_overlays_own() {
    let there = testing::store();
    let mut writer = crate::LayerWriter::new(&there.store).unwrap();
    writer
        .directory(
            "etc",
            &crate::Metadata {
                mode: 0o755,
                ..Default::default()
            },
        )
        .unwrap();
    writer.opaque("etc").unwrap();
    writer.whiteout("usr/bin/old").unwrap();
    let layer = writer.finish().unwrap();
    there.store.unpack_layer(&layer).unwrap();
    let seen = look(&there.store.layer_dir(&layer.digest));
    assert_eq!(seen["usr/bin/old"], "device 0", "{seen:?}");
    assert_eq!(seen["usr/bin"], "folder 0755");
    let opaque = seen["etc"].contains("overlay.opaque=y") || seen.contains_key("etc/.wh..wh..opq");
    assert!(opaque, "{seen:?}");
    assert_eq!(there.store.check_layer(&layer.digest).unwrap(), []);
}

#[test]
fn another_table_of_contents_than_the_images_is_refused() {
    let journey = journey();
    let mut toc = journey.source.toc_bytes().to_vec();
    toc[40] ^= 1;
    let refused = LayerReceiver::begin(&journey.to.store, &journey.layer, &toc);
    assert!(matches!(refused, Err(ReceiveError::Toc { .. })));
    assert_eq!(
        journey.to.store.partial_layers().unwrap(),
        [],
        "nothing was begun"
    );
}

#[test]
fn many_threads_accept_at_once() {
    let journey = journey();
    let receiver = journey.begin();
    let chunks: Vec<u32> = receiver.missing().into_iter().flatten().collect();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (receiver, source, chunks) = (&receiver, &journey.source, &chunks);
            scope.spawn(move || {
                // Every chunk comes from two workers.
                let mine = chunks.iter().copied().filter(|chunk| chunk % 2 == worker % 2);
                send(source, receiver, mine);
                receiver.checkpoint().unwrap();
            });
        }
    });
    assert_eq!(receiver.counters().written, receiver.counters().total);
    receiver.finish().unwrap();
    assert_eq!(
        look(&journey.to.store.layer_dir(&journey.layer.digest)),
        look(journey.tree.path())
    );
}

#[test]
fn a_check_finds_a_flipped_byte_and_everything_else_that_changed() {
    let journey = journey();
    let receiver = journey.begin();
    send_all(&journey.source, &receiver);
    receiver.finish().unwrap();
    let (store, digest) = (&journey.to.store, journey.layer.digest);
    let dir = store.layer_dir(&digest);
    let kubelet = fs::OpenOptions::new()
        .write(true)
        .open(dir.join("bin/kubelet"))
        .unwrap();
    let before = fs::metadata(dir.join("bin/kubelet")).unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&kubelet, b"!", (1 << 20) + 5).unwrap();
    kubelet.set_modified(before).unwrap();
    fs::remove_file(dir.join("scripts/kubelet")).unwrap();
    fs::write(dir.join("scripts/stranger"), "").unwrap();
    fs::set_permissions(
        dir.join("etc/empty"),
        std::os::unix::fs::PermissionsExt::from_mode(0o666),
    )
    .unwrap();
    let mut found: Vec<(String, String)> = store
        .check_layer(&digest)
        .unwrap()
        .into_iter()
        .map(|damage| (damage.path, damage.reason))
        .collect();
    found.retain(|(_, reason)| !reason.contains("its time"));
    found.sort();
    let expected = [
        ("bin/kubelet", "damaged"),
        ("etc/empty", "mode is 0666"),
        ("scripts/kubelet", "missing"),
        ("scripts/stranger", "does not belong"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((path, reason), (wanted, word)) in found.iter().zip(expected) {
        assert!(path == wanted && reason.contains(word), "{found:?}");
    }
}

#[test]
fn room_is_asked_for_before_the_first_byte() {
    let journey = journey();
    let receiver = journey.begin();
    let content: u64 = receiver
        .toc()
        .chunks()
        .iter()
        .filter(|chunk| !chunk.zeros)
        .map(|chunk| chunk.len)
        .sum();
    let error = receiver.check_room(content - 1).unwrap_err();
    assert!(
        matches!(error, ReceiveError::NoSpace { needed, free, .. } if needed > content && free == content - 1)
    );
    receiver.check_room(2 * content).unwrap();
    // What is here needs no more room.
    send_all(&journey.source, &receiver);
    assert!(matches!(receiver.check_room(0), Err(ReceiveError::NoSpace { needed, .. }) if needed < 1 << 20));
}

#[test]
fn a_layer_without_a_record_is_none_and_is_made_anew() {
    let journey = journey();
    let dir = journey.to.store.layer_dir(&journey.layer.digest);
    write(&dir, "left/over", "from a removal that did not end", 0o644);
    assert!(!journey.to.store.has_layer(&journey.layer.digest));
    let receiver = journey.begin();
    send_all(&journey.source, &receiver);
    receiver.finish().unwrap();
    assert_eq!(look(&dir), look(journey.tree.path()));
}
