//! What the tests of layers say to each other: small trees, and what a tree looks like from outside.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use gantry_model::{Digest, LayerDescriptor};

use crate::{ChunkSource, LayerOptions, LayerReceiver, Scratch, Store, layer_from_tree};

/// A store in a folder of its own.
pub(crate) struct TestStore {
    _dir: tempfile::TempDir,
    pub(crate) store: Store,
}

pub(crate) fn store() -> TestStore {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    TestStore { _dir: dir, store }
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(crate) fn write(dir: &Path, path: &str, content: impl AsRef<[u8]>, mode: u32) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A tree with one of everything a layer may have.
pub(crate) fn sample_tree(dir: &Path) {
    write(dir, "bin/kubelet", noise(1, (2 << 20) + 12_345), 0o755);
    write(dir, "bin/sudo", "setuid", 0o4755);
    write(dir, "etc/empty", "", 0o600);
    write(
        dir,
        "etc/daemon.json",
        "{\"log-driver\": \"journald\"}\n".repeat(40),
        0o644,
    );
    fs::create_dir_all(dir.join("etc/private/deeper")).unwrap();
    fs::set_permissions(dir.join("etc/private"), fs::Permissions::from_mode(0o1700)).unwrap();
    write(dir, "scripts/init.sh", "#!/bin/sh\necho ünïcode\n", 0o755);
    symlink("../bin/kubelet", dir.join("scripts/kubelet")).unwrap();
    symlink("/etc/absolute", dir.join("absolute")).unwrap();
    fs::hard_link(dir.join("bin/kubelet"), dir.join("bin/zz-kubelet")).unwrap();
    let sparse = fs::File::create(dir.join("images.db")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 3 << 20).unwrap();
    let _ = rustix::fs::setxattr(
        dir.join("bin/sudo"),
        "user.note",
        b"kept",
        rustix::fs::XattrFlags::empty(),
    );
}

/// What every entry of a tree looks like, by path. Times are left out unless asked for.
pub(crate) fn look(dir: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    look_below(dir, dir, &mut seen, &mut inodes);
    seen
}

fn look_below(
    root: &Path,
    dir: &Path,
    seen: &mut BTreeMap<String, String>,
    inodes: &mut BTreeMap<u64, String>,
) {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    for file in names {
        let path = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let found = fs::symlink_metadata(&file).unwrap();
        let kind = found.file_type();
        let mut text = if kind.is_symlink() {
            format!("link to {}", fs::read_link(&file).unwrap().display())
        } else if kind.is_char_device() {
            format!("device {}", found.rdev())
        } else if kind.is_dir() {
            format!("folder {:04o}", found.mode() & 0o7777)
        } else {
            let content = Digest::of(&fs::read(&file).unwrap()).short();
            format!("file {:04o} {} {content}", found.mode() & 0o7777, found.len())
        };
        if kind.is_file() && found.nlink() > 1 {
            let first = inodes.entry(found.ino()).or_insert_with(|| path.clone());
            text.push_str(&format!(" same as {first}"));
        }
        for (name, value) in crate::layer_writer::xattrs(&file).unwrap() {
            text.push_str(&format!(" {name}={}", String::from_utf8_lossy(&value)));
        }
        seen.insert(path, text);
        if kind.is_dir() {
            look_below(root, &file, seen, inodes);
        }
    }
}

/// The layer of `dir` in `store`.
pub(crate) fn layer_of(store: &Store, dir: &Path) -> LayerDescriptor {
    layer_from_tree(store, dir, &LayerOptions::default()).unwrap()
}

/// Sends `chunks` of a layer from one store to a receiver.
pub(crate) fn send(
    source: &ChunkSource,
    receiver: &LayerReceiver,
    chunks: impl IntoIterator<Item = u32>,
) -> u64 {
    let mut scratch = Scratch::new();
    let mut sent = 0;
    for index in chunks {
        let bytes = chunk_bytes(source, index);
        sent += bytes.len() as u64;
        receiver.accept(index, &bytes, &mut scratch).unwrap();
    }
    sent
}

/// One compressed chunk as it travels.
pub(crate) fn chunk_bytes(source: &ChunkSource, index: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (offset, len) in source.span(index..index + 1).unwrap() {
        let mut part = vec![0; len as usize];
        source.read_at(offset, &mut part).unwrap();
        bytes.extend(part);
    }
    bytes
}

/// Sends everything that is missing.
pub(crate) fn send_all(source: &ChunkSource, receiver: &LayerReceiver) -> u64 {
    send(source, receiver, receiver.missing().into_iter().flatten())
}
