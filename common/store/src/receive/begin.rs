//! The first steps of a layer, and how an interrupted transfer goes on.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use gantry_model::LayerDescriptor;
use gantry_system::files;
use rustix::fs::FileType;

use super::LayerReceiver;
use super::error::ReceiveError;
use super::open_files::OpenFiles;
use super::partial::Partial;
use super::received::Received;
use super::tree::Tree;
use crate::Store;
use crate::toc::{EntryKind, Toc, TocEntry};

/// File systems give space in blocks of this size.
const BLOCK_LEN: u64 = 4096;

impl LayerReceiver {
    /// Begins to receive `layer`, or goes on where it stopped. Takes files that other layers of the store have, then
    /// checks that the rest fits on the disk. Of a layer that is here and in which
    /// [`Store::verify_layer`] found damage, what is damaged is missing.
    ///
    /// # Errors
    /// [`ReceiveError::AlreadyPresent`], [`ReceiveError::Busy`], [`ReceiveError::NoSpace`], a refused table of
    /// contents, or a failing file system.
    pub fn begin(
        store: &Store,
        layer: &LayerDescriptor,
        compressed_toc: &[u8],
    ) -> Result<Self, ReceiveError> {
        let digest = layer.digest;
        let toc = Toc::parse(compressed_toc, &layer.toc).map_err(|source| ReceiveError::Toc {
            layer: digest,
            source,
        })?;
        let lock = store.share()?;
        let partial = Partial::lock(store, digest)?;
        // Asked with the lock held: whoever had it may just have finished.
        let repair = store.has_layer(&digest);
        if repair && !(store.is_layer_damaged(&digest) && may_repair(store, layer)) {
            partial.discard()?;
            return Err(ReceiveError::AlreadyPresent { layer: digest });
        }
        let chunks = toc.chunks().len() as u32;
        let (known, marks) = partial.prepare(&layer.toc.digest, chunks)?;
        let tree_dir = if repair {
            store.layer_dir(&digest)
        } else {
            partial.tree_dir()
        };
        let tree = Tree::open(&tree_dir).map_err(ReceiveError::io(digest, "open", &tree_dir))?;
        let mut receiver = Self {
            store: store.clone(),
            layer: layer.clone(),
            toc,
            compressed_toc: compressed_toc.to_owned(),
            tree,
            received: Received::none(chunks),
            marks,
            files: OpenFiles::default(),
            reused: AtomicU64::new(0),
            written: AtomicU64::new(0),
            checkpoint: Mutex::new(()),
            root: rustix::process::geteuid().is_root(),
            unread: HashSet::new(),
            repaired: None,
            partial,
            _lock: lock,
        };
        if repair {
            receiver.repaired = Some(receiver.begin_repair()?);
            return Ok(receiver);
        }
        receiver.make_folders()?;
        receiver.unread = receiver.go_on(known.as_ref())?;
        receiver.renew_records(known.as_ref())?;
        receiver.take_from_other_layers(store);
        let root = store.root();
        let space = files::space(root).map_err(ReceiveError::io(digest, "look at", root))?;
        receiver.check_room(space.free)?;
        if receiver.counters().reused > 0 {
            receiver.checkpoint()?;
        }
        Ok(receiver)
    }

    fn make_folders(&self) -> Result<(), ReceiveError> {
        let make = |path: &str| {
            let failed = ReceiveError::io(self.layer.digest, "create", self.tree.display(path));
            self.tree.make_folder(path).map_err(failed)
        };
        make("")?;
        let folders = self
            .toc
            .by_path()
            .filter(|entry| matches!(entry.kind, EntryKind::Directory { .. }));
        folders
            .map(|folder| &folder.path)
            .filter(|path| !path.is_empty())
            .try_for_each(|path| make(path))
    }

    /// Marks the chunks that are in place. The record speaks of synced data, so nothing is read again; but a file must
    /// be there and be ours alone. Gives the files of which something is there.
    fn go_on(&self, known: Option<&Received>) -> Result<HashSet<u32>, ReceiveError> {
        let mut unread = HashSet::new();
        for (index, entry) in self.toc.entries().iter().enumerate() {
            let EntryKind::File { size, chunks, .. } = &entry.kind else {
                continue;
            };
            let zeros = |chunk: &u32| self.toc.chunks()[*chunk as usize].zeros;
            chunks
                .clone()
                .filter(zeros)
                .for_each(|chunk| self.count(chunk, false));
            let Some(known) = known else { continue };
            let failed =
                |error| ReceiveError::io(self.layer.digest, "look at", self.tree.display(&entry.path))(error);
            let Some(stat) = self.tree.stat(&entry.path).map_err(failed)? else {
                continue;
            };
            let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            let whole = chunks.clone().all(|chunk| zeros(&chunk) || known.has(chunk));
            // Several names: the file of another layer, linked before the record said so. Never write to that.
            if !file || (stat.st_nlink > 1 && !whole) {
                self.tree.unlink(&entry.path).map_err(failed)?;
                continue;
            }
            unread.insert(index as u32);
            if stat.st_size.cast_unsigned() == *size {
                chunks
                    .clone()
                    .filter(|chunk| known.has(*chunk))
                    .for_each(|chunk| self.count(chunk, false));
            }
        }
        Ok(unread)
    }

    /// Makes both records of what is in place true again, before any file is made anew: what was found gone is gone in
    /// them too, and what was only marked is synced.
    fn renew_records(&self, known: Option<&Received>) -> Result<(), ReceiveError> {
        let digest = self.layer.digest;
        let chunks = self.toc.chunks().len() as u32;
        if known.is_some() {
            rustix::fs::syncfs(self.tree.root()).map_err(ReceiveError::io(
                digest,
                "sync",
                self.tree.display(""),
            ))?;
            self.checkpoint()?;
        }
        let replaced = self.marks.replace(&self.received, chunks);
        replaced.map_err(ReceiveError::io(digest, "mark chunks of", self.tree.display("")))
    }

    /// Bytes that what is missing takes on the disk. Counted generously: a transfer that cannot end should not begin.
    #[must_use]
    pub fn needed(&self) -> u64 {
        let needed = |entry: &TocEntry| match &entry.kind {
            EntryKind::File { chunks, .. } => chunks
                .clone()
                .filter(|chunk| !self.received.has(*chunk))
                .map(|chunk| self.toc.chunks()[chunk as usize].len.next_multiple_of(BLOCK_LEN))
                .sum(),
            EntryKind::Directory { .. } => BLOCK_LEN,
            _ => 0,
        };
        self.toc.entries().iter().map(needed).sum()
    }

    /// Whether what is missing fits into `free` bytes.
    pub(super) fn check_room(&self, free: u64) -> Result<(), ReceiveError> {
        let needed = self.needed();
        if needed > free {
            let path = self.store.root().to_owned();
            return Err(ReceiveError::NoSpace {
                layer: self.layer.digest,
                needed,
                free,
                path,
            });
        }
        Ok(())
    }
}

/// Whether `layer` speaks of what is here under its digest. Hosts compare no blob with its digest, so an image might name another
/// one's layer with a table of contents of its own: nothing here is made to look like that.
fn may_repair(store: &Store, layer: &LayerDescriptor) -> bool {
    // A record that is damaged itself says nothing.
    let sound = store.layer_toc(&layer.digest).is_ok();
    let recorded = store.layer_descriptor(&layer.digest);
    !sound || recorded.is_ok_and(|recorded| recorded.toc.digest == layer.toc.digest)
}
