//! Any tree becomes a layer, travels in any order with any interruption, and is the same tree again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::testing::{self, layer_of, look, noise, send};
use crate::{ChunkSource, LayerReceiver};

#[derive(Debug, Clone)]
enum Thing {
    Folder(u32),
    /// Pieces of content: a seed (0 is zeros) and a length.
    File(u32, Vec<(u64, usize)>),
    Symlink(String),
    /// Another name of the file with this number, if there are so many.
    HardLink(prop::sample::Index),
}

fn thing() -> impl Strategy<Value = Thing> {
    let len = prop_oneof![4 => 0..5000_usize, 2 => 60_000..140_000_usize, 1 => 1_000_000..1_100_000_usize];
    let piece = (prop_oneof![Just(0), 1..1000_u64], len);
    prop_oneof![
        2 => (0..0o10000_u32).prop_map(|mode| Thing::Folder(mode | 0o700)),
        6 => (0..0o10000_u32, vec(piece, 0..4)).prop_map(|(mode, pieces)| Thing::File(mode | 0o400, pieces)),
        1 => "[a-z/.]{1,40}".prop_map(Thing::Symlink),
        1 => any::<prop::sample::Index>().prop_map(Thing::HardLink),
    ]
}

/// Three levels of few names, so that folders have something in them and things meet.
fn tree() -> impl Strategy<Value = BTreeMap<String, Thing>> {
    let path = vec("[a-cé]{1,3}|[a-c]{120}", 1..4).prop_map(|parts| parts.join("/"));
    btree_map(path, thing(), 0..25)
}

/// Makes the tree on disk; what cannot be because of what is there already is left out.
fn make(dir: &Path, tree: &BTreeMap<String, Thing>) {
    let mut files: Vec<String> = Vec::new();
    let mut modes = Vec::new();
    for (path, thing) in tree {
        let file = dir.join(path);
        if fs::create_dir_all(file.parent().unwrap()).is_err() {
            continue;
        }
        match thing {
            Thing::Folder(mode) => {
                if fs::create_dir(&file).is_ok() {
                    modes.push((file, *mode));
                }
            }
            Thing::File(mode, pieces) => {
                let zeros_or_noise = |(seed, len): &(u64, usize)| {
                    if *seed == 0 {
                        vec![0; *len]
                    } else {
                        noise(*seed, *len)
                    }
                };
                let content: Vec<u8> = pieces.iter().flat_map(zeros_or_noise).collect();
                if fs::write(&file, content).is_ok() {
                    files.push(path.clone());
                    modes.push((file, *mode));
                }
            }
            Thing::Symlink(target) => drop(symlink(target, &file)),
            Thing::HardLink(index) if !files.is_empty() => {
                let _ = fs::hard_link(dir.join(index.get(&files)), &file);
            }
            Thing::HardLink(_) => {}
        }
    }
    for (file, mode) in modes {
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_arrives_as_it_was(tree in tree(), order in any::<u64>(), interrupted in 0..100_usize) {
        let (from, to) = (testing::store(), testing::store());
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), &tree);
        let layer = layer_of(&from.store, dir.path());
        let source = ChunkSource::open(&from.store, &layer.digest).unwrap();
        let begin = || LayerReceiver::begin(&to.store, &layer, source.toc_bytes()).unwrap();
        let receiver = begin();
        let mut chunks: Vec<u32> = receiver.missing().into_iter().flatten().collect();
        chunks.sort_by_key(|chunk| order.wrapping_mul(u64::from(*chunk) + 1));
        let first = chunks.len() * interrupted / 100;
        send(&source, &receiver, chunks[..first].iter().copied());
        receiver.checkpoint().unwrap();
        drop(receiver);
        let receiver = begin();
        let missing: Vec<u32> = receiver.missing().into_iter().flatten().collect();
        let mut rest = chunks[first..].to_vec();
        send(&source, &receiver, rest.iter().copied());
        rest.sort_unstable();
        prop_assert_eq!(missing, rest, "exactly the rest was asked for");
        receiver.finish().unwrap();
        prop_assert_eq!(look(&to.store.layer_dir(&layer.digest)), look(dir.path()));
        prop_assert_eq!(to.store.check_layer(&layer.digest).unwrap(), []);
    }
}
