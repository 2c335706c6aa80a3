//! Layers that are here and were changed: noticed, named, and put right where they are.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use gantry_model::LayerDescriptor;

use crate::testing::{self, TestStore, layer_of, noise, sample_tree, send_all, write};
use crate::{ChunkSource, LayerDamage, LayerReceiver, ReceiveError};

/// Stores that have the same layer.
struct Both {
    from: TestStore,
    here: TestStore,
    tree: tempfile::TempDir,
    layer: LayerDescriptor,
    source: ChunkSource,
}

impl Both {
    fn new() -> Self {
        let (from, here) = (testing::store(), testing::store());
        let tree = tempfile::tempdir().unwrap();
        sample_tree(tree.path());
        let layer = layer_of(&from.store, tree.path());
        let source = ChunkSource::open(&from.store, &layer.digest).unwrap();
        let both = Self {
            from,
            here,
            tree,
            layer,
            source,
        };
        let receiver = both.begin().unwrap();
        send_all(&both.source, &receiver);
        receiver.finish().unwrap();
        both
    }

    fn begin(&self) -> Result<LayerReceiver, ReceiveError> {
        LayerReceiver::begin(&self.here.store, &self.layer, self.source.toc_bytes())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.here.store.layer_dir(&self.layer.digest).join(path)
    }

    fn is_unchanged(&self) -> bool {
        self.here.store.is_layer_unchanged(&self.layer.digest)
    }

    fn verify(&self) -> Vec<LayerDamage> {
        self.here
            .store
            .verify_layer(&self.layer.digest, &AtomicBool::new(false))
            .unwrap()
    }

    /// Gives how many compressed bytes it takes.
    fn repair(&self) -> u64 {
        let receiver = self.begin().unwrap();
        let sent = send_all(&self.source, &receiver);
        receiver.finish().unwrap();
        assert_eq!(self.verify(), []);
        assert!(self.is_unchanged());
        assert_eq!(self.here.store.check_layer(&self.layer.digest).unwrap(), []);
        sent
    }
}

/// Makes a byte another one; the file's own time stays, as where somebody wants it not to be seen.
fn flip(path: &Path, at: u64) {
    let before = fs::metadata(path).unwrap();
    let mode = before.permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    file.set_times(FileTimes::new().set_modified(before.modified().unwrap()))
        .unwrap();
    fs::set_permissions(path, mode).unwrap();
}

#[test]
fn what_nobody_touched_is_not_read_again() {
    let both = Both::new();
    assert!(both.is_unchanged());
    assert_eq!(both.verify(), []);
    // Where nothing is known everything is read, once.
    fs::remove_file(both.here.store.verified_path(&both.layer.digest)).unwrap();
    assert!(!both.is_unchanged());
    assert_eq!(both.verify(), []);
    assert!(both.is_unchanged());
    // Changed and the same again is what it was.
    flip(&both.path("bin/kubelet"), 5);
    flip(&both.path("bin/kubelet"), 5);
    assert!(!both.is_unchanged());
    assert_eq!(both.verify(), []);
    assert!(both.is_unchanged());
    assert!(matches!(both.begin(), Err(ReceiveError::AlreadyPresent { .. })));
}

#[test]
fn a_changed_byte_is_named_and_its_chunk_alone_travels_again() {
    let both = Both::new();
    let path = both.path("bin/kubelet");
    let before = fs::metadata(&path).unwrap();
    flip(&path, (1 << 20) + 7);
    assert!(!both.is_unchanged());
    let damage = both.verify();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(damage[0].path, "bin/kubelet");
    assert_eq!(damage[0].reason, "its bytes 1048576 to 2097152 are damaged");
    assert!(both.here.store.is_layer_damaged(&both.layer.digest));
    // It is found as often as it is looked for, and until it is put right.
    assert_eq!(both.verify(), damage);

    let receiver = both.begin().unwrap();
    assert_eq!(receiver.missing().into_iter().flatten().count(), 1);
    drop(receiver);
    // Cut off before anything came: it begins anew.
    both.repair();
    assert_eq!(
        fs::metadata(&path).unwrap().ino(),
        before.ino(),
        "whoever has it open sees it"
    );
    assert_eq!(
        fs::read(&path).unwrap(),
        fs::read(both.tree.path().join("bin/kubelet")).unwrap()
    );
}

#[test]
fn whatever_else_was_done_to_a_layer_is_put_right() {
    let both = Both::new();
    fs::remove_file(both.path("etc/daemon.json")).unwrap();
    fs::remove_file(both.path("bin/sudo")).unwrap();
    fs::create_dir(both.path("bin/sudo")).unwrap();
    fs::write(both.path("bin/sudo/inside"), "a folder").unwrap();
    fs::remove_dir_all(both.path("etc/private")).unwrap();
    symlink("/etc", both.path("etc/private")).unwrap();
    fs::write(both.path("etc/stranger"), "not of the layer").unwrap();
    fs::remove_file(both.path("absolute")).unwrap();
    symlink("/etc/other", both.path("absolute")).unwrap();
    fs::remove_file(both.path("bin/zz-kubelet")).unwrap();
    fs::write(both.path("bin/zz-kubelet"), "no link").unwrap();
    File::options()
        .write(true)
        .open(both.path("scripts/init.sh"))
        .unwrap()
        .set_len(3)
        .unwrap();
    OpenOptions::new()
        .write(true)
        .open(both.path("images.db"))
        .unwrap()
        .write_all_at(b"in a hole", 100)
        .unwrap();
    fs::set_permissions(both.path("etc/empty"), fs::Permissions::from_mode(0o666)).unwrap();
    let damage = both.verify();
    for path in [
        "etc/daemon.json",
        "bin/sudo",
        "etc/private",
        "etc/private/deeper",
        "etc/stranger",
        "absolute",
        "bin/zz-kubelet",
        "scripts/init.sh",
        "images.db",
        "etc/empty",
    ] {
        assert!(damage.iter().any(|one| one.path == path), "{path}: {damage:?}");
    }
    both.repair();
    assert_eq!(
        testing::look(&both.path("")),
        testing::look(both.tree.path()),
        "all of it is as it was"
    );
    // As editors and `sed -i` do: the file's second name is left with the file of before.
    let (file, beside) = (both.path("bin/kubelet"), both.path("bin/edited"));
    for edited in [b"edited".to_vec(), fs::read(&file).unwrap()] {
        fs::write(&beside, edited).unwrap();
        fs::rename(&beside, &file).unwrap();
        let damage = both.verify();
        assert!(
            damage.iter().any(|one| one.path == "bin/zz-kubelet"),
            "{damage:?}"
        );
        both.repair();
        assert_eq!(testing::look(&both.path("")), testing::look(both.tree.path()));
    }
    // The file is elsewhere, and its second name looks as it did.
    fs::rename(
        &file,
        both.here.store.record_dir(&both.layer.digest).join("elsewhere"),
    )
    .unwrap();
    assert!(both.verify().iter().any(|one| one.path == "bin/kubelet"));
    both.repair();
}

#[test]
fn a_damaged_table_of_contents_is_damage_and_is_put_right() {
    let both = Both::new();
    let toc = both.here.store.record_dir(&both.layer.digest).join("toc");
    flip(&toc, 20);
    assert!(!both.is_unchanged());
    assert_eq!(both.verify()[0].path, "its table of contents");
    assert_eq!(both.repair(), 0, "no content travels");
}

/// The attack: an image that names another one's layer, and has its own table of contents for it.
#[test]
fn a_layer_is_not_put_right_by_another_ones_table_of_contents() {
    let both = Both::new();
    flip(&both.path("bin/kubelet"), 9);
    assert_eq!(both.verify().len(), 1);
    let theirs = tempfile::tempdir().unwrap();
    write(theirs.path(), "bin/kubelet", "theirs", 0o755);
    let other = layer_of(&both.from.store, theirs.path());
    let lie = LayerDescriptor {
        digest: both.layer.digest,
        ..other.clone()
    };
    let source = ChunkSource::open(&both.from.store, &other.digest).unwrap();
    let begun = LayerReceiver::begin(&both.here.store, &lie, source.toc_bytes());
    assert!(
        matches!(begun, Err(ReceiveError::AlreadyPresent { .. })),
        "{begun:?}"
    );
    both.repair();
}

#[test]
fn a_damaged_descriptor_is_damage_and_is_put_right() {
    let both = Both::new();
    let record = both.here.store.record_dir(&both.layer.digest);
    let path = record.join("descriptor.json");
    let text = fs::read_to_string(&path).unwrap();
    let other = gantry_model::Digest::of(b"another table").to_string();
    fs::write(&path, text.replace(&both.layer.toc.digest.to_string(), &other)).unwrap();
    assert_eq!(both.verify().len(), 1);
    assert_eq!(both.repair(), 0);
}

#[test]
fn layers_that_share_a_file_are_damaged_and_put_right_together() {
    let both = Both::new();
    let other = tempfile::tempdir().unwrap();
    sample_tree(other.path());
    write(other.path(), "new", "one more", 0o644);
    // A name that it gets when the layer is finished is one that nobody could note beside the other layer.
    fs::remove_file(other.path().join("bin/zz-kubelet")).unwrap();
    let second = layer_of(&both.from.store, other.path());
    let source = ChunkSource::open(&both.from.store, &second.digest).unwrap();
    let receiver = LayerReceiver::begin(&both.here.store, &second, source.toc_bytes()).unwrap();
    send_all(&source, &receiver);
    receiver.finish().unwrap();
    let shared = both.here.store.layer_dir(&second.digest).join("bin/kubelet");
    assert_eq!(
        fs::metadata(&shared).unwrap().ino(),
        fs::metadata(both.path("bin/kubelet")).unwrap().ino()
    );
    // Another name for a file is no change of it.
    assert!(both.is_unchanged() && both.here.store.is_layer_unchanged(&second.digest));

    flip(&shared, 9);
    assert_eq!(both.verify().len(), 1);
    both.repair();
    let stop = AtomicBool::new(false);
    assert_eq!(both.here.store.verify_layer(&second.digest, &stop).unwrap(), []);
}

#[test]
fn a_damaged_file_is_not_taken_for_another_layer() {
    let both = Both::new();
    flip(&both.path("bin/kubelet"), 9);
    let other = tempfile::tempdir().unwrap();
    sample_tree(other.path());
    write(other.path(), "new", "one more", 0o644);
    let second = layer_of(&both.from.store, other.path());
    let source = ChunkSource::open(&both.from.store, &second.digest).unwrap();
    let receiver = LayerReceiver::begin(&both.here.store, &second, source.toc_bytes()).unwrap();
    let sent = send_all(&source, &receiver);
    assert!(
        (1 << 20..2 << 20).contains(&sent),
        "its damaged chunk travels: {sent}"
    );
    receiver.finish().unwrap();
    assert_eq!(both.here.store.check_layer(&second.digest).unwrap(), []);
}

#[test]
fn what_came_in_an_earlier_session_is_read_again() {
    let (from, here) = (testing::store(), testing::store());
    let tree = tempfile::tempdir().unwrap();
    write(tree.path(), "bin/large", noise(3, 3 << 20), 0o755);
    let layer = layer_of(&from.store, tree.path());
    let source = ChunkSource::open(&from.store, &layer.digest).unwrap();
    let begin = || LayerReceiver::begin(&here.store, &layer, source.toc_bytes()).unwrap();
    let receiver = begin();
    testing::send(&source, &receiver, [0, 1]);
    receiver.checkpoint().unwrap();
    drop(receiver);
    let partial = here.store.partial_dir().join(layer.digest.hex());
    flip(&partial.join("tree/bin/large"), 70);
    let receiver = begin();
    send_all(&source, &receiver);
    receiver.finish().unwrap();
    assert!(!here.store.is_layer_unchanged(&layer.digest));
    let damage = here
        .store
        .verify_layer(&layer.digest, &AtomicBool::new(false))
        .unwrap();
    assert_eq!(damage[0].path, "bin/large");
}
